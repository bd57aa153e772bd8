"""What a network learned about keypoints: W_d of Eq. 8 and what its softmax makes of it, by layer and over training.

Convention: entry [i, j] of a relation is how much keypoint i takes from keypoint j.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.nn.dgcm import DGCM
from graphpose.nn.graph_conv import relation_weights
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import Skeleton


def graph_layers(network: PoseNetwork) -> Iterator[tuple[str, torch.nn.Module]]:
    """Name ("PIF F16 layer 1") and graph convolution of every layer that has a W_d; none for a network without.

    Raises:
        GraphposeError: the network is folded, which leaves no W_d.
    """
    for head, pyramid in (("PIF", network.pif_pyramid), ("PAF", network.paf_pyramid)):
        for stride, dgcm in pyramid.modules_at.items() if pyramid is not None else ():
            if not isinstance(dgcm, DGCM):
                raise GraphposeError("a folded network has no W_d left; look at the network it was folded from")
            for number, layer in enumerate(dgcm.layers, start=1):
                if getattr(layer.conv, "W_d", None) is not None:
                    yield f"{head} F{stride} layer {number}", layer.conv  # type: ignore[misc]


@torch.no_grad()
def learned_weights(network: PoseNetwork) -> dict[str, np.ndarray]:
    """W_d (K, K) float32 of every layer, by its name."""
    return {name: conv.W_d.detach().float().cpu().numpy().copy() for name, conv in graph_layers(network)}  # type: ignore


def learned_relations(network: PoseNetwork) -> dict[str, np.ndarray]:
    """β(W_d ⊙ A) (K, K) float32 of every layer with the graph of evaluation; rows sum to 1 (Eq. 8).

    Several kinds of poses, which a gate weighs for each image, count here by their shares of the training set.
    """
    return relations_of(network, learned_weights(network))


@torch.no_grad()
def relations_of(network: PoseNetwork, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """β(W_d ⊙ A) (K, K) float32 of other W_d than the network's own, as those of an earlier epoch.

    Args:
        network: gives the graph of evaluation.
        weights: W_d (K, K) by layer, of all or some of the network's layers.
    """
    if network.keypoint_graph is None:
        return {}
    was_training = network.keypoint_graph.training
    A = network.keypoint_graph.eval()(1)
    network.keypoint_graph.train(was_training)
    return {
        name: relation_weights(torch.from_numpy(weights[name]).to(A.device), A, conv.absent_edges)  # type: ignore
        .float()
        .cpu()
        .numpy()
        for name, conv in graph_layers(network)
        if name in weights
    }


@contextlib.contextmanager
def without_edges(network: PoseNetwork, edges: Iterable[tuple[int, int]]) -> Iterator[None]:
    """In its block, keypoint i takes nothing from keypoint j in any graph layer, for every (i, j) of ``edges``.

    What remains of a row is scaled to sum to 1 again. Not the same as an absent edge of Eq. 8, which still has the
    softmax weight of a 0.

    Raises:
        GraphposeError: an edge is none of two different keypoints, or the network has no W_d to take from.
    """
    K, layers = network.spec.skeleton.num_keypoints, [conv for _, conv in graph_layers(network)]
    if not layers:
        raise GraphposeError("this network has no layer with a W_d, so there is no relation to remove")
    removed = torch.zeros(K, K, dtype=torch.bool)
    for i, j in edges:
        if not (0 <= i < K and 0 <= j < K and i != j):
            raise GraphposeError(f"edge ({i}, {j}) is none between two of the keypoints 0..{K - 1}")
        removed[i, j] = True

    def remaining(relations: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def changed(adjacency: Tensor) -> Tensor:
            beta = relations(adjacency)
            kept = beta.masked_fill(removed.to(beta.device), 0)
            return kept * (beta.sum(-1, keepdim=True) / kept.sum(-1, keepdim=True).clamp(min=1e-12))

        return changed

    for conv in layers:
        conv.relations = remaining(conv.relations)  # type: ignore[assignment, arg-type]
    try:
        yield
    finally:
        for conv in layers:
            del conv.__dict__["relations"]


def append_weights(path: Path, network: PoseNetwork, epoch: int) -> None:
    """Add W_d of every layer to a file of them over training; what it held from this epoch on is replaced.

    Args:
        path: .npz file; made where there is none.
        network: any; one without W_d leaves no file.
        epoch: the weights are those after so many epochs.
    """
    weights = learned_weights(network)
    if not weights:
        return
    known = read_weights(path) if path.exists() else {}
    kept = {at: layers for at, layers in known.items() if at < epoch} | {epoch: weights}
    # one array per layer: an epoch more must not cost more the more there are
    arrays = {name: np.stack([layers[name] for layers in kept.values()]) for name in weights}  # (epochs, K, K)
    written = path.with_name(path.name + ".tmp")
    with written.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, epochs=np.array(list(kept)), **arrays)
    written.replace(path)


def read_weights(path: Path) -> dict[int, dict[str, np.ndarray]]:
    """Epoch → layer → W_d of a file that :func:`append_weights` wrote.

    Raises:
        GraphposeError: there is no such file or it is another one.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        epochs = arrays.pop("epochs")
    except (OSError, ValueError, KeyError) as error:
        raise GraphposeError(f"'{path}' holds no W_d over training ({error}); a run writes relations.npz") from None
    return {int(at): {name: array[i] for name, array in arrays.items()} for i, at in enumerate(epochs)}


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's ρ between two relations off the diagonal; nan where one of them is constant there."""
    from scipy.stats import spearmanr  # here, since every run imports this module and none of them correlates

    off = ~np.eye(len(a), dtype=bool)
    if np.ptp(a[off]) == 0 or np.ptp(b[off]) == 0:
        return float("nan")
    return float(spearmanr(a[off], b[off]).statistic)


def rank_correlations(matrices: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """:func:`rank_correlation` of every two of the named relations."""
    return {(p, q): rank_correlation(matrices[p], matrices[q]) for p, q in itertools.combinations(matrices, 2)}


def strongest_relations(
    relation: np.ndarray, skeleton: Skeleton, count: int = 10, *, limbs: bool = False
) -> list[tuple[str, str, float]]:
    """The strongest relations between different keypoints.

    Args:
        relation: (K, K).
        skeleton: gives names and limbs.
        count: at most so many.
        limbs: also those between two ends of a limb; without, what anatomy does not say.

    Returns:
        (keypoint that takes, keypoint that gives, weight), the strongest first.

    Raises:
        GraphposeError: the relation is not one of the skeleton's keypoints.
    """
    K = skeleton.num_keypoints
    if relation.shape != (K, K):
        raise GraphposeError(f"a relation of shape {relation.shape} is not one of the {K} keypoints of {skeleton.name}")
    anatomical = {frozenset(limb) for limb in skeleton.limbs}
    pairs = [(i, j) for i in range(K) for j in range(K) if i != j and (limbs or frozenset((i, j)) not in anatomical)]
    pairs.sort(key=lambda pair: -relation[pair])
    return [(skeleton.keypoints[i], skeleton.keypoints[j], float(relation[i, j])) for i, j in pairs[:count]]
