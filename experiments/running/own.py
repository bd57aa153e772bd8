"""Settings of ``run.py with own`` that follow from the data: chosen once, before the run is made.

What is chosen stands in the run's configuration like everything else, so that a run that is resumed does not choose
anew. What imports torch is imported late: a wrong file is to be refused at once.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.configs import own
from experiments.configs.data import DataConfig
from experiments.configs.named import DEFAULTS
from experiments.configs.settings import build_settings, flatten
from experiments.running.files import find_files
from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.table import Annotations, Images
from graphpose.data.coco import select_images
from graphpose.data.image import read_image
from graphpose.data.plausibility import implausible
from graphpose.data.split import split_images
from graphpose.errors import GraphposeError
from graphpose.graphs.statistics import PoseStatistics, has_shipped_statistics, pose_statistics
from graphpose.nn.config import PoseNetworkConfig
from graphpose.skeleton import Skeleton

# Pixels in training: a person has some cells of the features at stride 16, a limb some of the fields at stride 4.
PERSON_SIDE = 96
LIMB_LENGTH = 12
# Long edge of the images, pixels: what a device may be asked for.
SIZES = {"cpu": (129, 385), "cuda": (193, 641)}
BATCH = {"cpu": 8, "cuda": 16}
# How many images a training looks at: about what a device does in half an hour.
VIEWS = {"cpu": 8_000, "cuda": 100_000}
EPOCHS = (8, 300)
EVALUATIONS = 5
WARM_UP_STEPS = 50
MOST_CACHED = 1e9  # bytes of decoded images
MAX_DETECTIONS = 20  # COCO's

# What a network has to have in common with the one whose weights it begins with. Not the stride of the fields:
# heads learn anew in a few epochs, and fields of stride 8 are too coarse for the limbs of hands and faces.
STRUCTURE = (
    "backbone", "backbone_variant", "stem_pool", "dilate", "strides", "norm_eps", "scale_activation", "scale_factor",
    "spread_activation", "node_width",
)  # fmt: skip
# and, where its skeleton is the same, so that its graphs are taken whole
GRAPH_STRUCTURE = ("adjacency", "graph_layers", "graph_layer", "non_local")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What settings are chosen by.

    Attributes:
        skeleton: as it is used.
        images: to train on, all with a labelled person.
        long_edge: of the images, pixels: the median.
        person_side: longer side of the box around a person's labels / long edge: a quarter are smaller.
        limb_length: median over a person's limbs / long edge: a quarter of the persons have shorter ones; 0 where
            nobody has both ends of one.
        most_persons: in one image, of the evaluation set, too.
        statistics: of the training set; None where those that are shipped for the skeleton are used.
        device: "cpu" or "cuda".
    """

    skeleton: Skeleton
    images: int
    long_edge: int
    person_side: float
    limb_length: float
    most_persons: int
    statistics: PoseStatistics | None
    device: str


@dataclasses.dataclass(frozen=True)
class Choice:
    """Settings that follow from the data, by keys such as "augment.flip", and in words why."""

    settings: Mapping[str, Any]
    reason: str

    def line(self, explicit: Mapping[str, Any]) -> str | None:
        """For people; None where the command line sets all of it."""
        shown = [f"{key}={value}" for key, value in self.settings.items() if key not in explicit]
        return f"  {' '.join(shown)}: {self.reason}" if shown else None


