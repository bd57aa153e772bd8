"""The paper's baseline rows from the weights that their authors published: evaluated, nothing is trained.

An evaluation is known by its weights, its annotations and what decides the poses, and has a folder of its own under the
tables' runs: ``poses.jsonl`` has a line for every image that is done, so that one that was interrupted goes on with the
next image, and ``evaluation.json`` the figures, so that no other table makes them again.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.configs.named import configured
from experiments.configs.settings import Settings, build_settings
from experiments.paper.rows import Row, Table
from experiments.paper.runs import LATER_KEYS, file_digest
from experiments.paper.trainings import locked
from experiments.running.build import loader_workers
from experiments.running.files import find_files
from graphpose.checkpoint import is_checkpoint, load_checkpoint, network_from_checkpoint
from graphpose.data.dataset import PoseDataset
from graphpose.data.loader import make_loader
from graphpose.data.open import open_dataset
from graphpose.data.transforms import EvalTransform
from graphpose.device import resolve_device
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import build_decoder
from graphpose.inference.batches import predict_batches
from graphpose.metrics.coco import coco_results
from graphpose.metrics.protocol import evaluate_results
from graphpose.nn.network import PoseNetwork
from graphpose.openpifpaf.convert import DECODERS, SCALE_FACTORS, import_checkpoint
from graphpose.openpifpaf.published import PUBLISHED, NotDownloadedError, find_file

NETWORKS = {  # backbone of a row → published network
    "resnet50": "pifpaf-resnet50",
    "resnet101": "pifpaf-resnet101",
    "resnet152": "pifpaf-resnet152",
    "resnext50_32x4d": "pifpaf-resnext50",
}
# What decides an evaluation's figures; where its files lie and what computes them does not.
EVALUATION_KEYS = (
    "long_edge", "enlarge", "test_flip", "test_scales", "test_merge", "max_detections", "evaluator", "precision",
)  # fmt: skip
LOCATION_KEYS = ("data_root", "val_annotations", "val_images", "device", "workers", "evaluation_batch_size")
MIB = "MiB"  # of float32 parameters, beside the metrics


def published_rows(table: Table) -> dict[Row, str]:
    """The rows of a table that are published networks, with their names."""
    return {
        row: NETWORKS[row.settings.get("backbone", "resnet50")]
        for row in table.rows
        if row.settings["adjacency"] == "none"
        and row.data == "coco"
        and row.settings.get("backbone", "resnet50") in NETWORKS
    }


def named_files(pairs: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """Files given as ``resnet50=FILE``, by the name of the published network in whose place they stand.

    Raises:
        GraphposeError: another form, a name that is none of ``names``, or no such file.
    """
    short = [name.removeprefix("pifpaf-") for name in names]
    files = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        name = name.removeprefix("pifpaf-")
        if not equals or name not in short:
            raise GraphposeError(f"--published {pair}: must be NAME=FILE with a name of {', '.join(short)}")
        if not Path(path).is_file():
            raise GraphposeError(f"--published {pair}: there is no file '{path}'")
        files[f"pifpaf-{name}"] = Path(path)
    return files


def evaluation_settings(named: str, extra: Mapping[str, Any]) -> Settings:
    """Settings of an evaluation.

    Raises:
        GraphposeError: settings that :func:`build_settings` refuses or that train, or data that are not COCO's.
    """
    for key in extra:
        if key not in (*EVALUATION_KEYS, *LOCATION_KEYS) and not key.startswith("decoder."):
            raise GraphposeError(
                f"--set {key}: nothing is trained with --published; it takes "
                f"{', '.join((*EVALUATION_KEYS, *LOCATION_KEYS))} and decoder.<name>"
            )
    settings = build_settings(configured(named, extra))
    if settings.data.data != "coco":
        raise GraphposeError(f"--data {named}: the published networks are of COCO; use coco or coco_local")
    return settings


def locate(names: Sequence[str], given: Mapping[str, Path], may_download: bool) -> tuple[dict[str, Path], str]:
    """The files of published networks.

    Args:
        names: of the networks.
        given: files in their place.
        may_download: whether those that are not there are downloaded.

    Returns:
        What was found by name, and one line that says what to download and where to put it; empty if all was found.

    Raises:
        GraphposeError: see :func:`~graphpose.openpifpaf.published.find_file`.
    """
    files, missing, reason = dict(given), [], ""
    for name in dict.fromkeys(names):
        if name in files:
            continue
        if (reason or not may_download) and not PUBLISHED[name].path.is_file():
            missing.append(name)
            continue
        try:
            files[name] = find_file(name)
        except NotDownloadedError as error:
            reason = f" ({error.__cause__ or error!s})"
            missing.append(name)
    if not missing:
        return files, ""
    networks = [PUBLISHED[name] for name in missing]
    example = missing[0].removeprefix("pifpaf-")
    return files, (
        f"not here{reason}: download {', '.join(network.address for network in networks)} and put "
        f"{'them' if len(networks) > 1 else 'it'} into '{networks[0].path.parent}', or name files, as --published "
        f"{example}=FILE"
    )


@dataclasses.dataclass(frozen=True)
class PublishedEvaluation:
    """The evaluation of one row.

    Attributes:
        row: of the table.
        name: of the published network.
        file: OpenPifPaf's, or a checkpoint made of it.
        settings: see :func:`evaluation_settings`.
        overrides: settings of the decoder in place of those of the weights.
        root: folder of the tables' runs.
    """

    row: Row
    name: str
    file: Path
    settings: Settings
    overrides: Mapping[str, Any]
    root: Path

    @property
    def source(self) -> str:
        """The published network's name, or that of another file with the begin of its digest."""
        digest = file_digest(str(self.file))
        return self.name if digest.startswith(PUBLISHED[self.name].checksum) else f"{self.file.name} ({digest[:8]})"

    @property
    def folder(self) -> Path:
        """Where its poses and figures are kept."""
        annotations, _ = find_files(self.settings.data, "val")
        values = {**vars(self.settings.data), **vars(self.settings.train)}
        known = [
            file_digest(str(self.file)),
            file_digest(str(annotations)),
            {key: values[key] for key in EVALUATION_KEYS if key not in LATER_KEYS or values[key] != LATER_KEYS[key]},
            dict(self.overrides),
            [DECODERS, SCALE_FACTORS],
        ]
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
        return self.root / f"published-{digest}"

    @property
    def figures(self) -> dict[str, float]:
        """Metrics and :data:`MIB`; empty where the evaluation has not come to its end."""
        path = self.folder / "evaluation.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def poses(self) -> dict[int, list[dict[str, Any]]]:
        """Poses in COCO-results format of the images that are done; a line that was cut short is none."""
        path = self.folder / "poses.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.is_file() else []
        return {int(image["image_id"]): image["poses"] for image in map(json.loads, lines)}

    def run(self) -> dict[str, float]:
        """Evaluate what is missing, keep it, and return the figures.

        Raises:
            GraphposeError: another process does it, the file is no such network, or images cannot be read.
        """
        with locked(self.folder):
            if figures := self.figures:
                return figures
            network, decoder = self.network()
            annotations, images = find_files(self.settings.data, "val")
            dataset = open_dataset(annotations, images, skeleton=network.spec.skeleton)
            done = self.poses()
            lines = "".join(_line(image_id, poses) for image_id, poses in done.items())
            _write(self.folder / "poses.jsonl", lines)  # without what was cut short
            ids = [image_id for image_id in dataset.image_ids if image_id not in done]
            if ids:
                left = open_dataset(annotations, images, skeleton=network.spec.skeleton, image_ids=ids)
                self._predict(network, decoder, left, already=len(done))
                done = self.poses()
            metrics = evaluate_results(
                dataset.ground_truth(),
                [pose for image_id in dataset.image_ids for pose in done[image_id]],
                network.spec.skeleton,
                protocol=self.settings.data.protocol,
                max_detections=self.settings.data.max_detections,
                evaluator=self.settings.data.evaluator,
            )
            metrics[MIB] = sum(p.numel() for p in network.parameters()) * 4 / 2**20
            _write(self.folder / "evaluation.json", json.dumps(metrics, indent=1))
            return metrics

    def network(self) -> tuple[PoseNetwork, DecoderConfig]:
        """The network of the file and what its poses are decoded with.

        Raises:
            GraphposeError: the file cannot be read, or its network is not the row's.
        """
        if is_checkpoint(self.file):
            content = load_checkpoint(self.file)
            network, decoder = network_from_checkpoint(content, self.file), content["decoder"]
        else:
            imported = import_checkpoint(self.file)
            network, decoder = imported.network, imported.decoder
        backbone = self.row.settings.get("backbone", "resnet50")
        if (network.config.backbone, network.config.adjacency) != (backbone, "none"):
            raise GraphposeError(
                f"'{self.file}' is a {network.config.backbone} with adjacency '{network.config.adjacency}', but the "
                f"row {self.row.name} is a {backbone} without graphs"
            )
        device = resolve_device(self.settings.data.device)
        return network.to(device).eval(), DecoderConfig.from_dict({**decoder, **self.overrides})

    def _predict(self, network: PoseNetwork, decoder: DecoderConfig, dataset: PoseDataset, already: int) -> None:
        """Poses of the images that are left, a line as soon as they are known."""
        data = self.settings.data
        workers = loader_workers(data.workers, next(network.parameters()).device)
        transform = EvalTransform(data.long_edge, enlarge=data.enlarge)
        loader = make_loader(dataset, transform, data.evaluation_batch_size, shuffle=False, workers=workers)
        progress = tqdm(loader, desc=self.row.name, disable=None, leave=False)
        errors: list[str] = []
        with open(self.folder / "poses.jsonl", "a") as file:
            for batch, poses in predict_batches(
                network, build_decoder(network.spec, decoder, network.pose_statistics), progress,
                precision=self.settings.train.precision, fusion=data.fusion,
            ):  # fmt: skip
                errors += batch.errors
                for image_id, one in zip(batch.image_ids, poses, strict=True):
                    file.write(_line(image_id, coco_results(image_id, one)))
                file.flush()
        if errors:
            raise GraphposeError(
                f"{len(errors)} of {len(dataset) + already} images cannot be read, the first: {errors[0]}; put them "
                "there and start again, the others are kept"
            )


