"""Train and evaluate one configuration, logged by Sacred.

    python experiments/run.py                                    # the demo: rendered scenes, small network, CPU
    python experiments/run.py with adjacency=none                # the PifPaf baseline on it
    python experiments/run.py with coco_local adjacency=dynamic  # photographs under $GRAPHPOSE_DATA
    python experiments/run.py print_config with coco             # all keys and their values, without running
    python experiments/run.py with resume=3                      # go on with runs/3 where its checkpoint is
    torchrun --nproc-per-node 2 experiments/run.py with coco     # on two GPUs (or CPUs, device=cpu)

Every run leaves a folder under runs/ with its configuration, figures per epoch (metrics.json), checkpoint.pt and the
one before it, best.pt, relations.npz (W_d after every epoch), evaluation.json (COCO's ten figures), results.json,
contact_sheet.png and loss_curve.png; the last line names it. SIGTERM and Ctrl-C write a checkpoint and end the run as
interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if not __package__:  # a script: packages are found beside its folder, and its folder is none to look in
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from sacred import SETTINGS, Experiment
from sacred.run import Run
from sacred.utils import SacredError

from experiments.configs.named import NAMED
from experiments.configs.settings import DEFAULTS, Settings, build_settings, fusion_of
from experiments.running import plots
from experiments.running.build import build_datasets, build_loaders, resolve_device
from experiments.running.epochs import due, keep_relations, print_epoch, record, take_over_relations, train_epoch
from experiments.running.launch import prepare
from experiments.running.records import (
    run_folder,
    send_artefacts,
    source_version,
    without_progress_bars,
)
from experiments.running.resume import CHECKPOINT, refuse_changes, stored_configuration
from graphpose.checkpoint import load_checkpoint, require_skeleton
from graphpose.data.cache import CachedDataset
from graphpose.data.dataset import PoseDataset
from graphpose.data.loader import PoseLoader, worker_failures_named
from graphpose.distributed import Ranks, connection_lost, ranks_of_this_run
from graphpose.errors import GraphposeError
from graphpose.fields.decode import Decoder
from graphpose.inference.evaluate import Evaluation, build_decoder, evaluate
from graphpose.metrics.protocol import headline_names
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork
from graphpose.training.checkpointer import Checkpointer
from graphpose.training.random_state import derived_seed
from graphpose.training.stop import Interrupted, StopRequest
from graphpose.training.trainer import Trainer

# "sys" lets tqdm see whether it writes to a terminal; its bars then do not fill the captured output
SETTINGS.CAPTURE_MODE = "sys"
# of every module and package, not only of those that this file imports itself
SETTINGS.DISCOVER_SOURCES, SETTINGS.DISCOVER_DEPENDENCIES = "sys", "pkg"

STOP = StopRequest()
ROOT = Path(__file__).resolve().parent.parent
experiment = Experiment("graphpose", base_dir=str(ROOT), save_git_info=False)  # the commit is in info.json
experiment.captured_out_filter = without_progress_bars
experiment.add_config(DEFAULTS | {"resume": ""})
for name, values in NAMED.items():
    experiment.add_named_config(name, values)


@experiment.config_hook
def refuse_wrong_configuration(config: dict[str, Any], command_name: str, logger: logging.Logger) -> dict[str, Any]:
    """Before a run folder is made: misspelt keys, wrong values and impossible combinations."""
    try:
        build_settings({key: value for key, value in config.items() if key != "resume"})
        if config["resume"]:
            refuse_changes(config, stored_configuration(Path(config["resume"])))
    except GraphposeError as error:
        raise SacredError(str(error), print_traceback=False, filter_traceback="always") from None
    return {}


@experiment.main
def main(_config: dict[str, Any], _run: Run, _seed: int) -> float | None:
    """Train, evaluate, write the artefacts; the result is the final AP."""
    folder = run_folder(_run)
    # all keys now: Sacred's heartbeat reads the dictionary from another thread, and only its values may change
    _run.info |= {
        "sources": source_version(ROOT),
        "checkpoint": str(folder / CHECKPOINT),
        "resumed_from": {},
        "history": [],
    }
    ranks: Ranks | None = None
    try:
        with ranks_of_this_run(_config["device"]) as ranks:
            folder = Path(ranks.broadcast(str(folder)))
            return train_and_evaluate(_config, _run, ranks.broadcast(_seed), ranks, folder)
    except (GraphposeError, OSError, RuntimeError) as error:
        message = str(error)
        if ranks is not None:
            message = ranks.failure_elsewhere() if connection_lost(error) else message
            ranks.report_failure(message)
        if isinstance(error, RuntimeError) and not connection_lost(error):
            raise
        if (folder / CHECKPOINT).exists():
            message += f"; go on from the last checkpoint with resume={folder}"
        raise SacredError(message, print_traceback=False, filter_traceback="always") from error
    finally:
        send_artefacts(_run, [*sorted(folder.glob("*.png")), folder / "evaluation.json", folder / CHECKPOINT])


def train_and_evaluate(_config: dict[str, Any], _run: Run, _seed: int, ranks: Ranks, folder: Path) -> float | None:
    """The work of a run; returns the AP (MPII: mAP) on rank 0."""
    started = time.perf_counter()
    config = {key: value for key, value in _config.items() if key != "resume"}
    train_set, val_set = build_datasets(config, _seed)
    settings = build_settings(config, train_set.skeleton)
    train_loader, val_loader = build_loaders(settings, train_set, val_set, _seed, ranks)
    content = load_checkpoint(Path(_config["resume"])) if _config["resume"] else None
    trainer = build_trainer(settings, train_loader, _run, _seed, ranks, content)
    if content is not None:
        resume(trainer, Path(_config["resume"]), content, train_set, _run)
        take_over_relations(trainer, Path(_config["resume"]).parent, folder)
    decoder = build_decoder(trainer.network.spec, settings.decoder)
    parameters = sum(p.numel() for p in trainer.network.parameters())
    print(f"{settings.network.backbone}, adjacency {settings.network.adjacency}, {parameters:,} parameters; "
          f"{len(train_set)} training and {len(val_set)} evaluation images", flush=True)  # fmt: skip
    evaluation: Evaluation | None = None
    with contextlib.closing(train_loader), contextlib.closing(val_loader):
        checkpointer = Checkpointer(trainer, folder / CHECKPOINT, settings.decoder, plain(config), STOP)
        checkpointer.save()  # a folder that cannot be written to is found now, not after hours
        keep_relations(trainer, folder)
        if isinstance(train_set, CachedDataset) and trainer.epoch < settings.train.epochs:
            fill(train_set, checkpointer, ranks)
        printed = trainer.epoch - due(trainer)
        while True:
            if due(trainer):
                evaluation = run_evaluation(trainer, decoder, settings, checkpointer.guard(val_loader), val_set)
                record(evaluation, trainer, checkpointer, folder, _run)
            if trainer.epoch > printed:
                print_epoch(trainer)
                printed = trainer.epoch
            if trainer.epoch >= settings.train.epochs:
                break
            train_epoch(trainer, checkpointer, _run)
            keep_relations(trainer, folder)
        if evaluation is None:  # resumed after its last epoch
            evaluation = run_evaluation(trainer, decoder, settings, val_loader, val_set)
    if not ranks.is_first:
        return None
    write_artefacts(folder, evaluation, trainer.history, val_set, settings.data["contact_sheet_images"])
    best = headline_names(evaluation.metrics)[0]
    print(f"{best} {evaluation.metrics[best]:.3f} on {len(val_set)} evaluation images after "
          f"{(time.perf_counter() - started) / 60:.1f} minutes; look at {folder / 'contact_sheet.png'}")  # fmt: skip
    return evaluation.metrics[best]


def fill(cache: CachedDataset, checkpointer: Checkpointer, ranks: Ranks) -> None:
    """Make all training samples before the epochs; as many processes as this one has threads make many of them."""
    started = time.perf_counter()
    with worker_failures_named():
        for _ in cache.filling(torch.get_num_threads(), progress=ranks.is_first):
            if checkpointer.stop.signal_number:
                break
    print(f"{cache.made} samples made in {time.perf_counter() - started:.1f} s", flush=True)
    checkpointer.after_step()  # where ranks stop together


def build_trainer(
    settings: Settings, loader: PoseLoader, run: Run, seed: int, ranks: Ranks, content: Mapping[str, Any] | None = None
) -> Trainer:
    """Network and trainer; the same weights on every rank, graphs and noise of its own.

    Args:
        settings, loader, run, seed, ranks: what they are built from.
        content: of the checkpoint whose weights come next; the pretrained ones, from which the run once began and which
            decided its backbone's variant, are not needed then.
    """
    torch.manual_seed(seed)
    if content is None:
        network = PoseNetwork(settings.network)
    else:
        variant = content["config"]["backbone_variant"]
        network = PoseNetwork(dataclasses.replace(settings.network, pretrained=False, backbone_variant=variant))
        network.config = dataclasses.replace(network.config, pretrained=settings.network.pretrained)
    network.to(resolve_device(settings.data["device"]))
    torch.manual_seed(derived_seed(seed, ranks.rank))
    network.seed_graphs(derived_seed(seed, ranks.rank))
    return Trainer(network, PoseLoss(settings.loss), loader, settings.train, run.log_scalar, ranks)


def resume(trainer: Trainer, checkpoint: Path, content: Mapping[str, Any], dataset: PoseDataset, run: Run) -> None:
    """Take up training from a checkpoint's content, and its figures into this run's record."""
    require_skeleton(content, dataset.skeleton, checkpoint)
    trainer.restore(content)
    run.info["resumed_from"] = {"checkpoint": str(checkpoint), "epoch": trainer.epoch, "step": trainer.step}
    for epoch, figures in enumerate(trainer.history, start=1):
        for name, value in figures.items():
            run.log_scalar(name if name.startswith("val.") else f"train.{name}", value, epoch)


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without Sacred's read-only containers, which a checkpoint does not take."""
    return json.loads(json.dumps(config))


