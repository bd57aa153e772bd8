"""Reading annotation files of any supported form into the one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphpose.data.annotations.coco import from_coco
from graphpose.data.annotations.json_file import parse_json
from graphpose.data.annotations.mpii import from_hrnet, is_mpii_file, read_h5, read_mat
from graphpose.data.annotations.rules import Report
from graphpose.data.annotations.table import Annotations
from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton


def read_annotations(
    path: str | Path,
    skeleton: Skeleton | None = None,
    *,
    category: str | int | None = None,
    progress: bool = False,
    report: Report | None = None,
) -> Annotations:
    """Read an annotation file of any supported form.

    Args:
        path: COCO-format ``.json`` or ``.json.gz``; MPII as ``.mat``, ``.h5`` or HRNet-style ``.json``.
        skeleton: what the file must contain; by default what its category says, or MPII for MPII's forms.
        category: name or id of the keypoint category, for COCO-format files with several.
        progress: show a bar on a terminal's standard error.
        report: is told of each defect of a record, and records with an error are left out; None raises the first
            error. MPII's forms are read whole or not at all.

    Returns:
        Every record of the keypoint category; an image without persons gives none.

    Raises:
        GraphposeError: when the file is missing, empty, damaged or of another form; when a record has another number of
            keypoints than the skeleton, a number that is not finite, or a visibility other than 0, 1 or 2. The message
            names the file and the annotation id.
    """
    path = Path(path)
    if category is not None and is_mpii_file(path):
        raise GraphposeError(f"{path} has MPII's form, which has no categories; leave out category '{category}'")
    if path.suffix in (".h5", ".hdf5"):
        return read_h5(path, skeleton, report)
    if path.suffix == ".mat":
        return read_mat(path, skeleton, report)

    def parse(content: Any) -> Annotations:
        if isinstance(content, list):
            return from_hrnet(content, path, skeleton, report)
        return from_coco(content, path, skeleton, report, category)

    return parse_json(path, parse, progress)
