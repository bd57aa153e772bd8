"""Grouping: from the fields of an image to its poses in one compiled call.

The call runs without the GIL from its beginning to its end, so that threads that decode different images wait for each
other twice per image and not once per step.

Convention: lengths are in cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphpose.fields.decoding.candidates import find_candidates
from graphpose.fields.decoding.compiled import compiled
from graphpose.fields.decoding.growth import Fragments, best_poses, grow
from graphpose.fields.decoding.joining import join_undisputed
from graphpose.fields.decoding.limbs import count_votes, find_limb_cells
from graphpose.fields.decoding.peaks import find_peaks
from graphpose.fields.decoding.splitting import split_peaks
from graphpose.fields.decoding.tables import DecoderTables


class Grouped(NamedTuple):
    """The poses of one image.

    Attributes:
        poses: N of them, the best first.
        scores: (N,) float32 instance scores, not increasing.
        disputed: whether joining them is left to :func:`~graphpose.fields.decoding.joining.join_fragments`, since
            there is one with several likely partners.
    """

    poses: Fragments
    scores: np.ndarray
    disputed: bool


@compiled
def group_fields(pif: np.ndarray, paf: np.ndarray, tables: DecoderTables) -> Grouped:
    """Poses of one image from its fields.

    Args:
        pif: (K, 5, h, w) float32, confidences are probabilities; any value is allowed.
        paf: (M, 7, h, w) float32, likewise.
        tables: of the decoder.
    """
    h, w = pif.shape[2:]
    settings = tables.settings
    peaks = find_peaks(find_candidates(pif, settings), h, w, settings)
    votes = count_votes(find_limb_cells(paf, settings), peaks, tables)
    nodes, split_votes = split_peaks(peaks, votes, settings)
    poses, scores = best_poses(grow(nodes, split_votes, tables), settings)
    disputed = False
    if settings.join_fragments and len(scores) > 1:
        joined = join_undisputed(poses, tables)
        disputed = joined.disputed
        if not disputed and len(joined.fragments.scales) < len(scores):
            poses, scores = best_poses(joined.fragments, settings)
    return Grouped(poses, scores, disputed)
