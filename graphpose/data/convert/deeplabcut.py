"""DeepLabCut's labels, ``labeled-data/VIDEO/CollectedData_SCORER.csv``, as a COCO-format file.

Header rows name the columns: scorer, individuals (of multi-animal projects), bodyparts, coords. A row below has the
image's path, in one column or in three, and x and y in pixels of each body part, empty where it is not labelled. Body
parts of the individual ``single`` are DeepLabCut's unique body parts, which belong to no animal.

Source: https://deeplabcut.github.io/DeepLabCut (labelling) and its files
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphpose.data.convert.coco_file import CocoFile, category, limbs_between
from graphpose.data.image import upright_size
from graphpose.errors import GraphposeError

PLACE = "labeled-data"
UNIQUE = "single"  # the individual of unique body parts


@dataclasses.dataclass(frozen=True)
class Labels:
    """One CSV.

    Attributes:
        path: of the file.
        bodyparts: K names, those of the animals.
        unique: names of the unique body parts, which are left out.
        images: a path for each row, parts joined by /.
        lines: line of each row.
        keypoints: for each row the animals' (N, K, 3) x, y in pixels and visibility, 2 or 0.
    """

    path: Path
    bodyparts: tuple[str, ...]
    unique: tuple[str, ...]
    images: tuple[str, ...]
    lines: tuple[int, ...]
    keypoints: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The header: how many columns the image's path has, and (individual, body part, x or y) of the others."""

    before: int
    names: tuple[tuple[str, str, str], ...]


def find_csv_files(folder: Path) -> list[Path]:
    """The CSVs of a project, or of a folder of one video."""
    return sorted(folder.glob(f"{PLACE}/*/CollectedData*.csv")) or sorted(folder.glob("CollectedData*.csv"))


