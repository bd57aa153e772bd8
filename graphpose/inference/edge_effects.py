"""What a learned relation does: the figures of an evaluation without it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from graphpose.data.batch import Batch
from graphpose.errors import GraphposeError
from graphpose.fields.decode import Decoder
from graphpose.inference.batches import predict_batches
from graphpose.metrics.coco import coco_results
from graphpose.metrics.intervals import Interval, coco_differences, coco_intervals
from graphpose.metrics.results import category_of
from graphpose.nn.network import PoseNetwork
from graphpose.nn.relations import without_edges


def edge_effects(
    network: PoseNetwork,
    decoder: Decoder,
    loader: Iterable[Batch],
    ground_truth: Mapping[str, Any],
    edges: Sequence[tuple[int, int]],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[dict[str, Interval], dict[tuple[int, int], dict[str, Interval]]]:
    """COCO's AP, AP50 and AR of a network, and how they change without each of some edges.

    Args:
        network: with W_d, not folded; put into evaluation mode.
        decoder: made for ``network.spec``.
        loader: batches of the images of ``ground_truth``, each image once.
        ground_truth: COCO-format annotations.
        edges: (i, j): keypoint i no longer takes from keypoint j, in any layer; one at a time.
        resamples: draws of images, for intervals; paired, so that the images' own difficulty cancels.
        seed: of the draws.

    Returns:
        Figures of the whole network, and by edge the differences to them, each (value, low, high).

    Raises:
        GraphposeError: an edge is none, an image cannot be read, or the network has no W_d.
    """
    network.eval()
    category = category_of(ground_truth)  # type: ignore[arg-type]
    removals = [(), *((edge,) for edge in edges)]
    results: list[list[dict[str, Any]]] = [[] for _ in removals]
    with _remembered_features(network):
        for batch in loader:
            if batch.errors:
                raise GraphposeError(f"effects of edges need every image: {batch.errors[0]}")
            for own, removed in zip(results, removals, strict=True):
                with without_edges(network, removed):
                    for _, poses in predict_batches(network, decoder, [batch]):
                        for image_id, one in zip(batch.image_ids, poses, strict=True):
                            own += coco_results(image_id, one, category)
    skeleton = network.spec.skeleton
    whole = coco_intervals(ground_truth, results[0], skeleton, resamples, seed)
    differences = coco_differences(ground_truth, results[0], results[1:], skeleton, resamples, seed)
    return whole, dict(zip(edges, differences, strict=True))


@contextlib.contextmanager
def _remembered_features(network: PoseNetwork) -> Iterator[None]:
    """The backbone, most of the work, runs once for the same images after each other."""
    forward = network.backbone.forward
    last: list[Any] = [None, None]

    def remembering(images: torch.Tensor) -> Any:
        if last[0] is None or last[0].shape != images.shape or not torch.equal(last[0], images):
            last[:] = images, forward(images)
        return last[1]

    network.backbone.forward = remembering  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        network.backbone.forward = forward  # type: ignore[method-assign]
