"""Which learned relations are more than artefacts of their row, their seed or their labels.

Each row of β sums to 1, and most of what differs between its entries is what the keypoint keeps for itself: two raw
entries of different rows say more about the rows' diagonals than about the relations. Everything here looks at relative
shares, each a multiple of an even share of its row's off-diagonal mass.

Convention: entry [i, j] is what keypoint i takes from keypoint j.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from graphpose.errors import GraphposeError


def relative_shares(relation: np.ndarray) -> np.ndarray:
    """Every relation as a multiple of an even share of its row's off-diagonal mass.

    Args:
        relation: (…, K, K), not negative, as β.

    Returns:
        Same shape, float64: r_ij = (K − 1) β_ij / Σ_{k ≠ i} β_ik, so that 1 is what a row without preference has and
        every row's mean is 1; NaN on the diagonal and in a row without off-diagonal mass.
    """
    off = np.array(relation, np.float64)
    K = off.shape[-1]
    off[..., np.arange(K), np.arange(K)] = np.nan
    mass = np.nansum(off, axis=-1, keepdims=True)
    return (K - 1) * off / np.where(mass > 0, mass, np.nan)


def row_share_of_variance(relation: np.ndarray) -> float:
    """R² of the receiving keypoint alone for the off-diagonal entries: what a ranking of raw entries would rank."""
    off = _off_diagonal(relation)  # (K, K − 1)
    total = float(((off - off.mean()) ** 2).sum())
    return float((off.shape[1] * (off.mean(1) - off.mean()) ** 2).sum()) / total if total > 0 else float("nan")


@dataclasses.dataclass(frozen=True)
class Standing:
    """A layer's relative shares over seeds.

    Attributes:
        mean: (K, K); NaN on the diagonal.
        deviation: (K, K) standard deviation over seeds; NaN for one seed.
        p: (K, K) probability of so large a difference from an even share by the noise of seeds, corrected for the
            number of relations tested; NaN for one seed.
        seeds: how many.
    """

    mean: np.ndarray
    deviation: np.ndarray
    p: np.ndarray
    seeds: int

    def stands_out(self, level: float = 0.05) -> np.ndarray:
        """(K, K) bool; all False for one seed, of which nothing can be said."""
        return np.nan_to_num(self.p, nan=1.0) < level


def over_seeds(shares: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Standing]:
    """Which relations differ from an even share by more than the noise of seeds.

    A t test of each relation's mean logarithm against the median of its row: of β, logarithms are W_d ⊙ A up to the
    row's constant, and their noise is alike for strong and weak relations; the median, because one strong relation
    lowers the shares of all others in its row, which say nothing by that. Two or three seeds tell little of one
    relation's own spread, so the spread of a layer is pooled over all its relations, and the larger of the two is used.
    p values are corrected by Holm's method over all relations of all layers together. Shares of 0, as of masked edges,
    are no matter of noise and not tested.

    Args:
        shares: layer → :func:`relative_shares` (K, K) of each seed.

    Raises:
        GraphposeError: there is no seed, or a layer has another number of them.
    """
    counts = {len(own) for own in shares.values()}
    if len(counts) != 1 or 0 in counts:
        raise GraphposeError(f"layers have {sorted(counts)} seeds; each needs the same, at least one")
    seeds = counts.pop()
    stacked = {layer: np.stack(own) for layer, own in shares.items()}  # (S, K, K)
    nothing = {layer: np.full(own.shape[1:], np.nan) for layer, own in stacked.items()}
    if seeds == 1:
        return {layer: Standing(own[0], nothing[layer], nothing[layer], 1) for layer, own in stacked.items()}
    raw = {}
    for layer, own in stacked.items():
        logarithm, variance, tested = _logarithms(own)
        degrees = _degrees(tested) * (seeds - 1)
        pooled = variance[tested].sum() * (seeds - 1) / degrees
        raw[layer] = _t_test(logarithm, np.maximum(variance, pooled) / seeds, degrees, tested)
    corrected = _corrected(raw)
    return {layer: Standing(own.mean(0), own.std(0, ddof=1), corrected[layer], seeds) for layer, own in stacked.items()}


def between(
    first: Mapping[str, Sequence[np.ndarray]], second: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, Standing]:
    """Which relations differ between two settings by more than the noise of seeds; tested as in :func:`over_seeds`.

    Args:
        first: layer → :func:`relative_shares` of each seed.
        second: likewise; layers that one of them lacks are left out.

    Returns:
        Layer → difference of the means, standard deviation of a seed, p and the smaller number of seeds; p is NaN where
        both have one seed.

    Raises:
        GraphposeError: they have no layer in common, or other keypoints.
    """
    raw, means, deviations, seeds = {}, {}, {}, 0
    for layer in [layer for layer in first if layer in second]:
        a, b = np.stack(first[layer]), np.stack(second[layer])
        if a.shape[1:] != b.shape[1:]:
            raise GraphposeError(f"relations of {a.shape[1]} and of {b.shape[1]} keypoints cannot be compared")
        own = [_logarithms(values) for values in (a, b)]
        tested = own[0][2] & own[1][2]
        free = len(a) + len(b) - 2
        means[layer], seeds = a.mean(0) - b.mean(0), min(len(a), len(b))
        deviations[layer] = raw[layer] = np.full(a.shape[1:], np.nan)
        if free:
            variance = ((len(a) - 1) * own[0][1] + (len(b) - 1) * own[1][1]) / free
            squares = (len(a) - 1) * a.var(0, ddof=min(1, len(a) - 1)) + (len(b) - 1) * b.var(
                0, ddof=min(1, len(b) - 1)
            )
            deviations[layer] = np.sqrt(squares / free)
            degrees = _degrees(tested) * free
            pooled = variance[tested].sum() * free / degrees
            error = np.maximum(variance, pooled) * (1 / len(a) + 1 / len(b))
            raw[layer] = _t_test(own[0][0] - own[1][0], error, degrees, tested)
    if not raw:
        raise GraphposeError(f"no graph layer in common: {', '.join(first) or 'none'}; {', '.join(second) or 'none'}")
    corrected = _corrected(raw)
    return {layer: Standing(means[layer], deviations[layer], corrected[layer], seeds) for layer in raw}


def _logarithms(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over seeds (S, K, K): mean and variance of logarithms around their row's median, and which entries have one."""
    tested = np.nan_to_num(shares, nan=0.0).min(0) > 0
    some = tested | ~tested.any(-1, keepdims=True)  # a row of which nothing is tested has a median, too
    logarithm = np.log(np.where(tested, shares, 1))
    logarithm = (logarithm - np.nanmedian(np.where(some, logarithm, np.nan), axis=-1, keepdims=True)) * tested
    return logarithm.mean(0), logarithm.var(0, ddof=min(1, len(shares) - 1)), tested


