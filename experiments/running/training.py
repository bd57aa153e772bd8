"""What a run does: train, evaluate, write the artefacts. Everything heavy is imported from here on."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sacred.run import Run
from sacred.utils import SacredError

from experiments.configs.settings import Settings, build_settings
from experiments.running import plots
from experiments.running.build import (
    build_datasets,
    build_loaders,
    build_network,
    pretrained_network,
    run_modes,
    run_statistics,
    without_unknown_mirror_images,
)
from experiments.running.epochs import (
    append_relations,
    copy_relations,
    log_evaluation,
    print_epoch,
    train_epoch,
)
from experiments.running.features import with_features
from experiments.running.records import run_folder, send_artefacts, source_version
from experiments.running.resume import CHECKPOINT
from graphpose.checkpoint import card_of_successor, load_checkpoint, require_skeleton
from graphpose.data.annotations.table import complete_category
from graphpose.data.batch import Batch
from graphpose.data.cache import CachedDataset
from graphpose.data.dataset import PoseDataset
from graphpose.data.loader import PoseLoader
from graphpose.data.mix import MixedDataset
from graphpose.device import describe_device, resolve_device
from graphpose.distributed import Ranks, connection_lost, ranks_of_this_run
from graphpose.errors import GraphposeError
from graphpose.fields.decode import Decoder, build_decoder
from graphpose.graphs.statistics import PoseStatistics
from graphpose.inference.evaluate import Evaluation, evaluate
from graphpose.metrics.protocol import headline_names
from graphpose.metrics.results import category_of
from graphpose.nn.losses import PoseLoss
from graphpose.training.backends import backends
from graphpose.training.checkpointer import Checkpointer
from graphpose.training.random_state import derived_seed
from graphpose.training.stop import StopRequest
from graphpose.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
STATISTICS = "statistics.json"  # in a run's folder: what travels with its network, where that is not shipped


def run_training(config: Mapping[str, Any], run: Run, seed: int, stop: StopRequest) -> float | None:
    """Train and evaluate one configuration on every rank, recorded by Sacred.

    Args:
        config: of the run, with ``resume``.
        run: Sacred's record.
        seed: drawn by Sacred on rank 0.
        stop: asks for a checkpoint and the end of the run.

    Returns:
        The final AP (MPII: mAP) on rank 0.

    Raises:
        SacredError: what failed, in one line.
    """
    folder = run_folder(run)
    # all keys now: Sacred's heartbeat reads the dictionary from another thread, and only its values may change
    run.info |= {
        "sources": source_version(ROOT),
        "checkpoint": str(folder / CHECKPOINT),
        "resumed_from": {},
        "history": [],
    }
    ranks: Ranks | None = None
    try:
        with ranks_of_this_run(config["device"]) as ranks:
            folder = Path(ranks.broadcast(str(folder)))
            return train_and_evaluate(config, run, ranks.broadcast(seed), ranks, folder, stop)
    except (GraphposeError, OSError, RuntimeError) as error:
        message = str(error)
        if ranks is not None and connection_lost(error):
            message = ranks.failure_elsewhere()
            ranks.report_failure(message)
        if isinstance(error, RuntimeError) and not connection_lost(error):
            raise
        if (folder / CHECKPOINT).exists():
            message += f"; go on from the last checkpoint with resume={folder}"
        raise SacredError(message, print_traceback=False, filter_traceback="always") from error
    finally:
        send_artefacts(run, [*sorted(folder.glob("*.png")), folder / "evaluation.json", folder / CHECKPOINT])


def train_and_evaluate(
    config: Mapping[str, Any], run: Run, seed: int, ranks: Ranks, folder: Path, stop: StopRequest
) -> float | None:
    """The work of a run; returns the AP (MPII: mAP) on rank 0."""
    started = time.perf_counter()
    checkpoint = Path(config["resume"]) if config["resume"] else None
    config = builtin_containers({key: value for key, value in config.items() if key != "resume"})
    device = resolve_device(config["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device)  # streams and events are made where one is
    print(f"{describe_device(device)}{f', {ranks.world_size} ranks' if ranks.is_distributed else ''}", flush=True)
    settings = build_settings(config)
    train_set, val_set = build_datasets(settings.data, seed, settings.skeleton)
    settings = without_unknown_mirror_images(build_settings(config, train_set.skeleton))
    images = train_set
    if settings.network.given_features:
        train_set, val_set = with_features(settings, train_set, val_set)
    train_loader, val_loader = build_loaders(settings, train_set, val_set, seed, ranks)
    content = load_checkpoint(checkpoint) if checkpoint else None
    path = None if checkpoint else pretrained_network(settings.network)
    pretrained = load_checkpoint(path) if path else None
    statistics = None if checkpoint else run_statistics(settings.network, images)
    modes = () if checkpoint else run_modes(settings.network, images, pretrained)
    trainer = build_trainer(settings, train_loader, run, seed, ranks, content, pretrained, statistics, modes)
    card = card_of_successor(pretrained, path) if pretrained and path else (content or {}).get("card")
    if settings.data.divided and ranks.is_first:
        write_parts(folder, train_set, val_set)
    if checkpoint and content is not None:
        resume(trainer, checkpoint, content, train_set, run)
        copy_relations(trainer, checkpoint.parent, folder)
    del content, pretrained  # as much memory as the network and its optimiser
    statistics = trainer.network.pose_statistics
    if statistics is not None and ranks.is_first:
        statistics.save(folder / STATISTICS)
    decoder = build_decoder(trainer.network.spec, settings.decoder, statistics)
    parameters = sum(p.numel() for p in trainer.network.parameters())
    print("\n".join(train_set.skeleton.lines()), flush=True)
    print(f"{settings.network.backbone}, adjacency {settings.network.adjacency}, {parameters:,} parameters; "
          f"{len(train_set)} training and {len(val_set)} evaluation images", flush=True)  # fmt: skip
    mix = images.dataset if isinstance(images, CachedDataset) else images
    if isinstance(mix, MixedDataset):
        print("\n".join(mix.lines()), flush=True)
    evaluation: Evaluation | None = None
    with contextlib.closing(train_loader), contextlib.closing(val_loader):
        checkpointer = Checkpointer(trainer, folder / CHECKPOINT, settings.decoder.to_dict(), config, stop, card)
        checkpointer.save()  # a folder that cannot be written to is found now, not after hours
        append_relations(trainer, folder)
        if isinstance(train_set, CachedDataset) and not trainer.finished:
            make_samples(train_set, checkpointer, ranks)
        printed = trainer.epoch - trainer.evaluation_due
        while True:
            if trainer.evaluation_due:
                evaluation = run_evaluation(trainer, decoder, settings, checkpointer.guard(val_loader), val_set)
                log_evaluation(evaluation, trainer, checkpointer, folder)
            if trainer.epoch > printed:
                print_epoch(trainer)
                printed = trainer.epoch
            if trainer.finished:
                break
            train_epoch(trainer, checkpointer, run)
            append_relations(trainer, folder)
        if evaluation is None:  # resumed after its last epoch
            evaluation = run_evaluation(trainer, decoder, settings, val_loader, val_set)
    if not ranks.is_first:
        return None
    write_artefacts(folder, evaluation, trainer.history, val_set, settings.data.contact_sheet_images)
    best = headline_names(evaluation.metrics)[0]
    print(f"{best} {evaluation.metrics[best]:.3f} on {len(val_set)} evaluation images after "
          f"{(time.perf_counter() - started) / 60:.1f} minutes; look at {folder / 'contact_sheet.png'}")  # fmt: skip
    return evaluation.metrics[best]


def write_parts(folder: Path, train_set: PoseDataset, val_set: PoseDataset) -> None:
    """Both parts of a file that was divided, as annotation files: for ``graphpose evaluate`` and ``tune``."""
    for name, dataset in (("train", train_set), ("val", val_set)):
        truth = dataset.ground_truth()
        truth["categories"] = [complete_category(dataset.skeleton, category_of(truth))]
        (folder / f"{name}_annotations.json").write_text(json.dumps(truth))


def make_samples(cache: CachedDataset, checkpointer: Checkpointer, ranks: Ranks) -> None:
    """Make all training samples before the epochs; as many processes as this one has threads make many of them."""
    started = time.perf_counter()
    for _ in cache.fill(torch.get_num_threads(), progress=ranks.is_first):
        if checkpointer.stop.signal_number:
            break
    print(f"{cache.num_cached} samples made in {time.perf_counter() - started:.1f} s", flush=True)
    checkpointer.after_step()  # where ranks stop together


def build_trainer(
    settings: Settings,
    loader: PoseLoader,
    run: Run,
    seed: int,
    ranks: Ranks,
    resumed: Mapping[str, Any] | None = None,
    pretrained: Mapping[str, Any] | None = None,
    statistics: PoseStatistics | None = None,
    modes: Sequence[PoseStatistics] = (),
) -> Trainer:
    """Network and trainer; the same weights on every rank, graphs and noise of its own.

    Args:
        settings, loader, run, seed, ranks: what they are built from.
        resumed, pretrained, statistics, modes: see :func:`~experiments.running.build.build_network`.
    """
    torch.manual_seed(seed)
    network = build_network(settings.network, resumed, pretrained, statistics, modes)
    network.to(resolve_device(settings.data.device))
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


def builtin_containers(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without Sacred's read-only containers, which a checkpoint does not take."""
    return json.loads(json.dumps(config))


