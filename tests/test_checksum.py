"""SHA-256 of files, against published values and the whole file at once."""

import hashlib
import io
from pathlib import Path

import pytest

from graphpose.checksum import BLOCK, file_sha256, sha256


def test_the_sha256_of_abc_is_that_of_fips_180(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("length", [None, 0, 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_blocks_make_the_sha256_of_what_is_left_or_of_a_part_of_it(length: int | None) -> None:
    content = bytes(range(251)) * (3 * BLOCK // 251)
    file = io.BytesIO(content)
    file.seek(7)
    end = None if length is None else 7 + length
    assert sha256(file, length) == hashlib.sha256(content[7:end]).digest()
