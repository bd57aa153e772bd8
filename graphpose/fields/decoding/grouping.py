"""Grouping: from the fields of an image, or from its confident cells, to its poses in one compiled call.

The call runs without the GIL from its beginning to its end, so that threads that decode different images wait for each
other twice per image and not once per step.

Convention: lengths are in cells.
"""

from __future__ import annotations

import hashlib
import inspect
import sys

from numba import njit

from graphpose.fields.decoding.candidates import find_candidates
from graphpose.fields.decoding.growth import best_poses, grow
from graphpose.fields.decoding.joining import join_undisputed
from graphpose.fields.decoding.limbs import count_votes, find_limb_cells
from graphpose.fields.decoding.peaks import find_peaks
from graphpose.fields.decoding.splitting import split_peaks

_STEPS = (find_candidates, find_limb_cells, find_peaks, count_votes, split_peaks, grow, best_poses, join_undisputed)

# Numba finds a cached compilation by its signature and the date of this file, so that it would miss a change of a step
# in another file. As the default of an argument the digest of all steps is a part of the signature.
_files = "".join(inspect.getsource(sys.modules[step.__module__]) for step in _STEPS)
SOURCES = hashlib.sha256(_files.encode()).hexdigest()


@njit(cache=True, nogil=True)
def group_fields(pif, paf, limbs, sigmas, tables, settings, sources=SOURCES):  # type: ignore[no-untyped-def]
    """Poses of one image from its fields.

    Args:
        pif: (K, 5, h, w) float32, confidences are probabilities; any value is allowed.
        paf: (M, 7, h, w) float32, likewise.
        limbs … sources: see :func:`group_cells`.

    Returns:
        see :func:`group_cells`.
    """
    h, w = pif.shape[2:]
    candidates = find_candidates(
        pif, settings.keypoint_threshold, settings.radius, settings.radius_min, float(max(h, w)), settings.use_spread
    )
    cells = find_limb_cells(paf, settings.limb_threshold)
    return group_cells(candidates, cells, h, w, limbs, sigmas, tables, settings)


@njit(cache=True, nogil=True)
def group_cells(  # type: ignore[no-untyped-def]
    candidates, cells, h, w, limbs, sigmas, tables, settings, sources=SOURCES
):
    """Poses of one image from its confident cells.

    Args:
        candidates: Candidates.
        cells: LimbCells.
        h, w: cells of the field.
        limbs: (M, 2) int64 keypoint types.
        sigmas: (K,) float64.
        tables: PairTables.
        settings: the values of DecoderConfig under their names; ``tables`` is read only with join_fragments.
        sources: left out.

    Returns:
        keypoints (N, K, 3), scales (N, K), scores (N,), the best first, float32; and whether joining them is left to
        :func:`~graphpose.fields.decoding.joining.join_fragments`, since partners are disputed.
    """
    peaks = find_peaks(
        candidates, h, w, settings.peak_threshold, settings.radius, settings.radius_min, settings.max_peaks
    )
    votes = count_votes(cells, limbs, peaks, settings.limb_radius, settings.limb_radius_min, settings.limb_slack)
    nodes, split_votes = split_peaks(peaks, votes, settings.min_split_weight, settings.min_split_share)
    keypoints, scales = grow(
        nodes, split_votes, sigmas, settings.full_limb_weight, settings.min_limb_weight, settings.min_bridge_share
    )
    keypoints, scales, scores = best_poses(keypoints, scales, settings.min_score, settings.max_poses)
    disputed = False
    if settings.join_fragments and len(keypoints) > 1:
        joined, joined_scales, _, disputed = join_undisputed(
            keypoints, scales, sigmas, tables,
            settings.join_scale_spread, settings.join_max_scale_deviation, settings.join_alone,
            settings.min_join_probability,
        )  # fmt: skip
        if not disputed and len(joined) < len(keypoints):
            keypoints, scales, scores = best_poses(joined, joined_scales, settings.min_score, settings.max_poses)
    return keypoints, scales, scores, disputed
