"""Checking a data set: what is in it and everything that is wrong with it, record by record and image by image.

The readers refuse a file at its first wrong record; this goes on to the last.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from graphpose.data.annotations.mpii import load_mat
from graphpose.data.annotations.table import Annotations, read_annotations, read_json
from graphpose.data.check_records import CheckedPerson, CheckedRecords, Defect, check_coco_records
from graphpose.data.image import read_image
from graphpose.data.mpii import MpiiDataset, is_mpii_file
from graphpose.errors import GraphposeError
from graphpose.skeleton import Skeleton

# How far outside of the image a label may lie: annotators click on edges, and edges are half a pixel out.
MARGIN = 1.0


@dataclasses.dataclass
class CheckReport:
    """What a check found.

    Attributes:
        annotations: the annotation file.
        images: the image folder, None where images were not looked at.
        skeleton: name of the skeleton, None where the file does not tell.
        counts: images, images_without_persons, persons (with a labelled keypoint), unlabelled_persons, crowd_regions,
            keypoints (labelled), hidden_keypoints, and images_read.
        defects: everything that is wrong, in the file's order.
    """

    annotations: str
    images: str | None
    skeleton: str | None
    counts: dict[str, int]
    defects: list[Defect]

    @property
    def ok(self) -> bool:
        """No errors; there may be warnings."""
        return not any(defect.severity == "error" for defect in self.defects)

    def by_kind(self) -> dict[str, int]:
        """How many defects there are of each kind, the most frequent first."""
        return dict(Counter(defect.kind for defect in self.defects).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a machine-readable report."""
        return {**dataclasses.asdict(self), "ok": self.ok, "by_kind": self.by_kind()}

    def lines(self, examples: int = 5) -> list[str]:
        """For people: the counts, and of each kind of defect how many there are and the first ``examples``."""
        lines = [f"{self.annotations} ({self.skeleton or 'no skeleton'})"]
        lines += [f"  {count:>9,} {name.replace('_', ' ')}" for name, count in self.counts.items()]
        if self.images is None:
            lines.append("  images were not looked at: no folder given")
        for kind, count in self.by_kind().items():
            found = [defect for defect in self.defects if defect.kind == kind]
            lines.append(f"{found[0].severity}: {kind.replace('_', ' ')}, {count:,} ×")
            lines += [f"    {defect.message}" for defect in found[:examples]]
            if count > examples:
                lines.append(f"    … and {count - examples:,} more")
        lines.append("no defects" if not self.defects else "errors found" if not self.ok else "warnings only")
        return lines


def check_dataset(
    annotations: Path | str,
    images: Path | str | None = None,
    *,
    skeleton: Skeleton | None = None,
    threads: int = 2,
    progress: bool = True,
) -> CheckReport:
    """Check every record of an annotation file and every image that it names.

    Args:
        annotations: COCO format (COCO, CrowdPose, any category with keypoints), or MPII as .mat, .h5 or HRNet .json.
        images: folder of the image files; None looks at the records only.
        skeleton: what the keypoints mean; None takes it from the file.
        threads: images decoded at a time.
        progress: show a bar on a terminal.

    Returns:
        The report; damaged data is in it and is never raised. Errors are what a reader refuses, warnings what it reads
        but somebody should look at.
    """
    annotations = Path(annotations)
    try:
        records = _records(annotations, skeleton)
    except GraphposeError as error:
        defect = Defect("unreadable_annotations", "error", str(error))
        return CheckReport(str(annotations), str(images) if images else None, None, {}, [defect])
    defects = list(records.defects)
    sizes = dict(records.sizes)
    counts = _count(records)
    if images is not None:
        found, actual = _check_images(Path(images), records, threads, progress)
        defects += found
        sizes |= actual
        counts["images_read"] = len(actual)
    defects += _outside(records, sizes)
    folder = str(images) if images is not None else None
    return CheckReport(str(annotations), folder, records.skeleton.name, counts, defects)


def _records(path: Path, skeleton: Skeleton | None) -> CheckedRecords:
    if not is_mpii_file(path):
        content = read_json(path)
        if isinstance(content, Mapping):
            return check_coco_records(content, str(path), skeleton)
    elif path.suffix != ".mat" or "RELEASE" in load_mat(path):
        return _of_mpii(MpiiDataset(path, path.parent))
    records = _of_annotations(read_annotations(path, skeleton))
    if not records.file_names:
        raise GraphposeError(f"{path} lists no images; at least one is needed")
    return records


def _of_mpii(dataset: MpiiDataset) -> CheckedRecords:
    """Records of MPII's forms, which are read whole or not at all; persons who cannot be targets are unlabelled."""
    records = dataset.records
    image_ids = np.repeat(records.image_ids, np.diff(records.first)).tolist()
    defects = [
        Defect("head_size_unknown", "warning", message, image_id, n)
        for n, image_id in zip(records.ids.tolist(), image_ids, strict=True)
        if dataset.head_sizes[n] is None and (n not in dataset.sources or dataset.sources[n].keypoints is not None)
        for message in [f"annotation {n} of image {image_id} has no head size; it is neither a target nor scored"]
    ]
    persons = [
        CheckedPerson(n, image_id, keypoints.astype(np.float64), False)
        for n, image_id, keypoints in zip(records.ids.tolist(), image_ids, records.keypoints, strict=True)
    ]
    names = dict(zip(records.image_ids.tolist(), records.file_names, strict=True))
    return CheckedRecords(records.skeleton, names, {}, persons, defects)


