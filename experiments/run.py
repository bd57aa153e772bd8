"""Train and evaluate one configuration, logged by Sacred.

    python experiments/run.py                                    # the demo: rendered scenes, small network, CPU
    python experiments/run.py with adjacency=none                # the PifPaf baseline on it
    python experiments/run.py with coco_local adjacency=dynamic  # photographs under $GRAPHPOSE_DATA
    python experiments/run.py print_config with coco             # all keys and their values, without running

Every run leaves a folder under runs/ with its configuration, figures per epoch (metrics.json), checkpoint.pt,
evaluation.json (COCO's ten figures), results.json, contact_sheet.png and loss_curve.png; the last line names it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import plots
import torch
from configurations import (
    COCO_EIGHT,
    COCO_FULL,
    COCO_LOCAL,
    DEFAULTS,
    DEMO,
    build_datasets,
    build_loaders,
    build_settings,
    resolve_device,
)
from sacred import SETTINGS, Experiment
from sacred.observers import FileStorageObserver
from sacred.run import Run
from sacred.utils import SacredError, apply_backspaces_and_linefeeds

from graphpose.checkpoint import load_checkpoint, require_skeleton
from graphpose.data.dataset import PoseDataset
from graphpose.errors import GraphposeError
from graphpose.evaluate import Evaluation, build_decoder, evaluate, metrics_line
from graphpose.fields.decode import Decoder
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork
from graphpose.train import Trainer

# "sys" lets tqdm see whether it writes to a terminal; its bars then do not fill the captured output
SETTINGS.CAPTURE_MODE = "sys"

experiment = Experiment("graphpose", base_dir=str(Path(__file__).parent.parent), save_git_info=False)
experiment.captured_out_filter = apply_backspaces_and_linefeeds
experiment.add_config(DEFAULTS | {"resume": ""})
for name, values in (("demo", DEMO), ("coco", COCO_FULL), ("coco_local", COCO_LOCAL), ("coco_eight", COCO_EIGHT)):
    experiment.add_named_config(name, values)


@experiment.config_hook
def refuse_wrong_configuration(config: dict[str, Any], command_name: str, logger: logging.Logger) -> dict[str, Any]:
    """Before a run folder is made: misspelt keys, wrong values and impossible combinations."""
    try:
        build_settings({key: value for key, value in config.items() if key != "resume"})
    except GraphposeError as error:
        raise SacredError(str(error), print_traceback=False, filter_traceback="always") from None
    return {}


@experiment.main
def main(_config: dict[str, Any], _run: Run, _seed: int) -> float:
    """Train, evaluate, write the artefacts; the result is the final AP."""
    try:
        return train_and_evaluate(_config, _run, _seed)
    except GraphposeError as error:
        raise SacredError(str(error), print_traceback=False, filter_traceback="always") from error


def train_and_evaluate(_config: dict[str, Any], _run: Run, _seed: int) -> float:
    """The work of a run."""
    started = time.perf_counter()
    config = {key: value for key, value in _config.items() if key != "resume"}
    train_set, val_set = build_datasets(config, _seed)
    settings = build_settings(config, train_set.skeleton)
    folder = run_folder(_run)
    torch.manual_seed(_seed)
    network = PoseNetwork(settings.network).to(resolve_device(settings.data["device"]))
    network.seed_graphs(_seed)
    train_loader, val_loader = build_loaders(settings, train_set, val_set, _seed)
    trainer = Trainer(network, PoseLoss(settings.loss), train_loader, settings.train, _run.log_scalar)
    if _config["resume"]:
        content = load_checkpoint(Path(_config["resume"]))
        require_skeleton(content, train_set.skeleton, Path(_config["resume"]))
        trainer.restore(content)
    decoder = build_decoder(network.spec, settings.decoder)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{settings.network.backbone}, adjacency {settings.network.adjacency}, {parameters:,} parameters; "
          f"{len(train_set)} training and {len(val_set)} evaluation images", flush=True)  # fmt: skip
    history: list[dict[str, float]] = []
    evaluation: Evaluation | None = None
    while trainer.epoch < settings.train.epochs:
        epoch_started = time.perf_counter()
        figures = trainer.train_epoch()
        line = (
            f"epoch {trainer.epoch}/{settings.train.epochs}  loss {figures['loss.total']:.3f}  "
            f"{figures['images_per_second']:.1f} images/s  waiting {100 * figures['waiting_share']:.0f} %  "
            f"{time.perf_counter() - epoch_started:.0f} s"
        )
        if trainer.epoch % settings.train.evaluate_every == 0 or trainer.epoch == settings.train.epochs:
            evaluation = run_evaluation(trainer, decoder, settings, val_loader, val_set)
            for name, value in evaluation.metrics.items():
                _run.log_scalar(f"val.{name}", value, trainer.epoch)
            figures |= {f"val.{name}": value for name, value in evaluation.metrics.items()}
            line += f"  |  {metrics_line(evaluation.metrics)}"
        print(line, flush=True)
        history.append(figures)
        trainer.save(folder / "checkpoint.pt", settings.decoder)
    if evaluation is None:
        evaluation = run_evaluation(trainer, decoder, settings, val_loader, val_set)
    write_artefacts(_run, folder, evaluation, history, val_set, settings.data["contact_sheet_images"])
    print(f"AP {evaluation.metrics['AP']:.3f} on {len(val_set)} evaluation images after "
          f"{(time.perf_counter() - started) / 60:.1f} minutes; look at {folder / 'contact_sheet.png'}")  # fmt: skip
    return evaluation.metrics["AP"]


def run_evaluation(trainer: Trainer, decoder: Decoder, settings: Any, loader: Any, dataset: PoseDataset) -> Evaluation:
    """COCO figures of the averaged network."""
    network = trainer.averaged
    return evaluate(
        network,
        decoder,
        loader,
        dataset.ground_truth(),
        precision=settings.train.precision,
        max_detections=settings.data["max_detections"],
    )


def run_folder(run: Run) -> Path:
    """The folder of the run's FileStorageObserver, or runs/unobserved."""
    for observer in run.observers:
        if isinstance(observer, FileStorageObserver):
            return Path(observer.dir)
    folder = Path("runs/unobserved")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_artefacts(
    run: Run, folder: Path, evaluation: Evaluation, history: list[dict[str, float]], dataset: PoseDataset, images: int
) -> None:
    """Evaluation figures, poses, contact sheet and loss curve, into the folder and to the observers."""
    (folder / "evaluation.json").write_text(json.dumps(evaluation.metrics, indent=1))
    (folder / "results.json").write_text(json.dumps(evaluation.results))
    plots.contact_sheet(folder / "contact_sheet.png", dataset, evaluation.results, images)
    if history:
        plots.loss_curve(folder / "loss_curve.png", history)
    for observer in run.observers:
        if not isinstance(observer, FileStorageObserver):  # that one's folder is where the files already are
            for path in [*sorted(folder.glob("*.png")), folder / "evaluation.json", folder / "checkpoint.pt"]:
                observer.artifact_event(path.name, str(path))


def command_line(arguments: list[str] | None = None) -> None:
    """Run from the command line, with runs/ as the record unless another observer is asked for."""
    arguments = list(sys.argv if arguments is None else arguments)
    flags = arguments[1 : arguments.index("with")] if "with" in arguments else arguments[1:]
    if not any(flag.startswith(("-F", "--file_storage", "-u", "--unobserved")) for flag in flags):
        experiment.observers.append(FileStorageObserver("runs"))
    experiment.run_commandline(arguments)


if __name__ == "__main__":
    command_line()
