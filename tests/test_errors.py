"""Output never fails for a name."""

import io
import sys

import pytest

from graphpose.errors import escape_output


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
