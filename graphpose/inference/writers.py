"""Files of predictions that are whole at every moment: after Ctrl-C, on a full disk, after a crash.

Each kind of output takes one frame after the other. ``images.json`` is written last of all: a frame is done when it is
there, and what an interrupted run left of others is taken out when it is resumed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from graphpose.errors import GraphposeError

Record = dict[str, Any]


class AppendedFile:
    """A text that grows by whole pieces before its fixed end.

    A piece that cannot be written whole, on a full disk for one, is taken back.

    Args:
        path: the file; its folder is made where it is missing. One that is there is replaced when the new one is whole.
        start: what it begins with.
        end: what stands behind all pieces.

    Raises:
        GraphposeError: it cannot be written.
    """

    def __init__(self, path: Path, start: str, end: str = "") -> None:
        self.path = path
        self._end = end.encode()
        self._position = len(start.encode())  # of the end
        write_whole(path, start.encode() + self._end)
        with writing(path):
            self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 — closed by close()

    def append(self, piece: str) -> None:
        """Write one piece; all of it or nothing."""
        with writing(self.path):
            self._write(piece.encode())

    def _write(self, piece: bytes) -> None:
        before = self._position
        try:
            self._write_at(before, piece + self._end)
        except BaseException:
            # room for the end is there: it stood at this place
            with contextlib.suppress(OSError):
                self._file.truncate(before)
                self._write_at(before, self._end)
            raise
        self._position = before + len(piece)

    def _write_at(self, position: int, content: bytes) -> None:
        left = memoryview(content)
        while left:
            written = os.pwrite(self._file.fileno(), left, position)
            left, position = left[written:], position + written

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonArray:
    """A JSON file with an array that grows; valid JSON whenever it is looked at.

    Args:
        path: the file.
        records: what it begins with.
    """

    def __init__(self, path: Path, records: Iterable[Record] = ()) -> None:
        lines = _json_lines(records)
        self._file = AppendedFile(path, "[\n" + ",\n".join(lines), "\n]\n")
        self._empty = not lines

    def extend(self, records: Iterable[Record]) -> None:
        """Write records; all of them or none."""
        lines = _json_lines(records)
        if lines:
            self._file.append(("" if self._empty else ",\n") + ",\n".join(lines))
            self._empty = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _json_lines(records: Iterable[Record]) -> list[str]:
    return [json.dumps(record) for record in records]


class KeypointTable:
    """CSV with a row for each person of each frame; no rows for frames without a person.

    Columns: image_id, file_name, frame (empty for image files), track_id (empty without tracking), person (from 0, best
    first), score, then x, y and confidence of each keypoint as NAME_x, NAME_y, NAME_confidence; empty where a keypoint
    was not found.

    Args:
        path: the file.
        keypoints: names.
        rows: what it begins with, as :meth:`rows` makes them.
    """

    def __init__(self, path: Path, keypoints: Sequence[str], rows: Iterable[Sequence[Any]] = ()) -> None:
        names = [f"{name}_{value}" for name in keypoints for value in ("x", "y", "confidence")]
        self.columns = ["image_id", "file_name", "frame", "track_id", "person", "score", *names]
        self._file = AppendedFile(path, csv_lines([self.columns, *rows]))

    def extend(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows; all of them or none."""
        self._file.append(csv_lines(rows))

    @staticmethod
    def rows(image: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        """Rows of one frame: its record of images.json, and its records of results.json."""
        rows = []
        for person, result in enumerate(results):
            row = [image["id"], image["file_name"], image.get("frame"), result.get("track_id"), person, result["score"]]
            values = result["keypoints"]
            for k in range(0, len(values), 3):
                row += values[k : k + 3] if values[k + 2] > 0 else [None, None, None]
            rows.append(row)
        return rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as the text of a CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_parquet(table: Path, path: Path) -> None:
    """A CSV of :class:`KeypointTable` as Parquet, with the same columns.

    Raises:
        GraphposeError: the package pyarrow is missing, or the file cannot be written.
    """
    require_pyarrow()
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    whole = {"image_id", "frame", "track_id", "person"}
    with open(table, newline="") as file:
        columns = next(csv.reader(file))
    types = {
        name: pyarrow.string() if name == "file_name" else pyarrow.int64() if name in whole else pyarrow.float64()
        for name in columns
    }
    with writing(path):
        content = pyarrow.csv.read_csv(table, convert_options=pyarrow.csv.ConvertOptions(column_types=types))
        pyarrow.parquet.write_table(content, path)


def require_pyarrow() -> None:
    """GraphposeError where the package that writes Parquet is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise GraphposeError(
            "Parquet needs the package 'pyarrow': pip install 'graphpose[tables]', or take --csv"
        ) from None


def openpifpaf_records(results: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Records of one image in the layout of OpenPifPaf's ``predict --json-output`` (0.11 to 0.13).

    Args:
        results: COCO results of one image.

    Returns:
        "keypoints" flat as x, y, confidence with two decimals, "bbox" x, y, width, height around the keypoints found,
        "score" with three decimals, 0.001 at least, "category_id", and ``id_`` where persons are tracked.
    """
    records = []
    for result in results:
        record = {
            "keypoints": [round(value, 2) for value in result["keypoints"]],
            "bbox": [round(value, 2) for value in bounding_box(result["keypoints"])],
            "score": max(0.001, round(result["score"], 3)),
            "category_id": result["category_id"],
        }
        if "track_id" in result:
            record["id_"] = result["track_id"]
        records.append(record)
    return records


def bounding_box(keypoints: Sequence[float]) -> list[float]:
    """x, y, width, height around the keypoints found, of flat x, y, confidence; zeros where there is none."""
    xs = [x for x, c in zip(keypoints[0::3], keypoints[2::3], strict=True) if c > 0]
    ys = [y for y, c in zip(keypoints[1::3], keypoints[2::3], strict=True) if c > 0]
    if not xs:
        return [0.0, 0.0, 0.0, 0.0]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, all of it or nothing; its folder is made where it is missing."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def encode_image(path: Path, image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as the content of an image file of ``path``'s ending."""
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()


class VideoWriter:
    """An MP4 (MPEG-4 part 2, no sound) that has its name when it is closed, and ends well then.

    Args:
        path: the file, .mp4.
        rate: frames per second.
        size: height and width of the first frame; others are resized to it.

    Raises:
        GraphposeError: it cannot be written.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.part{path.suffix}")
        self._size = (size[1] - size[1] % 2 or 2, size[0] - size[0] % 2 or 2)  # the codec wants even numbers
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, fourcc, rate, self._size)
        if not self._writer.isOpened():
            raise GraphposeError(f"video {path} cannot be written; is the folder full or not to be written to?")

    def write(self, image: np.ndarray) -> None:
        """One more frame, (H, W, 3) uint8 RGB."""
        width, height = self._size
        if image.shape[0] - height not in (0, 1) or image.shape[1] - width not in (0, 1):
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(np.ascontiguousarray(cv2.cvtColor(image[:height, :width], cv2.COLOR_RGB2BGR)))

    def close(self) -> None:
        """End the file and give it its name."""
        self._writer.release()
        with writing(self.path):
            os.replace(self._part, self.path)


@contextlib.contextmanager
def writing(path: Path) -> Any:
    """An OSError inside is a GraphposeError that names the file."""
    try:
        yield
    except OSError as error:
        raise GraphposeError(f"{path} cannot be written: {error.strerror or error}") from None


def read_records(path: Path, wanted: Callable[[Record], bool] = lambda record: True) -> list[Record]:
    """Records of a JSON array on disk; GraphposeError where it cannot be read or is none."""
    try:
        records = json.loads(path.read_text())
    except OSError as error:
        raise GraphposeError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise GraphposeError(f"{path} is not JSON: {error}") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise GraphposeError(f"{path} must be an array of objects, as predict writes it")
    return [record for record in records if wanted(record)]