def _line(image_id: int, poses: list[dict[str, Any]]) -> str:
    return json.dumps({"image_id": int(image_id), "poses": poses}) + "\n"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def state_of(evaluation: PublishedEvaluation | None) -> str:
    """Where the evaluation of a row stands; None for one whose weights are not here."""
    if evaluation is None:
        return "no weights"
    if evaluation.figures:
        return "done"
    count = len(evaluation.poses())
    return f"{count} images done" if count else "missing"


def published_markdown(
    table: Table, rows: Mapping[Row, PublishedEvaluation | None], data: str, command: str, comparable: bool
) -> str:
    """The table for docs/results.md: each figure beside the paper's.

    Args:
        table: the table.
        rows: its published rows with their evaluations; None where the weights are not here.
        data: named configuration.
        command: that makes the table.
        comparable: data and settings are the paper's.
    """
    metrics, first = table.metrics, table.metrics[0]
    head = ["row", "weights", *(f"{metric} (paper)" for metric in metrics), f"{first} − paper", "state"]
    out = [f"### {table.title} — published baselines, data: {data}", "", "| " + " | ".join(head) + " |"]
    out.append("|" + "---|" * len(head))
    for row, evaluation in rows.items():
        figures = evaluation.figures if evaluation else {}
        cells = [row.name, evaluation.source if evaluation else "–"]
        cells += [
            f"{_text(figures.get(metric), metric)} ({_text(row.paper.get(metric), metric)})" for metric in metrics
        ]
        cells.append(f"{figures[first] - row.paper[first]:+.3f}" if first in figures else "–")
        out.append("| " + " | ".join([*cells, state_of(evaluation)]) + " |")
    out += ["", f"`{command}`", ""]
    out.append(
        "Evaluated, not trained. A file other than the published one stands by its name and the begin of its hash."
    )
    if not comparable:
        out.append("The paper's figures are on COCO val2017 at 641 pixels; they stand here for orientation.")
    return "\n".join([*out, ""])


def published_csv(table: Table, rows: Mapping[Row, PublishedEvaluation | None]) -> str:
    """One CSV line per row and metric, numbers unrounded."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["row", "metric", "value", "paper", "weights", "state"])
    for row, evaluation in rows.items():
        figures, source = (evaluation.figures, evaluation.source) if evaluation else ({}, "")
        for metric in table.metrics:
            numbers = [figures.get(metric, ""), row.paper.get(metric, "")]
            writer.writerow([row.name, metric, *numbers, source, state_of(evaluation)])
    return stream.getvalue()


def _text(value: float | None, metric: str) -> str:
    if value is None or value < 0:  # nobody of that size
        return "–"
    return f"{value:.1f}" if metric == MIB else f"{value:.3f}"
