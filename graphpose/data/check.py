"""Checking a data set: what is in it and everything that is wrong with it, record by record and image by image.

The readers refuse a file at its first wrong record; this goes on to the last.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.regions import run_length_sizes
from graphpose.data.annotations.rules import Defect, Severity
from graphpose.data.annotations.table import Annotations
from graphpose.data.image import TURNS, exif_orientation, read_image, size_decides
from graphpose.data.plausibility import implausible
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
        defects: everything that is wrong, one rule after another; of a rule in the order of the file or the images.
        summary: what training would use and do, as lines.
    """

    annotations: str
    images: str | None
    skeleton: str | None
    counts: dict[str, int]
    defects: list[Defect]
    summary: list[str] = dataclasses.field(default_factory=list)

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
        lines += [f"  {line}" for line in self.summary]
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
    category: str | int | None = None,
    against: Sequence[Path | str] = (),
    long_edge: int = 641,
    threads: int = 2,
    progress: bool = True,
) -> CheckReport:
    """Check every record of an annotation file and every image that it names.

    Args:
        annotations: COCO format (COCO, CrowdPose, any category with keypoints), or MPII as .mat, .h5 or HRNet .json.
        images: folder of the image files; None looks at the records only.
        skeleton: what the keypoints mean; None takes it from the file.
        category: name or id of the keypoint category, for COCO-format files with several.
        against: annotation files of other splits, with which no image should be shared.
        long_edge: pixels of the images' long edge in training, for the summary.
        threads: images decoded at a time.
        progress: show a bar on a terminal.

    Returns:
        The report; damaged data is in it and is never raised. Errors are what a reader refuses, warnings what it reads
        but somebody should look at.
    """
    path, folder = Path(annotations), None if images is None else Path(images)
    defects: list[Defect] = []
    try:
        table = read_annotations(path, skeleton, category=category, report=defects.append)
        if set(table.images.file_names) <= {""}:
            raise GraphposeError(f"{path} names no images; at least one is needed")
    except GraphposeError as error:
        defects.append(Defect("unreadable_annotations", "error", str(error)))
        return CheckReport(str(path), None if folder is None else str(folder), None, {}, defects)
    sizes = table.images.sizes.copy()
    counts = _count(table)
    if folder is not None:
        found, actual = _check_images(folder, table, threads, progress)
        defects += found
        read = (actual > 0).all(axis=1)
        sizes[read] = actual[read]
        counts["images_read"] = int(read.sum())
    defects += _regions_of_another_size(table, sizes)
    doubts = implausible(table, sizes)
    if any(defect.severity == "error" for defect in defects):  # which may be why nobody is left
        doubts = [doubt for doubt in doubts if doubt.kind != "no_persons"]
    defects += doubts
    if not any(doubt.kind == "coordinates_are_shares" for doubt in doubts):
        defects += _outside(table, sizes)
    for other in against:
        defects += _shared_images(table, Path(other))
    summary = [*table.skeleton.lines(), *_persons_in_training(table, sizes, long_edge)]
    name = table.skeleton.name
    return CheckReport(str(path), None if folder is None else str(folder), name, counts, defects, summary)


def _persons_in_training(table: Annotations, sizes: np.ndarray, long_edge: int) -> list[str]:
    """How many persons have enough labels, and how large they are when the long edge is ``long_edge`` pixels."""
    persons = table.select(table.labelled)
    if len(persons) == 0:
        return ["no labelled person: there is nobody to train on or to score"]
    enough = int(((persons.keypoints[:, :, 2] > 0).sum(axis=1) >= 3).sum())
    lines = [f"{enough:,} of {len(persons):,} persons have at least 3 labelled keypoints"]
    edges = sizes[persons.image_index].max(axis=1)
    known = (edges > 0) & (persons.area > 0)
    if known.any():
        scale = np.sqrt(persons.area[known]) * long_edge / edges[known]
        low, middle, high = np.quantile(scale, (0.1, 0.5, 0.9))
        lines.append(
            f"sqrt(area) of a person with the long edge at {long_edge} px: {middle:.0f} px in the middle, "
            f"{low:.0f} … {high:.0f} px for 8 of 10"
        )
    return lines


def _shared_images(table: Annotations, other: Path) -> list[Defect]:
    """Images of another split that have the file name of one of these."""
    try:
        names = set(read_annotations(other, report=lambda _: None).images.file_names) - {""}
    except GraphposeError as error:
        return [Defect("unreadable_split", "error", str(error))]
    defects = []
    for image_id, name in zip(table.images.ids.tolist(), table.images.file_names, strict=True):
        if name in names:
            message = f"image {name} (id {image_id}) is also in {other}; what is trained on must not be scored"
            defects.append(Defect("image_in_both_splits", "warning", message, image_id=image_id))
    return defects


def _count(table: Annotations) -> dict[str, int]:
    visibility = table.keypoints[table.labelled, :, 2]
    persons, crowds = len(visibility), int(table.iscrowd.sum())
    return {
        "images": len(table.images),
        "images_without_persons": len(table.images) - len(np.unique(table.image_index[table.labelled])),
        "persons": persons,
        "unlabelled_persons": len(table) - persons - crowds,
        "crowd_regions": crowds,
        "keypoints": int((visibility > 0).sum()),
        "hidden_keypoints": int((visibility == 1).sum()),
    }


