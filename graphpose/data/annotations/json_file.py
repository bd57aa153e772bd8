"""Parsing large JSON files: plain or gzipped, with the garbage collector out of the way."""

from __future__ import annotations

import gc
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from graphpose.errors import GraphposeError

Parsed = TypeVar("Parsed")


def parse_json(path: Path, parse: Callable[[Any], Parsed], progress: bool = False) -> Parsed:
    """What ``parse`` makes of the content of a ``.json`` or ``.json.gz`` file.

    Parsing makes millions of objects and no cycle, and walking them over and over doubles its time, so the garbage
    collector is paused until they are gone again: keep no reference to the content.

    Args:
        path: the file.
        parse: is given the content and returns what is kept of it.
        progress: show a bar on a terminal's standard error.

    Raises:
        GraphposeError: naming the file, when it cannot be read, or as ``parse`` does.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return parse(_content(path, progress))
    finally:
        if enabled:
            gc.enable()


def _content(path: Path, progress: bool) -> Any:
    try:
        shown = {"total": path.stat().st_size, "desc": f"read {path.name}", "disable": None if progress else True}
        with path.open("rb") as file, tqdm.wrapattr(file, "read", **shown) as stream:
            opened = gzip.GzipFile(fileobj=stream) if path.suffix == ".gz" else stream
            text = b"".join(iter(lambda: opened.read(1 << 20), b""))
    except FileNotFoundError:
        raise GraphposeError(f"annotation file {path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise GraphposeError(f"annotation file {path} cannot be read: {error}") from error
    if not text.strip():
        raise GraphposeError(f"annotation file {path} is empty; a JSON object with images and annotations is needed")
    try:
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GraphposeError(f"annotation file {path} is not valid JSON: {error}") from error
