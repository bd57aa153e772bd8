"""Joining the parts of a list that several processes predicted on."""

from __future__ import annotations

import csv
import itertools
import re
from pathlib import Path

from graphpose.errors import GraphposeError
from graphpose.inference.outputs import FINISHED, IMAGES, PARQUET, RESULTS, TABLE, shard_name
from graphpose.inference.writers import AppendedFile, JsonArray, csv_lines, read_records, write_parquet


def merge(folder: Path, *, overwrite: bool = False, parquet: bool = False) -> str:
    """Join the parts in a folder; the result is what one process would have written. The parts stay.

    Args:
        folder: with results, images and, if every part has one, keypoints.csv of each part.
        overwrite: replace what was joined before.
        parquet: write keypoints.parquet, too.

    Returns:
        A line for people.

    Raises:
        GraphposeError: no parts, parts of different numbers, some that are missing or were stopped, or files that
            would be overwritten.
    """
    of = _number_of_parts(folder)
    parts = range(1, of + 1)
    missing = [str(n) for n in parts if not (folder / shard_name(IMAGES, n, of)).exists()]
    stopped = [str(n) for n in parts if str(n) not in missing and not (folder / shard_name(FINISHED, n, of)).exists()]
    if missing or stopped:
        texts = [f"part {', '.join(missing)} of {of} is missing"] if missing else []
        texts += [f"part {', '.join(stopped)} of {of} has not come to its end"] if stopped else []
        raise GraphposeError(
            f"'{folder}' cannot be joined: {'; '.join(texts)}; run it with --shard N/{of} --resume first"
        )
    tabled = all((folder / shard_name(TABLE, n, of)).exists() for n in parts)
    for name in (RESULTS, IMAGES, *([TABLE] if tabled else []), *([PARQUET] if parquet else [])):
        if not overwrite and (folder / name).exists():
            raise GraphposeError(f"'{folder / name}' exists already; --overwrite replaces it")
    if parquet and not tabled:
        raise GraphposeError(f"'{folder}' has no {TABLE} of every part; predict with --csv")
    images, results = JsonArray(folder / IMAGES), JsonArray(folder / RESULTS)
    table = None
    before, persons = 0, 0  # frames of the parts so far
    for number in parts:
        own = read_records(folder / shard_name(IMAGES, number, of))
        found = read_records(folder / shard_name(RESULTS, number, of))
        images.extend(image | {"id": image["id"] + before} for image in own)
        results.extend(result | {"image_id": result["image_id"] + before} for result in found)
        if tabled:
            with open(folder / shard_name(TABLE, number, of), newline="") as file:
                header, *rows = csv.reader(file)
            if table is None:
                table = AppendedFile(folder / TABLE, csv_lines([header]))
            table.append(csv_lines([str(int(row[0]) + before), *row[1:]] for row in rows))
        before += len(own)
        persons += len(found)
    for written in (images, results, table):
        if written is not None:
            written.close()
    if parquet:
        write_parquet(folder / TABLE, folder / PARQUET)
    return f"{of} parts with {before} frames and {persons} persons joined in {folder}"


def _number_of_parts(folder: Path) -> int:
    stem, suffix = IMAGES.rsplit(".", 1)
    names = [path.name for path in folder.glob(f"{stem}.*-of-*.{suffix}")]
    numbers = {int(match[1]) for name in names if (match := re.search(r"-of-(\d+)\.", name))}
    if not numbers:
        raise GraphposeError(f"'{folder}' has no parts of predict --shard")
    if len(numbers) > 1:
        listed = ", ".join(f"{a} and {b}" for a, b in itertools.pairwise(sorted(numbers)))
        raise GraphposeError(f"'{folder}' has parts of {listed}; take out those of another run")
    return numbers.pop()
