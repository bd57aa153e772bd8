"""Adjacencies of keypoints (Eq. 6–7) as dense matrices, from plain values.

Convention: in a (K, K) adjacency row i belongs to the keypoint that receives; entry [i, j] is the edge from j to i, 0
where there is none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.graphs.statistics import PoseStatistics, shipped_statistics
from graphpose.skeleton import Skeleton

ADJACENCIES = ("identity", "hand_crafted", "full", "soft", "dynamic")


def adjacency_matrix(
    skeleton: Skeleton, adjacency: str, statistics: PoseStatistics | None = None, gamma: float = 0.5
) -> Tensor:
    """The adjacency of a skeleton's keypoints.

    Args:
        skeleton: gives the keypoints and the limbs.
        adjacency: ``identity`` (A_I: self-loops only), ``hand_crafted`` (A_h: limbs and self-loops), ``full`` (every
            edge, so that W_d of Eq. 8 alone decides; not in the paper), ``soft`` (A_s of Eq. 6) or ``dynamic`` (the
            same A_s, meant as the probabilities of Eq. 7; :func:`sample_adjacency` draws from it).
        statistics: M_d; by default the statistics shipped for this skeleton. Only soft and dynamic graphs read them.
        gamma: γ of Eq. 6.

    Returns:
        (K, K) float64 in [0, 1] on the CPU with ones on the diagonal.

    Raises:
        GraphposeError: when the adjacency is unknown, the statistics are missing or another skeleton's, or Eq. 6 is
            not defined by them (see :func:`soft_adjacency`).

    Source: DGCN, Fig. 3.
    """
    if adjacency not in ADJACENCIES:
        raise GraphposeError(f"unknown adjacency '{adjacency}'; choose one of {', '.join(ADJACENCIES)}")
    if statistics is not None:
        statistics.require(skeleton)
    if adjacency in ("soft", "dynamic"):
        return soft_adjacency(statistics or shipped_statistics(skeleton), gamma)
    K = skeleton.num_keypoints
    # The device is named because a network that is built on the meta device still needs the values.
    if adjacency == "full":
        return torch.ones(K, K, dtype=torch.float64, device="cpu")
    A = torch.eye(K, dtype=torch.float64, device="cpu")
    if adjacency == "hand_crafted":
        for a, b in skeleton.limbs:
            A[a, b] = A[b, a] = 1
    return A


def soft_adjacency(statistics: PoseStatistics, gamma: float = 0.5) -> Tensor:
    """A_s of Eq. 6: over j ≠ i the softmax of γ / M_d[i, j], and 1 on the diagonal.

    Args:
        statistics: M_d.
        gamma: γ.

    Returns:
        (K, K) float64 on the CPU; off the diagonal every row sums to 1. It is not symmetric.

    Raises:
        GraphposeError: when γ is not positive and finite, or two keypoints were never labelled together or never
            apart, so that 1 / M_d is unknown or infinite; the message names them.

    Source: DGCN, Eq. 6.
    """
    if not (math.isfinite(gamma) and gamma > 0):
        raise GraphposeError(f"gamma is {gamma}; Eq. 6 needs a positive finite number, such as the paper's 0.5")
    distance = torch.from_numpy(statistics.mean.copy()).fill_diagonal_(math.inf)
    for i, j in torch.nonzero(~(distance > 0)).tolist():
        what = "never labelled together" if math.isnan(distance[i, j]) else "always at the same place"
        raise GraphposeError(
            f"statistics of skeleton '{statistics.skeleton_name}': {statistics.keypoints[i]} and "
            f"{statistics.keypoints[j]} are {what}, so that Eq. 6 is not defined; use more annotations or a "
            "hand-crafted adjacency"
        )
    strength = (gamma / distance).fill_diagonal_(-math.inf)
    return strength.softmax(dim=1).fill_diagonal_(1)  # Eq. 6


def draw_edges(probability: Tensor, uniform: Tensor) -> Tensor:
    """A_d ~ Bernoulli(A_s) (Eq. 7): an edge is there where its uniform number lies below its probability.

    Args:
        probability: A_s, (K, K) in [0, 1], or the weights (E,) of a sparse graph's edges.
        uniform: independent numbers in [0, 1), shaped as ``probability`` or with a batch before that. Half precision
            has too few steps below 1 for them.

    Returns:
        Zeros and ones in the shape of ``uniform`` and the dtype of ``probability``. An edge of probability 1 is always
        there, and so is every self-loop of A_s.

    Source: DGCN, Eq. 7.
    """
    return (uniform < probability).to(probability.dtype)  # Eq. 7


def sample_adjacency(probability: Tensor, batch: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """:func:`draw_edges` with numbers from a generator.

    Args:
        probability: as there.
        batch: how many graphs B to draw; None draws one.
        generator: source of randomness on the device of ``probability``; the device's default one if None.

    Returns:
        (K, K), or (B, K, K) with a batch, of zeros and ones in the dtype and on the device of ``probability``, made
        without waiting for the device. The same generator state gives the same graphs.
    """
    shape = probability.shape if batch is None else (batch, *probability.shape)
    dtype = torch.promote_types(probability.dtype, torch.float32)
    return draw_edges(probability, torch.rand(shape, generator=generator, device=probability.device, dtype=dtype))