def _of_annotations(annotations: Annotations) -> CheckedRecords:
    """Records of the forms that are read whole or not at all."""
    persons = [
        CheckedPerson(int(i), int(image_id), keypoints, bool(crowd))
        for i, image_id, keypoints, crowd in zip(
            annotations.ids, annotations.image_ids, annotations.keypoints, annotations.iscrowd, strict=True
        )
    ]
    return CheckedRecords(annotations.skeleton, dict(annotations.file_names), {}, persons, [])


def _count(records: CheckedRecords) -> dict[str, int]:
    labelled = [person for person in records.persons if not person.iscrowd and (person.keypoints[:, 2] > 0).any()]
    visibility = np.concatenate([person.keypoints[:, 2] for person in labelled] or [np.zeros(0)])
    with_persons = {person.image_id for person in labelled}
    crowds = sum(person.iscrowd for person in records.persons)
    return {
        "images": len(records.file_names),
        "images_without_persons": sum(image_id not in with_persons for image_id in records.file_names),
        "persons": len(labelled),
        "unlabelled_persons": len(records.persons) - len(labelled) - crowds,
        "crowd_regions": crowds,
        "keypoints": int((visibility > 0).sum()),
        "hidden_keypoints": int((visibility == 1).sum()),
    }


def _check_images(
    folder: Path, records: CheckedRecords, threads: int, progress: bool
) -> tuple[list[Defect], dict[int, tuple[int, int]]]:
    """Defects of the image files, and the sizes (height, width) of those that decode."""

    def size_of(name: str) -> tuple[int, int] | Defect:
        path = folder / name
        kind = "image_unreadable" if path.exists() else "image_missing"
        try:
            height, width = read_image(path).shape[:2]
        except GraphposeError as error:
            return Defect(kind, "error", str(error))
        return height, width

    defects: list[Defect] = []
    sizes: dict[int, tuple[int, int]] = {}
    with ThreadPoolExecutor(max(1, threads)) as pool:
        results = pool.map(size_of, records.file_names.values())
        bar = tqdm(results, total=len(records.file_names), desc="images", disable=None if progress else True)
        for (image_id, name), result in zip(records.file_names.items(), bar, strict=True):
            if isinstance(result, Defect):
                defects.append(dataclasses.replace(result, image_id=image_id))
                continue
            sizes[image_id] = result
            recorded = records.sizes.get(image_id, result)
            if recorded != result:
                defects.append(_size_defect(folder / name, image_id, recorded, result))
    return defects, sizes


def _size_defect(path: Path, image_id: int, recorded: tuple[int, int], actual: tuple[int, int]) -> Defect:
    exchanged = recorded == actual[::-1]
    kind = "width_and_height_exchanged" if exchanged else "image_of_another_size"
    severity: Literal["error", "warning"] = "warning" if exchanged else "error"
    message = (
        f"image {path} (id {image_id}) is {actual[1]}×{actual[0]} px, its record says {recorded[1]}×{recorded[0]}"
        f"{'; exchange width and height in the record' if exchanged else '; the record belongs to another version'}"
    )
    return Defect(kind, severity, message, image_id=image_id)


def _outside(records: CheckedRecords, sizes: Mapping[int, tuple[int, int]]) -> list[Defect]:
    """Labelled keypoints that lie outside of their image."""
    persons = [person for person in records.persons if person.image_id in sizes]
    if not persons:
        return []
    keypoints = np.stack([person.keypoints for person in persons])  # (P, K, 3)
    size = np.array([sizes[person.image_id][::-1] for person in persons], np.float64)[
        :, None
    ]  # (P, 1, 2) width, height
    xy = keypoints[:, :, :2]
    labelled = keypoints[:, :, 2] > 0
    outside = labelled & ((xy < -MARGIN) | (xy > size - 1 + MARGIN)).any(axis=2)
    defects = []
    for p, k in zip(*np.nonzero(outside), strict=True):
        person = persons[p]
        height, width = sizes[person.image_id]
        x, y = xy[p, k]
        exchanged = -MARGIN <= x < height + MARGIN and -MARGIN <= y < width + MARGIN
        hint = "; it would lie inside if width and height were exchanged" if exchanged else ""
        message = (
            f"annotation {person.id}: {records.skeleton.keypoints[k]} at ({x:g}, {y:g}) lies outside of image "
            f"{person.image_id} of {width}×{height} px{hint}"
        )
        defects.append(Defect("keypoint_outside_image", "warning", message, person.image_id, person.id))
    return defects