def run_evaluation(
    trainer: Trainer, decoder: Decoder, settings: Settings, batches: Iterable[Batch], dataset: PoseDataset
) -> Evaluation:
    """Figures of the averaged network by the rules of its data set."""
    network = trainer.averaged
    trainer.ranks.broadcast_state(network)  # batch norms of the other ranks have seen other images
    with backends(settings.train, trainer.device, training=False):
        return evaluate(
            network,
            decoder,
            batches,
            dataset.ground_truth(),
            precision=settings.train.precision,
            max_detections=settings.data.max_detections,
            ranks=trainer.ranks,
            fusion=settings.data.fusion,
            protocol=settings.data.protocol,
            evaluator=settings.data.evaluator,
        )


def write_artefacts(
    folder: Path, evaluation: Evaluation, history: list[dict[str, float]], dataset: PoseDataset, images: int
) -> None:
    """Evaluation figures and poses; then contact sheet and loss curve, without which the run is complete, too."""
    (folder / "evaluation.json").write_text(json.dumps(evaluation.metrics, indent=1))
    (folder / "results.json").write_text(json.dumps(evaluation.results))
    with pictures_may_fail("contact sheet"):
        plots.contact_sheet(folder / "contact_sheet.png", dataset, evaluation.results, images)
    if history:
        with pictures_may_fail("loss curve"):
            plots.loss_curve(folder / "loss_curve.png", history)


@contextlib.contextmanager
def pictures_may_fail(name: str) -> Iterator[None]:
    """Whatever goes wrong with a picture is a line, and not the end of a run whose work is done."""
    try:
        yield
    except Exception as error:
        print(f"no {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