def read_csv(path: Path) -> Labels:
    """Read a CSV; GraphposeError names the file and the line at fault."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except FileNotFoundError:
        raise GraphposeError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GraphposeError(f"{path} cannot be read: {error}") from None
    columns, rows = _header(path, rows)
    animals = [name for name in dict.fromkeys(name for name, _, _ in columns.names) if name != UNIQUE] or [UNIQUE]
    bodyparts = tuple(dict.fromkeys(part for name, part, _ in columns.names if name in animals))
    unique = tuple(dict.fromkeys(part for name, part, _ in columns.names if name not in animals))
    found = [_row(path, line, cells, columns, animals, bodyparts) for line, cells in rows]
    return Labels(
        path, bodyparts, unique, tuple(image for image, _ in found), tuple(line for line, _ in rows),
        tuple(keypoints for _, keypoints in found),
    )  # fmt: skip


def convert_deeplabcut(
    tables: Sequence[Labels], images: Path | None = None, limbs: Sequence[str] = (), name: str = "animal"
) -> tuple[CocoFile, Path]:
    """The labels of one or several CSVs as a COCO-format file.

    Args:
        tables: with the same body parts.
        images: folder that the images' paths begin in; None takes the project's (above ``labeled-data``), or that of
            the first CSV.
        limbs: as texts A:B; none leaves them to the reader, which makes a tree.
        name: of the category.

    Returns:
        The file, and the folder that its file names begin in. An animal without labels in an image is left out.

    Raises:
        GraphposeError: naming file and line.
    """
    first = tables[0]
    for table in tables[1:]:
        if set(table.bodyparts) != set(first.bodyparts):
            differ = ", ".join(sorted(set(table.bodyparts) ^ set(first.bodyparts)))
            raise GraphposeError(f"{table.path} and {first.path} have other body parts ({differ}); convert each alone")
    root = images or _project(first.path)
    file = CocoFile([category(name, first.bodyparts, limbs_between(limbs, first.bodyparts))])
    seen: dict[str, str] = {}
    for table in tables:
        order = [table.bodyparts.index(part) for part in first.bodyparts]
        for image, line, animals in zip(table.images, table.lines, table.keypoints, strict=True):
            where = f"{table.path}, line {line}"
            file_name = _file_name(root, image, where)
            if file_name in seen:
                raise GraphposeError(f"{where}: image {image} stands in {seen[file_name]} already; once is right")
            seen[file_name] = where
            file.add_image(file_name, upright_size(root / file_name))
            for keypoints in animals[:, order]:
                if (keypoints[:, 2] > 0).any():
                    file.add_person(keypoints)
    return file, root


def _header(path: Path, rows: list[tuple[int, list[str]]]) -> tuple[_Columns, list[tuple[int, list[str]]]]:
    """The columns, and the rows below the header."""
    kinds = ["scorer", "individuals", "bodyparts", "coords"]
    found = [cells[0].strip().lower() for _, cells in rows[:4]]
    if found[:1] != ["scorer"] or found[1:2] != ["individuals"]:
        kinds.remove("individuals")
    for n, kind in enumerate(kinds):
        if found[n : n + 1] != [kind]:
            line, instead = (rows[n][0], repr(rows[n][1][0])) if n < len(rows) else (n + 1, "nothing")
            raise GraphposeError(
                f"{path}, line {line}: {instead} stands where the header's row '{kind}' should; rows "
                f"{', '.join(kinds)} are needed (DeepLabCut's CollectedData)"
            )
    header = {kind: [cell.strip() for cell in cells] for kind, (_, cells) in zip(kinds, rows, strict=False)}
    coords = header["coords"]
    line = rows[len(kinds) - 1][0]
    before = next((n for n in range(1, len(coords)) if coords[n]), len(coords))
    if "likelihood" in coords:
        raise GraphposeError(f"{path}, line {line}: coords has 'likelihood': these are predictions, not labels")
    if len({len(cells) for cells in header.values()}) > 1 or before == len(coords):
        raise GraphposeError(f"{path}, line {line}: the header's rows need a cell for each column")
    individuals = header.get("individuals", [""] * len(coords))
    names = tuple(zip(individuals[before:], header["bodyparts"][before:], coords[before:], strict=True))
    other = [axis for axis in coords[before:] if axis not in ("x", "y")]
    if other:
        raise GraphposeError(f"{path}, line {line}: coords has '{other[0]}'; x and y are needed")
    for name in names:
        if not name[1] or names.count(name) > 1 or (*name[:2], "y" if name[2] == "x" else "x") not in names:
            label = " ".join(part for part in name[:2] if part) or "a body part without name"
            raise GraphposeError(f"{path}, line {line}: {label} needs one column x and one column y")
    return _Columns(before, names), rows[len(kinds) :]


def _row(
    path: Path, line: int, cells: list[str], columns: _Columns, animals: list[str], bodyparts: tuple[str, ...]
) -> tuple[str, np.ndarray]:
    """Image and (N, K, 3) keypoints of a row."""
    where = f"{path}, line {line}"
    needed = columns.before + len(columns.names)
    if len(cells) != needed:
        raise GraphposeError(f"{where}: {len(cells)} cells; the header has {needed}")
    image = "/".join(cell.strip().replace("\\", "/").strip("/") for cell in cells[: columns.before])
    keypoints = np.full((len(animals), len(bodyparts), 3), np.nan)
    for (animal, part, axis), cell in zip(columns.names, cells[columns.before :], strict=True):
        if animal not in animals:
            continue
        text = cell.strip()
        try:
            value = float(text or "nan")
        except ValueError:
            value = math.inf
        if math.isinf(value):
            raise GraphposeError(f"{where}: {axis} of {part} is '{text}'; a number of pixels or nothing is needed")
        keypoints[animals.index(animal), bodyparts.index(part), "xy".index(axis)] = value
    unknown = np.isnan(keypoints[:, :, :2])
    for n, k in np.argwhere(unknown.any(axis=2) & ~unknown.all(axis=2)):
        raise GraphposeError(f"{where}: {bodyparts[k]} has {'y' if unknown[n, k, 0] else 'x'} alone; both or none are "
                             f"needed")  # fmt: skip
    keypoints[:, :, 2] = np.where(unknown.any(axis=2), 0, 2)
    return image, np.where(keypoints[:, :, 2:] > 0, keypoints, 0)


def _project(path: Path) -> Path:
    folder = path.resolve().parent
    return folder.parents[1] if folder.parent.name == PLACE else folder


def _file_name(root: Path, image: str, where: str) -> str:
    """A row's image below the root, by its path or by its last part."""
    for name in (image, image.rpartition("/")[2]):
        if (root / name).is_file():
            return name
    raise GraphposeError(f"{where}: image {image} is not in {root}; name the folder above {PLACE} with --images")