def _check_images(folder: Path, table: Annotations, threads: int, progress: bool) -> tuple[list[Defect], np.ndarray]:
    """Defects of the image files, and (I, 2) height, width of those that decode, 0 of the others."""

    images = table.images

    def size_of(index: int) -> tuple[int, int, int] | Defect:
        """Height, width, and EXIF orientation."""
        path = folder / images.file_names[index]
        kind = "image_unreadable" if path.exists() else "image_missing"
        try:
            height, width = read_image(path, recorded=tuple(images.sizes[index].tolist())).shape[:2]
        except GraphposeError as error:
            return Defect(kind, "error", str(error))
        return height, width, exif_orientation(path)

    defects: list[Defect] = []
    sizes = np.zeros_like(images.sizes)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        results = pool.map(size_of, range(len(images)))
        bar = tqdm(results, total=len(images), desc="images", disable=None if progress else True)
        for i, (image_id, result) in enumerate(zip(images.ids.tolist(), bar, strict=True)):
            if isinstance(result, Defect):
                defects.append(dataclasses.replace(result, image_id=image_id))
                continue
            *size, orientation = result
            sizes[i] = size
            recorded: tuple[int, int] = tuple(images.sizes[i].tolist())
            path = folder / images.file_names[i]
            if 0 not in recorded and recorded != tuple(size):
                defects.append(_size_defect(path, image_id, recorded, tuple(size)))  # type: ignore[arg-type]
            if not size_decides(orientation, recorded):
                defects.append(_orientation_defect(path, image_id, orientation))
    return defects, sizes


def _orientation_defect(path: Path, image_id: int, orientation: int) -> Defect:
    message = (
        f"image {path} (id {image_id}) has EXIF orientation {orientation}: a viewer shows it {TURNS[orientation]}, and "
        f"its record's size does not say on which picture it was annotated; it is read as viewers show it. If its "
        f"annotations belong to the stored pixels, remove the tag"
    )
    return Defect("exif_orientation", "warning", message, image_id=image_id)


def _size_defect(path: Path, image_id: int, recorded: tuple[int, int], actual: tuple[int, int]) -> Defect:
    exchanged = recorded == actual[::-1]
    kind = "width_and_height_exchanged" if exchanged else "image_of_another_size"
    severity: Severity = "warning" if exchanged else "error"
    scale = actual[0] / recorded[0]
    if exchanged:
        cure = "exchange width and height in the record"
    elif all(abs(scale * side - pixels) <= 1 for side, pixels in zip(recorded, actual, strict=True)):
        cure = f"the record belongs to a version that is {1 / scale:.3g} times as large; scale its annotations, too"
    else:
        cure = "no scale explains that: the record belongs to another picture or to another cut of it"
    message = (
        f"image {path} (id {image_id}) is {actual[1]}×{actual[0]} px, its record says {recorded[1]}×{recorded[0]}; "
        f"{cure}"
    )
    return Defect(kind, severity, message, image_id=image_id)


def _regions_of_another_size(table: Annotations, sizes: np.ndarray) -> list[Defect]:
    """Run lengths that do not fit an image of whose size the record says nothing; of the others the reader knows."""
    defects = []
    for row, segmentation in table.regions.items():
        index = table.image_index[row]
        size = tuple(sizes[index].tolist())
        if table.images.sizes[index].any() or 0 in size:
            continue
        for height, width in run_length_sizes(segmentation):
            if (height, width) != size:
                annotation_id, image_id = int(table.ids[row]), int(table.images.ids[index])
                message = (
                    f"annotation {annotation_id} has an RLE of {width}×{height} px on image {image_id} of "
                    f"{size[1]}×{size[0]} px; its box is ignored instead"
                )
                defects.append(Defect("region_of_another_size", "warning", message, image_id, annotation_id))
                break
    return defects


def _outside(table: Annotations, sizes: np.ndarray) -> list[Defect]:
    """Labelled keypoints that lie outside of their image; nothing is said of images of unknown size (0)."""
    size = sizes[table.image_index, ::-1].astype(np.float64)[:, None]  # (A, 1, 2) width, height
    xy = table.keypoints[:, :, :2]
    suspect = (table.keypoints[:, :, 2] > 0) & (size > 0).all(axis=2)
    outside = suspect & ((xy < -MARGIN) | (xy > size - 1 + MARGIN)).any(axis=2)
    image_ids = table.image_ids
    defects = []
    for row, k in zip(*np.nonzero(outside), strict=True):
        annotation_id, image_id = int(table.ids[row]), int(image_ids[row])
        height, width = sizes[table.image_index[row]].tolist()
        x, y = xy[row, k]
        exchanged = -MARGIN <= x < height + MARGIN and -MARGIN <= y < width + MARGIN
        hint = "; it would lie inside if width and height were exchanged" if exchanged else ""
        message = (
            f"annotation {annotation_id}: {table.skeleton.keypoints[k]} at ({x:g}, {y:g}) lies outside of image "
            f"{image_id} of {width}×{height} px{hint}"
        )
        defects.append(Defect("keypoint_outside_image", "warning", message, image_id, annotation_id))
    return defects
