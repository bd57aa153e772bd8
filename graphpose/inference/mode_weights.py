"""What the gate of a network with graphs of several kinds of poses has learned: its weights by the persons in sight."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from graphpose.data.batch import Batch
from graphpose.errors import GraphposeError
from graphpose.graphs.dataset_statistics import record_scales
from graphpose.graphs.mode_statistics import mode_centre
from graphpose.graphs.modes import nearest_modes
from graphpose.graphs.statistics import PoseStatistics
from graphpose.inference.batches import device_of
from graphpose.nn.mode_graph import ModeGraph
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import Skeleton


@torch.inference_mode()
def mode_weights(network: PoseNetwork, loader: Iterable[Batch]) -> dict[int, np.ndarray]:
    """The gate's weights g (C,) of every image, by its id.

    Args:
        network: that weighs the graphs of several kinds of poses; put into evaluation mode.
        loader: batches of images.

    Raises:
        GraphposeError: the network has no gate, or an image cannot be read.
    """
    graph = network.keypoint_graph
    if not isinstance(graph, ModeGraph):
        raise GraphposeError(
            f"a network with adjacency '{network.config.adjacency}' and modes={network.config.modes} has no gate; "
            "train one with adjacency=modes or soft_modes and modes=2 or more"
        )
    network.eval()
    found: dict[int, np.ndarray] = {}
    for batch in loader:
        if batch.errors:
            raise GraphposeError(f"the gate's weights need every image: {batch.errors[0]}")
        features = network.backbone(batch.images.to(device_of(network)).float())[network.base_stride]
        weights = graph.gate(features).double().cpu().numpy()
        found |= dict(zip(batch.image_ids, weights, strict=True))
    return found


def modes_of_persons(
    ground_truth: Mapping[str, Any], skeleton: Skeleton, kinds: Sequence[PoseStatistics]
) -> tuple[np.ndarray, np.ndarray]:
    """Which kind the persons of a data set are of by their shapes.

    Args:
        ground_truth: of the data set, in COCO's format; those of heads have areas of (3.6 head sizes)².
        skeleton: of its keypoints.
        kinds: of poses, with their centres.

    Returns:
        (N,) ids of the images of the N labelled persons of known size, and (N,) their kinds.

    Raises:
        GraphposeError: the kinds have no centres, as those that persons were grouped into by something else.
    """
    centres = [mode_centre(kind) for kind in kinds]
    known = [centre for centre in centres if centre is not None]
    if len(known) < len(kinds):
        raise GraphposeError("the kinds of poses were not found by shape, so that nothing tells who is of which")
    records = [one for one in ground_truth["annotations"] if not one["iscrowd"] and any(one["keypoints"][2::3])]
    keypoints = np.array([one["keypoints"] for one in records], np.float64).reshape(-1, skeleton.num_keypoints, 3)
    scale = record_scales(records, kinds[0].scale_rule)
    usable = np.isfinite(scale) & (scale > 0)
    image_ids = np.array([one["image_id"] for one in records], np.int64)
    return image_ids[usable], nearest_modes(keypoints[usable], scale[usable], skeleton, np.stack(known))


@dataclasses.dataclass(frozen=True)
class GateReading:
    """A gate's weights beside the persons in its images.

    Attributes:
        by_kind: (C, C); row c: mean weights of the images of the persons of kind c; NaN where nobody is of it.
        mean: (C,) over images.
        deviation: (C,) standard deviation from image to image.
        persons: (C,) of each kind.
        excess: by how much a person's own kind has more weight in its image than in the mean of all images.
        p: how often images in another order have as large an excess (one-sided).
    """

    by_kind: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    persons: np.ndarray
    excess: float
    p: float


def read_gate(
    weights: Mapping[int, np.ndarray], image_ids: np.ndarray, kind: np.ndarray, *, permutations: int = 999
) -> GateReading:
    """Whether a gate gives more weight to the kinds that are in its images.

    Args:
        weights: (C,) by image, see :func:`mode_weights`.
        image_ids: (N,) of each person.
        kind: (N,) of each person, 0 … C − 1.
        permutations: of the images, which say what chance does.
    """
    places = {image_id: place for place, image_id in enumerate(weights)}
    table = np.stack(list(weights.values()))  # (I, C)
    rows = np.array([places[image_id] for image_id in image_ids.tolist()], np.int64)
    mean = table.mean(0)
    C = table.shape[1]
    counts = np.zeros((len(table), C))
    np.add.at(counts, (rows, kind), 1)  # persons of each kind in each image
    persons = counts.sum(0)
    by_kind = counts.T @ table / np.where(persons > 0, persons, np.nan)[:, None]

    def excess(order: np.ndarray) -> float:
        return float((counts * (table[order] - mean)).sum() / max(len(rows), 1))

    rng = np.random.default_rng(0)
    own = excess(np.arange(len(table)))
    larger = sum(excess(rng.permutation(len(table))) >= own for _ in range(permutations))
    p = (1 + larger) / (1 + permutations)
    return GateReading(by_kind, mean, table.std(0), persons.astype(np.int64), own, p)
