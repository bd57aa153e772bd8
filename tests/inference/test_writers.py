"""Files of predictions are whole at every moment."""

import csv
import errno
import json
import os

import numpy as np
import pytest

from graphpose.errors import GraphposeError
from graphpose.inference.sources import find_sources
from graphpose.inference.writers import (
    AppendedFile,
    JsonArray,
    KeypointTable,
    VideoWriter,
    bounding_box,
    openpifpaf_records,
    read_records,
    write_whole,
)
from tests.inference.films import number_image


@pytest.fixture
def full_disk(monkeypatch):
    """From the call on, a write gets through by half and the next one not at all."""

    def fill():
        write, calls = os.pwrite, []

        def pwrite(file, content, position):
            calls.append(len(content))
            if len(calls) == 1:
                return write(file, content[: len(content) // 2], position)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(file, content, position)

        monkeypatch.setattr(os, "pwrite", pwrite)

    return fill


def test_an_array_is_valid_json_after_every_piece(tmp_path):
    path = tmp_path / "below" / "results.json"
    array = JsonArray(path)
    assert json.loads(path.read_text()) == []
    records = [{"n": n, "name": "Zoë"} for n in range(5)]
    for end, piece in ((0, []), (2, records[:2]), (5, records[2:])):
        array.extend(piece)
        assert json.loads(path.read_text()) == records[:end]
    array.close()
    again = JsonArray(path, records)
    assert json.loads(path.read_text()) == records
    again.extend([{"n": 5}])
    assert json.loads(path.read_text()) == [*records, {"n": 5}]


def test_a_piece_that_a_full_disk_cuts_is_taken_back(tmp_path, full_disk):
    path = tmp_path / "results.json"
    array = JsonArray(path, [{"n": 0}])
    before = path.read_bytes()
    full_disk()
    with pytest.raises(GraphposeError, match=r"results\.json cannot be written: No space left on device"):
        array.extend([{"n": 1, "text": "x" * 1000}])
    assert path.read_bytes() == before
    array.extend([{"n": 1}])
    assert json.loads(path.read_text()) == [{"n": 0}, {"n": 1}]


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_whole(path, b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(GraphposeError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(GraphposeError, match=r"cannot be written: (Not a directory|File exists)"):
        AppendedFile(tmp_path / "a" / "b", "")


RESULTS = [
    {"image_id": 7, "category_id": 1, "keypoints": [1.5, 2.25, 0.5, 0.0, 0.0, 0.0, 4.126, 8.0, 0.25], "score": 0.61249},
    {"image_id": 7, "category_id": 1, "keypoints": [0.0] * 9, "score": 0.0001, "track_id": 12},
]


def test_a_table_has_a_row_for_each_person_and_leaves_out_what_was_not_found(tmp_path):
    image = {"id": 7, "file_name": "a, b.mp4", "frame": 3}
    table = KeypointTable(tmp_path / "t.csv", ["nose", "hip", "toe"], KeypointTable.rows(image, RESULTS[:1]))
    table.extend(KeypointTable.rows({"id": 8, "file_name": "c.jpg"}, RESULTS[1:]))
    with open(tmp_path / "t.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert [first[name] for name in ("image_id", "file_name", "frame", "track_id", "person", "score")] == [
        "7", "a, b.mp4", "3", "", "0", "0.61249",
    ]  # fmt: skip
    assert [first[f"nose_{v}"] for v in ("x", "y", "confidence")] == ["1.5", "2.25", "0.5"]
    assert first["hip_x"] == first["hip_confidence"] == ""
    assert (second["track_id"], second["frame"]) == ("12", "")


def test_records_have_the_layout_of_openpifpaf():
    assert openpifpaf_records(RESULTS) == [
        {
            "keypoints": [1.5, 2.25, 0.5, 0.0, 0.0, 0.0, 4.13, 8.0, 0.25],
            "bbox": [1.5, 2.25, 2.63, 5.75],
            "score": 0.612,
            "category_id": 1,
        },
        {"keypoints": [0.0] * 9, "bbox": [0.0] * 4, "score": 0.001, "category_id": 1, "id_": 12},
    ]
    assert bounding_box([3, 4, 1, 0, 0, 0]) == [3, 4, 0, 0]


@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
def test_a_video_has_its_name_when_it_is_closed_and_keeps_rate_and_number_of_frames(tmp_path, size):
    path = tmp_path / "new" / "v.mp4"
    writer = VideoWriter(path, 30000 / 1001, size)
    for number in range(10):
        writer.write(number_image(number, *size))
    assert not path.exists()
    writer.close()
    with find_sources([path]).items[0].open() as reader:
        assert reader.rate == pytest.approx(29.97, abs=0.01)
        assert reader.count == 10
        frame = reader.read()
    assert frame.shape == (48, 64, 3)
    assert np.abs(frame.astype(int) - number_image(0, *size)[:48, :64]).mean() < 12


def test_records_that_predict_did_not_write_are_named(tmp_path):
    path = tmp_path / "images.json"
    for content, message in (("[1]", "must be an array of objects"), ("[", "is not JSON")):
        path.write_text(content)
        with pytest.raises(GraphposeError, match=message):
            read_records(path)


def test_parquet_has_the_tables_columns(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    from graphpose.inference.writers import write_parquet

    image = {"id": 7, "file_name": "a.mp4", "frame": 3}
    KeypointTable(tmp_path / "t.csv", ["nose", "hip", "toe"], KeypointTable.rows(image, RESULTS)).close()
    write_parquet(tmp_path / "t.csv", tmp_path / "t.parquet")
    table = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert table["track_id"] == [None, 12]
    assert table["nose_x"] == [1.5, None]
    assert table["file_name"] == ["a.mp4", "a.mp4"]
