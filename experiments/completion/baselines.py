"""What completes a pose without a graph: the mean pose, a linear map, and the Gaussian's conditional mean.

All predict (N, K, 2) positions from the middle of the visible keypoints, as :meth:`Poses.centred` has them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.completion.task import Poses

TRANSLATION = 10.0  # standard deviation, in scales, of where a person stands: as good as unknown
LABEL_NOISE = 0.01  # standard deviation, in scales, that keeps covariances invertible
CHUNK = 2048


def mean_pose(poses: Poses, iterations: int = 30) -> Tensor:
    """(K, 2) float64 mean shape of the visible keypoints, each person moved to where it fits best (least squares)."""
    seen = poses.visible.unsqueeze(-1).double()
    mean = poses.pos.new_zeros(poses.pos.shape[1:], dtype=torch.float64)
    for _ in range(iterations):
        moved = ((poses.pos - mean) * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True)  # (N, 1, 2)
        mean = ((poses.pos - moved) * seen).sum(0) / seen.sum(0)
        mean -= mean.mean(0)
    return mean


def predict_mean_pose(mean: Tensor, poses: Poses) -> Tensor:
    """The mean pose, its visible keypoints on average where the person's are."""
    seen = poses.visible.unsqueeze(-1).double()
    return (mean - (mean * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True)).float()


def fit_ridge(poses: Poses, ridge: float = 1.0) -> Tensor:
    """For every keypoint the linear map from all features to its position, over persons in whom it is hidden.

    Args:
        poses: persons to learn from.
        ridge: added to the diagonal of the normal equations, in persons; the constant is not held back.

    Returns:
        (K, 3 · K + 1, 2) float64.
    """
    X, y = _with_constant(poses), poses.centred.double()  # (N, F), (N, K, 2)
    penalty = torch.full((X.shape[1],), ridge, dtype=torch.float64)
    penalty[-1] = 1e-9
    maps = []
    for k in range(y.shape[1]):
        own = poses.hidden[:, k]
        maps.append(torch.linalg.solve(X[own].T @ X[own] + torch.diag(penalty), X[own].T @ y[own, k]))
    return torch.stack(maps)


def predict_ridge(maps: Tensor, poses: Poses) -> Tensor:
    """Positions by :func:`fit_ridge`."""
    return torch.einsum("nf,kfc->nkc", _with_constant(poses), maps).float()


def _with_constant(poses: Poses) -> Tensor:
    flat = poses.features.flatten(1).double()
    return torch.cat((flat, flat.new_ones(len(flat), 1)), dim=1)


def fit_gaussian(poses: Poses, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """Gaussian of all 2 K coordinates of a shape by expectation maximisation, for most persons lack some.

    A shape is a pose of which the mean of all K keypoints is 0; where a person stands is unknown to the model.

    Returns:
        Mean (2 K,) and covariance (2 K, 2 K) float64.

    Source: Little and Rubin, Statistical Analysis with Missing Data, the normal model with missing values.
    """
    N, K, _ = poses.pos.shape
    centre = torch.eye(2 * K, dtype=torch.float64) - _translation(K) / K
    mean = mean_pose(poses).flatten()
    covariance = 0.05 * centre
    for _ in range(iterations):
        first, second = torch.zeros_like(mean), torch.zeros_like(covariance)
        for start in range(0, N, CHUNK):
            part = torch.arange(start, min(start + CHUNK, N))
            offset, spread = _conditional(mean, covariance, poses[part], with_spread=True)
            shape = offset @ centre  # (n, 2 K), from the mean
            first += shape.sum(0)
            second += shape.T @ shape + centre @ spread @ centre
        step = first / N
        mean, covariance = mean + step, second / N - torch.outer(step, step)
    return mean, covariance


def predict_gaussian(fitted: tuple[Tensor, Tensor], poses: Poses) -> Tensor:
    """E[hidden | visible] under :func:`fit_gaussian`, wherever the person stands."""
    mean, covariance = fitted
    parts = []
    for start in range(0, len(poses), CHUNK):
        own = poses[torch.arange(start, min(start + CHUNK, len(poses)))]
        offset, _ = _conditional(mean, covariance, own)
        parts.append((mean + offset).view(len(own), -1, 2))
    return Poses(torch.cat(parts).float(), poses.visible, poses.hidden).centred


def _translation(K: int) -> Tensor:
    """(2 K, 2 K): covariance of x, y, x, y, … that move together."""
    return torch.eye(2, dtype=torch.float64).repeat(K, K)


def _conditional(
    mean: Tensor, covariance: Tensor, poses: Poses, with_spread: bool = False
) -> tuple[Tensor, Tensor | None]:
    """E[V | visible] − mean (n, 2 K), and the sum over persons of Cov[V | visible] (2 K, 2 K)."""
    n, K, _ = poses.pos.shape
    prior = covariance + TRANSLATION**2 * _translation(K) + LABEL_NOISE**2 * torch.eye(2 * K, dtype=torch.float64)
    seen = poses.visible.repeat_interleave(2, dim=1).double()  # (n, 2 K)
    both = seen.unsqueeze(1) * seen.unsqueeze(2)
    of_seen = prior * both + torch.diag_embed(1 - seen)  # unseen coordinates stand apart, with variance 1
    factor = torch.linalg.cholesky(of_seen)  # (n, 2 K, 2 K)
    residual = (poses.pos.double().flatten(1) - mean) * seen
    offset = (torch.cholesky_solve(residual.unsqueeze(-1), factor).squeeze(-1) * seen) @ prior
    if not with_spread:
        return offset, None
    # prior − prior P (P prior P)⁻¹ P prior, summed over persons: the middle alone depends on the person
    middle = (torch.cholesky_inverse(factor) * both).sum(0)
    return offset, n * prior - prior @ middle @ prior