def run_evaluation(trainer: Trainer, decoder: Decoder, settings: Any, batches: Any, dataset: PoseDataset) -> Evaluation:
    """Figures of the averaged network by the rules of its data set."""
    network = trainer.averaged
    trainer.ranks.broadcast_state(network)  # batch norms of the other ranks have seen other images
    with worker_failures_named():
        return evaluate(
            network,
            decoder,
            batches,
            dataset.ground_truth(),
            precision=settings.train.precision,
            max_detections=settings.data["max_detections"],
            ranks=trainer.ranks,
            fusion=fusion_of(settings.data),
            protocol="coco" if settings.data["data"] == "demo" else settings.data["data"],
            evaluator=settings.data["evaluator"],
        )


def write_artefacts(
    folder: Path, evaluation: Evaluation, history: list[dict[str, float]], dataset: PoseDataset, images: int
) -> None:
    """Evaluation figures, poses, contact sheet and loss curve."""
    (folder / "evaluation.json").write_text(json.dumps(evaluation.metrics, indent=1))
    (folder / "results.json").write_text(json.dumps(evaluation.results))
    plots.contact_sheet(folder / "contact_sheet.png", dataset, evaluation.results, images)
    if history:
        plots.loss_curve(folder / "loss_curve.png", history)


def command_line(arguments: list[str] | None = None) -> None:
    """Run from the command line; the exit status is 1 after a failure and 128 + signal after an interruption."""
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 — for as long as the process lasts
    try:
        with STOP:  # from before the first step until Sacred has recorded how the run ended
            experiment.run_commandline(prepare(experiment, list(sys.argv if arguments is None else arguments)))
    except GraphposeError as error:
        sys.exit(f"graphpose: {error}")
    except Interrupted as interrupted:
        print(f"graphpose: {interrupted}", file=sys.stderr)
        sys.exit(128 + interrupted.signal_number)


if __name__ == "__main__":
    command_line()
