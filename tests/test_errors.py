"""Output never fails for a name, and what was found is written before it is printed."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphpose.errors import escape_output
from graphpose.fields.pose import Poses
from graphpose.inference.predict import predict_files


def narrow(encoding: str) -> io.TextIOWrapper:
    """A stream that refuses what its encoding does not have, as a terminal's or a pipe's does."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "latin-1"])
@pytest.mark.parametrize("name", ["图片.png", "caf\udce9.jpg", "Łódź – 1.png", "😀.jpg", "plain.png"])
def test_any_name_can_be_printed_to_any_stream(monkeypatch: pytest.MonkeyPatch, encoding: str, name: str) -> None:
    monkeypatch.setattr(sys, "stdout", narrow(encoding))
    monkeypatch.setattr(sys, "stderr", narrow(encoding))
    try:
        name.encode(encoding)
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            print(name, flush=True)
        monkeypatch.setattr(sys, "stdout", narrow(encoding))
    escape_output()
    for stream in (sys.stdout, sys.stderr):
        print(name, file=stream, flush=True)
        assert stream.buffer.getvalue().decode(encoding).rstrip() == name.encode(encoding, "backslashreplace").decode(
            encoding
        )


def test_streams_that_are_no_text_files_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        escape_output()


class Nobody:
    """A predictor that finds nobody."""

    def predict_file(self, path: Path) -> tuple[None, Poses]:
        class Picture:
            shape = (3, 4, 3)

        return Picture(), Poses.empty(17)  # type: ignore[return-value]


def test_what_was_found_is_written_when_the_loop_around_it_ends_early(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("图片.png", "caf\udce9.jpg", "c.png")]
    found: Iterator = predict_files(Nobody(), names, tmp_path / "out", draw=False)  # type: ignore[arg-type]
    next(found)
    next(found)
    with pytest.raises(UnicodeEncodeError):
        found.throw(UnicodeEncodeError("ascii", "é", 0, 1, "no such letter"))
    images = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [image["file_name"] for image in images] == ["图片.png", "caf\udce9.jpg"]
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []
