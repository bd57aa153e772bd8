"""Reads pickled PyTorch modules without running anything that stands in the file.

An OpenPifPaf checkpoint is a pickle of whole modules, so ``torch.load`` would have to import their classes and call
whatever else the file names. Here a stack machine of our own (:mod:`~graphpose.openpifpaf.stack_machine`) follows the
opcodes that build data, and what they name or call becomes plain data, too
(:mod:`~graphpose.openpifpaf.pickled_objects`). This module reads the two containers around the pickle.

Source: the containers of ``torch.serialization``: a sequence of pickles and storages before PyTorch 1.6, a zip archive
from then on.
"""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn

import torch
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.openpifpaf.pickled_objects import STORAGES, CallError
from graphpose.openpifpaf.stack_machine import Machine

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
ZIP_MAGIC = b"PK\x03\x04"


def load_pickle(path: Path) -> Any:
    """The object in a file of ``torch.save``, old container or new, as plain containers, tensors and Instances.

    Memory: the file's storages, once, and each at most a second time while it is read.

    Args:
        path: the file.

    Raises:
        GraphposeError: the file cannot be read, is truncated, is no pickle, or asks for a call that is not one of
            :data:`~graphpose.openpifpaf.pickled_objects.CALLS`; the message names it.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
                return _load_zip(file)
            file.seek(0)
            return _load_legacy(file)
    except GraphposeError as error:
        raise GraphposeError(f"'{path}': {error}") from None
    except OSError as error:
        raise GraphposeError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle can break a parser or a stack in any way; all mean the same here
        raise GraphposeError(
            f"'{path}' cannot be read: it is truncated, damaged or no file of torch.save ({type(error).__name__}: "
            f"{error})"
        ) from error


class _Storages:
    """Storages of a file by key, as flat tensors, allocated when first named and filled by the container's reader.

    Args:
        room: bytes of the file; its storages cannot have more.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.by_key: dict[str, Tensor] = {}

    def get(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        if key in self.by_key:
            return self.by_key[key]
        self.room -= count * dtype.itemsize
        if count < 0 or self.room < 0:
            raise GraphposeError(f"it is truncated or damaged: storage '{key}' of {count} numbers is not in it")
        self.by_key[key] = torch.empty(count, dtype=dtype)
        return self.by_key[key]

    def persistent(self, identity: object) -> Any:
        """What torch's persistent ids stand for: a storage, or a class with its source code, which is not read."""
        if isinstance(identity, tuple) and identity and identity[0] == "module":
            return identity[1]
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise GraphposeError(f"it refers to '{str(identity)[:80]}', which is neither a storage nor a module")
        _, kind, key, _, count, *view = identity
        if str(kind) not in STORAGES:
            raise GraphposeError(f"it asks for a storage of kind '{kind}'; {', '.join(STORAGES)} are read")
        storage = self.get(str(key), STORAGES[str(kind)], int(count))
        if view and view[0] is not None:
            _, begin, size = view[0]
            return storage[int(begin) : int(begin) + int(size)]
        return storage


def _load_legacy(file: BinaryIO) -> Any:
    """Magic, protocol, system, object and keys as five pickles, then the storages: a count and the numbers each."""
    size = os.fstat(file.fileno()).st_size
    try:
        magic = Machine(_no_reference).run(file)
    except CallError:
        raise
    except Exception as error:  # whatever else the file is, its first bytes do not parse
        raise GraphposeError(
            "it is no file of torch.save: neither a zip archive nor a pickle with its magic"
        ) from error
    if magic != LEGACY_MAGIC:
        raise GraphposeError("it is no file of torch.save: neither a zip archive nor a pickle with its magic")
    if Machine(_no_reference).run(file) != LEGACY_PROTOCOL:
        raise GraphposeError("it has an unknown protocol of torch.save; 1001 is read")
    system = Machine(_no_reference).run(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise GraphposeError("it was written on a big-endian machine; save it again on a little-endian one")
    storages = _Storages(size)
    content = Machine(storages.persistent).run(file)
    for key in Machine(_no_reference).run(file):
        storage = storages.by_key[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.numel():
            raise GraphposeError(
                f"it is damaged: storage '{key}' has {count} numbers where {storage.numel()} were said"
            )
        _fill(storage, file, str(key))
    return content


def _load_zip(file: BinaryIO) -> Any:
    """An archive of one pickle, ``data.pkl``, and one stored entry for each storage."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.split("/", 1)[-1] == "data.pkl"]
        if len(names) != 1:
            raise GraphposeError("it is a zip archive, but no file of torch.save: one 'data.pkl' is expected")
        prefix = names[0][: -len("data.pkl")]
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise GraphposeError("it is a compressed archive; torch.save stores its tensors as they are")
        if f"{prefix}byteorder" in archive.namelist() and archive.read(f"{prefix}byteorder") != b"little":
            raise GraphposeError("it was written on a big-endian machine; save it again on a little-endian one")
        storages = _Storages(size)
        with archive.open(names[0]) as entry:
            content = Machine(storages.persistent).run(entry)
        for key, storage in storages.by_key.items():
            try:
                entry = archive.open(f"{prefix}data/{key}")
            except KeyError:
                raise GraphposeError(f"it is damaged: it lacks storage '{key}'") from None
            with entry:
                _fill(storage, entry, key)
    return content


def _fill(storage: Tensor, file: IO[bytes], key: str) -> None:
    """Read a storage's bytes into its memory."""
    target = memoryview(storage.view(torch.uint8).numpy().data)
    done = 0
    while done < len(target):
        chunk = file.read(min(1 << 20, len(target) - done))
        if not chunk:
            raise GraphposeError(f"it is truncated: storage '{key}' ends after {done} of {len(target)} bytes")
        target[done : done + len(chunk)] = chunk
        done += len(chunk)


def _no_reference(identity: object) -> NoReturn:
    raise GraphposeError("its header refers to something outside of it")