def own_configuration(explicit: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The configuration of ``run.py with own``, with what follows from the data.

    Args:
        explicit: what the command line sets; the keys of a group in a dictionary of theirs.

    Returns:
        Values that stand for those of :mod:`experiments.configs.own`, and lines for people: what was found in the data,
        what was chosen and why.

    Raises:
        GraphposeError: a setting that is refused, a file that is not there or cannot be read, images that are not in
            their folder, nobody to train on or to evaluate on.
    """
    flat = {key: value for key, value in flatten(explicit) if key not in ("seed", "resume")}
    values = changed(DEFAULTS | own.CONFIG, flat)
    settings = build_settings(values)
    if not settings.data.annotations:
        raise GraphposeError(
            "own needs your data: run.py with own annotations=FILE images=FOLDER; `graphpose check FILE --images "
            "FOLDER` says beforehand what is in them"
        )
    train, val, lines = read_own(settings.data, settings.skeleton.flip_pairs)
    lines += train.skeleton.lines()
    facts = facts_of(train, val, find_files(settings.data, "train")[1], device_kind(settings.data.device))
    choices = [choose_trunk(values, flat, facts)]
    values = changed(values, _left_open(choices[0], flat))
    for choose in (choose_graph, choose_size, choose_length, choose_loading, choose_mirrors, choose_evaluation):
        for choice in choose(facts, values, flat):
            values = changed(values, _left_open(choice, flat))
            choices.append(choice)
    build_settings(values, facts.skeleton)
    found = [choice.line(flat) for choice in choices]
    return values, [*lines, "settings that follow from the data:", *(line for line in found if line is not None)]


def _left_open(choice: Choice, explicit: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in choice.settings.items() if key not in explicit}


def changed(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with some values changed; those of a group by keys such as "augment.flip"."""
    values = copy.deepcopy(dict(config))
    for key, value in settings.items():
        group, dot, member = key.rpartition(".")
        if dot and isinstance(values.get(group), dict):
            values[group][member] = value
        else:
            values[key] = value
    return values


def read_own(
    data: DataConfig, flip_pairs: Sequence[Sequence[str | int]] | None = None
) -> tuple[Annotations, Annotations, list[str]]:
    """Annotations to train on, annotations to evaluate on, and in words how they are divided and what is doubtful."""
    (file, folder), (val_file, val_folder) = find_files(data, "train"), find_files(data, "val")
    table = read_annotations(file, category=data.category)
    if flip_pairs is not None:
        table = dataclasses.replace(table, skeleton=table.skeleton.with_flip_pairs(flip_pairs, "skeleton.flip_pairs"))
    if data.divided:
        train_ids, val_ids = split_images(table, data.val_share)
        train, val = select_images(table, train_ids, require_persons=True), select_images(table, val_ids)
        use = f"{len(val.images)} of them, chosen by their names, are evaluated on (val_share={data.val_share:g})"
    else:
        train, val = select_images(table, require_persons=True), read_annotations(val_file, table.skeleton)
        use = f"{len(val.images)} images of {val_file} are evaluated on"
    lines = [f"{file}: {len(table.images):,} images with {int(table.labelled.sum()):,} labelled persons; {use}"]
    shared = set(train.images.file_names) & set(val.images.file_names)
    if shared and folder == val_folder:
        lines.append(f"  warning: {len(shared)} images are trained on and evaluated on, {min(shared)} is one")
    for part, place, use_of_part in ((train, folder, "trained on"), (val, val_folder, "evaluated on")):
        lines += _missing_images(part.images, place, use_of_part)
    doubts = {doubt.kind: doubt.message for doubt in implausible(table, table.images.sizes)}
    lines += [f"  warning: {message}" for message in doubts.values()]
    if doubts:
        lines.append(f"  `graphpose check {file} --images {folder}` has all of them")
    return train, val, lines


def _missing_images(images: Images, folder: Path, use: str) -> list[str]:
    """A warning where some image files, which are ``use``, are not in their folder; GraphposeError where none is."""
    missing = [name for name in images.file_names if not (folder / name).is_file()]
    if len(missing) == len(images):
        raise GraphposeError(
            f"images: '{folder / missing[0]}' does not exist, nor does any other of the {len(missing)} images that "
            f"are {use}; name the folder from which the annotation file's names start"
        )
    if not missing:
        return []
    return [
        f"  warning: {len(missing)} of {len(images)} images {use} are not in {folder} and left out, {missing[0]} is one"
    ]


def device_kind(name: str) -> str:
    """ "cpu" or "cuda"; GraphposeError where there is no such device."""
    from graphpose.device import resolve_device

    return "cuda" if resolve_device(name).type == "cuda" else "cpu"


def facts_of(train: Annotations, val: Annotations, folder: Path, device: str) -> Facts:
    """What settings are chosen by.

    Args:
        train: to train on, all images with a labelled person.
        val: to evaluate on.
        folder: of the images to train on, for those of whose size the file says nothing.
        device: "cpu" or "cuda".
    """
    persons = train.select(train.labelled)
    edges = _long_edges(train.images, folder)
    of_person = edges[persons.image_index]  # (N,)
    labelled = persons.keypoints[:, :, 2] > 0  # (N, K)
    xy = persons.keypoints[:, :, :2]
    low = np.where(labelled[:, :, None], xy, np.inf).min(axis=1)  # (N, 2)
    high = np.where(labelled[:, :, None], xy, -np.inf).max(axis=1)
    side = np.maximum((high - low).max(axis=1), np.sqrt(persons.area)) / of_person
    a, b = np.array(train.skeleton.limbs).T
    length = np.where(labelled[:, a] & labelled[:, b], np.linalg.norm(xy[:, a] - xy[:, b], axis=2), np.nan)  # (N, M)
    known = np.isfinite(length).any(axis=1)
    limbs = np.nanmedian(length[known], axis=1) / of_person[known] if known.any() else np.zeros(1)
    return Facts(
        skeleton=train.skeleton,
        images=len(train.images),
        long_edge=int(np.median(edges)),
        person_side=float(np.quantile(side, 0.25)),
        limb_length=float(np.quantile(limbs, 0.25)),
        most_persons=max(int(np.bincount(one.image_index[one.labelled]).max(initial=0)) for one in (train, val)),
        statistics=None if has_shipped_statistics(train.skeleton) else pose_statistics(train).result({}),
        device=device,
    )


def _long_edges(images: Images, folder: Path) -> np.ndarray:
    """(I,) pixels; where the file does not say, the median of some that are looked at."""
    edges = images.sizes.max(axis=1).astype(np.float64)
    unknown = np.flatnonzero(edges == 0)
    if len(unknown):
        found = []
        for index in unknown[:: max(1, len(unknown) // 20)].tolist():
            with contextlib.suppress(GraphposeError):
                found.append(max(read_image(folder / images.file_names[index]).shape[:2]))
        if not found:
            raise GraphposeError(
                f"images: none of those that were tried can be read, {folder / images.file_names[unknown[0]]} is one"
            )
        edges[unknown] = np.median(found)
    return edges


def choose_trunk(values: Mapping[str, Any], explicit: Mapping[str, Any], facts: Facts) -> Choice:
    """Where the network begins, and what it has to have in common with the network that it begins from."""
    from graphpose.checkpoint import load_checkpoint, named_network

    pretrained = values["pretrained"]
    path = named_network(pretrained) if isinstance(pretrained, str) else None
    if path is None and "pretrained" in explicit:
        if pretrained:
            return Choice(own.PRETRAINED, "what suits a trunk that is trained already")
        return Choice(own.FROM_SCRATCH, "a small trunk that learns fast, since it begins from nothing")
    fresh = Choice({"pretrained": False} | own.FROM_SCRATCH, "")
    if path is None:
        return dataclasses.replace(fresh, reason="this installation ships no network to begin from; a small trunk "
                                   "learns fast")  # fmt: skip
    network = PoseNetworkConfig.from_dict(load_checkpoint(path)["config"])
    own_graphs = network.adjacency == "none"
    keys = [key for key in STRUCTURE if not (own_graphs and key == "node_width")]
    if not own_graphs and network.skeleton.same_channels(facts.skeleton):
        keys += GRAPH_STRUCTURE
    theirs = {key: value for key, value in network.to_dict().items() if key in keys}
    other = next((key for key, value in theirs.items() if explicit.get(key, value) != value), None)
    if other is not None and "pretrained" not in explicit:
        return dataclasses.replace(fresh, reason=f"{other}={explicit[other]} is not that of the network that is "
                                   "shipped, so the network begins from nothing")  # fmt: skip
    usual = {key: value for key, value in theirs.items() if value != values[key]}
    name = "pretrained" if "pretrained" in explicit else f"pretrained={pretrained}"
    return Choice({"backbone": theirs["backbone"]} | usual, f"those of {name}, with whose weights it begins")


def choose_graph(facts: Facts, values: Mapping[str, Any], explicit: Mapping[str, Any]) -> list[Choice]:
    """Another graph where Eq. 6 is not defined, and no joining where there is nothing to join by."""
    statistics = facts.statistics
    if values["statistics"] is not None or statistics is None:
        joinable = facts.skeleton.scale_rule != "bbox_diagonal"
        reason = "persons are measured by the diagonals of their boxes, which fields do not carry"
        return [] if joinable else [Choice({"decoder.join_fragments": False}, reason)]
    undefined = statistics.undefined_pairs()
    if values["adjacency"] not in ("soft", "dynamic") or not undefined:
        return []
    i, j = undefined[0]
    return [
        Choice(
            {"adjacency": "hand_crafted"},
            f"{facts.skeleton.keypoints[i]} and {facts.skeleton.keypoints[j]} are never labelled together or always at "
            f"one place ({len(undefined)} such pairs), and Eq. 6 is not defined",
        )
    ]


def choose_size(facts: Facts, values: Mapping[str, Any], explicit: Mapping[str, Any]) -> list[Choice]:
    """Pixels of the long edge, in training and in evaluation."""
    low, high = SIZES[facts.device]
    wanted = max(PERSON_SIDE / facts.person_side, LIMB_LENGTH / facts.limb_length if facts.limb_length else 0)
    most = min(high, max(facts.long_edge, low))
    edge = int(min(max(math.ceil((min(wanted, most) - 1) / 16) * 16 + 1, low), high))
    set_by_hand = next((explicit[key] for key in ("image_size", "long_edge") if key in explicit), None)
    edge = edge if set_by_hand is None else set_by_hand
    if set_by_hand is None and wanted > most:
        limit = f"{facts.long_edge} px have the images" if most < high else f"{high} px are the most for {facts.device}"
        limit = f"; {wanted:.0f} px would be better, but {limit}"
    else:
        limit = ""
    reason = (
        f"three of four persons are then at least {facts.person_side * edge:.0f} px long, with limbs of "
        f"{facts.limb_length * edge:.0f} px in the middle{limit}"
    )
    return [Choice({"image_size": edge, "long_edge": edge, "augment.long_edge": edge}, reason)]


def choose_length(facts: Facts, values: Mapping[str, Any], explicit: Mapping[str, Any]) -> list[Choice]:
    """Batches and epochs."""
    batch = explicit.get("batch_size", min(BATCH[facts.device], facts.images))
    views = VIEWS[facts.device]
    epochs = explicit.get("epochs", min(max(math.ceil(views / facts.images), EPOCHS[0]), EPOCHS[1]))
    steps = max(1, facts.images // batch) if facts.images > batch else 1
    warm_up = round(min(WARM_UP_STEPS / steps, epochs / 10), 2)
    decay = round(min(max(1 - 10 / (epochs * steps), 0.9), 0.999), 3)
    seen = f"{facts.images:,} images to train on are seen {epochs * facts.images:,} times"
    return [
        Choice({"batch_size": batch}, f"what suits a {facts.device.upper()}"),
        Choice(
            {"epochs": epochs, "evaluate_every": max(1, math.ceil(epochs / EVALUATIONS)), "warmup_epochs": warm_up}
            | {"ema_decay": decay},
            f"{seen}, in {epochs * steps:,} steps",
        ),
    ]


def choose_loading(facts: Facts, values: Mapping[str, Any], explicit: Mapping[str, Any]) -> list[Choice]:
    """Whether images stay in memory."""
    size = facts.images * facts.long_edge**2 * 3 * 0.75  # of photographs 4 : 3
    if size > MOST_CACHED:
        return []
    settings = {"cache": True} | ({"workers": 0} if facts.device == "cpu" else {})
    return [Choice(settings, f"the images to train on take about {max(1, round(size / 1e6)):,} MB of memory")]


def choose_mirrors(facts: Facts, values: Mapping[str, Any], explicit: Mapping[str, Any]) -> list[Choice]:
    """No mirror images where it is not known what they show."""
    if facts.skeleton.mirrors:
        return []
    reason = "no flip pairs are stated or found in the names; skeleton.flip_pairs=[] says that there are none"
    return [Choice({"augment.flip": 0.0, "test_flip": False}, reason)]


def choose_evaluation(facts: Facts, values: Mapping[str, Any], explicit: Mapping[str, Any]) -> list[Choice]:
    """Enough poses where images have more persons than COCO's."""
    if facts.most_persons <= MAX_DETECTIONS:
        return []
    return [Choice({"max_detections": facts.most_persons}, "as many persons are in one image")]
