"""Parsing JSON files: the garbage collector is paused while the content is there, and only then."""

import gc
from pathlib import Path
from typing import Any

import pytest

from graphpose.data.annotations.json_file import parse_json


def test_the_collector_rests_while_content_is_parsed_and_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("[1, 2]")

    def refuse(content: Any) -> None:
        raise ValueError(content)

    assert gc.isenabled()
    assert parse_json(path, lambda content: (sum(content), gc.isenabled())) == (3, False)
    assert gc.isenabled()
    with pytest.raises(ValueError, match="1, 2"):
        parse_json(path, refuse)
    assert gc.isenabled()
    gc.disable()
    try:
        parse_json(path, len)
        assert not gc.isenabled()
    finally:
        gc.enable()