def _degrees(tested: np.ndarray) -> int:
    """Degrees of freedom of a layer for every seed beyond the first: a row's median takes one of its own."""
    return max(int(tested.sum() - tested.any(-1).sum()), 1)


def _t_test(difference: np.ndarray, variance: np.ndarray, degrees: int, tested: np.ndarray) -> np.ndarray:
    """Two-sided p of a difference with this variance of its own; NaN for what is not tested."""
    from scipy import stats  # here, since every run imports this room and none of them tests

    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(difference) / np.sqrt(variance)  # 0 / 0 where nothing was learned: no difference
    p = 2 * stats.t.sf(np.nan_to_num(t), degrees)
    return np.where(tested, p, np.nan)


def _corrected(raw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """p values of all layers, corrected together."""
    flat = holm(np.concatenate([p.ravel() for p in raw.values()]))
    parts = np.split(flat, np.cumsum([p.size for p in raw.values()])[:-1])
    return {layer: part.reshape(raw[layer].shape) for layer, part in zip(raw, parts, strict=True)}


def holm(p: np.ndarray) -> np.ndarray:
    """p values corrected for their number, by Holm's step-down method; NaN stays and does not count.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected = np.full(p.shape, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def permutation_test(a: np.ndarray, b: np.ndarray, permutations: int = 999, seed: int = 0) -> tuple[float, float]:
    """Spearman's ρ of two relations off the diagonal, and its p value under relabelled keypoints (a Mantel test).

    Entries that share a keypoint are not independent, so the usual p value of ρ is far too small; relabelling the
    keypoints of one matrix, rows and columns alike, keeps what each matrix is and breaks only what they share.

    Args:
        a, b: (K, K); diagonals are not looked at.
        permutations: how many relabellings.
        seed: of them.

    Returns:
        ρ and the two-sided p, (1 + as large ones) / (1 + permutations); both NaN where one matrix is constant or has an
        entry that is not finite.

    Source: Mantel 1967, The detection of disease clustering and a generalized regression approach.
    """
    from scipy.stats import rankdata

    K = len(a)
    off = ~np.eye(K, dtype=bool)
    if not (np.isfinite(a[off]).all() and np.isfinite(b[off]).all()) or np.ptp(a[off]) == 0 or np.ptp(b[off]) == 0:
        return float("nan"), float("nan")
    ranks = np.zeros((2, K, K))
    for own, values in zip(ranks, (a[off], b[off]), strict=True):
        own[off] = rankdata(values)
        own[off] -= own[off].mean()
        own[off] /= np.sqrt((own[off] ** 2).sum())
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(K) for _ in range(permutations)])  # (P, K)
    relabelled = ranks[1][orders[:, :, None], orders[:, None, :]]  # (P, K, K); the diagonal stays 0
    null = np.abs((ranks[0] * relabelled).sum((1, 2)))
    rho = float((ranks[0] * ranks[1]).sum())
    return rho, float((1 + (null >= abs(rho) - 1e-12).sum()) / (1 + permutations))


def _off_diagonal(relation: np.ndarray) -> np.ndarray:
    """(K, K − 1): each row without its diagonal."""
    K = len(relation)
    return np.asarray(relation, np.float64)[~np.eye(K, dtype=bool)].reshape(K, K - 1)
