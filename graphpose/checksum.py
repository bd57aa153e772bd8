"""SHA-256 of files, read in blocks: what a file is known by wherever it lies, and whether it is whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20  # bytes that are read at once


def sha256(file: BinaryIO, length: int | None = None) -> bytes:
    """SHA-256 of the next ``length`` bytes of an open file, or of all that follow."""
    digest = hashlib.sha256()
    while block := file.read(BLOCK if length is None else min(BLOCK, length)):
        digest.update(block)
        length = None if length is None else length - len(block)
    return digest.digest()


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file in 64 hexadecimal digits; OSError where it cannot be read."""
    with open(path, "rb") as file:
        return sha256(file).hex()
