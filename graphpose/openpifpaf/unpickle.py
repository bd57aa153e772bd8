"""Reads pickled PyTorch modules without running anything that stands in the file.

An OpenPifPaf checkpoint is a pickle of whole modules, so ``torch.load`` would have to import their classes and call
whatever else the file names. Here ``pickletools`` parses the file into opcodes, and a stack machine of our own follows
those that build data. Nothing is imported or looked up by name: a name is a :class:`Name`, an object of a class is an
:class:`Instance` that holds its state, and of the calls that a pickle can ask for only those of :data:`CALLS` are
answered, by functions of this module. Every other one is refused by name.

Source: the pickle protocol as ``pickletools`` documents it; the two containers of ``torch.serialization``, a sequence
of pickles and storages (until 2020) and a zip archive (since).
"""

from __future__ import annotations

import dataclasses
import os
import pickletools
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from graphpose.errors import GraphposeError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
ZIP_MAGIC = b"PK\x03\x04"

STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
NUMBERS = re.compile(r"[biufc]\d{1,2}")  # numpy's type codes of plain numbers

_MARK = object()


class _CallError(GraphposeError):
    """A pickle names a function, or a class of Python's own, that builds no tensor and no plain container."""

    def __init__(self, name: object) -> None:
        super().__init__(
            f"it asks for '{name}', which is neither a tensor nor a plain container nor a part of a network; nothing "
            "of the file was run"
        )


@dataclasses.dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; nothing is imported.

    Attributes:
        module: as written in the file.
        name: as written in the file.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(eq=False)
class Instance:
    """An object of a class that is not here: the class's name and the state, without behaviour.

    Attributes:
        kind: its class.
        state: its attributes.
    """

    kind: Name
    state: dict[str, Any] = dataclasses.field(default_factory=dict)

    def module(self, name: str) -> Any:
        """A child of a pickled ``torch.nn.Module``; None where it has none of that name."""
        return self._of("_modules").get(name)

    @property
    def children(self) -> dict[str, Any]:
        """The children of a pickled ``torch.nn.Module`` by name, in order."""
        return {name: child for name, child in self._of("_modules").items() if child is not None}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its own parameters and buffers by name."""
        own = {**self._of("_parameters"), **self._of("_buffers")}
        return {name: value for name, value in own.items() if isinstance(value, Tensor)}

    def _of(self, key: str) -> Mapping[str, Any]:
        values = self.state.get(key)
        return values if isinstance(values, dict) else {}


@dataclasses.dataclass(eq=False)
class _Dtype:
    """A numpy type that a pickle describes."""

    code: str
    order: str = "<"


@dataclasses.dataclass(eq=False)
class _Array:
    """A numpy array that a pickle describes; its numbers come with its state."""

    values: np.ndarray | None = None


def load_pickle(path: Path) -> Any:
    """The object in a file of ``torch.save``, old container or new, as plain containers, tensors and Instances.

    Memory: the file's storages, once, and each at most a second time while it is read.

    Args:
        path: the file.

    Raises:
        GraphposeError: the file cannot be read, is truncated, is no pickle, or asks for a call that is not one of
            :data:`CALLS`; the message names it.
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

    def persistent(self, identity: Any) -> Any:
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
        magic = _Machine(_no_reference).run(file)
    except _CallError:
        raise
    except Exception as error:  # whatever else the file is, its first bytes do not parse
        raise GraphposeError(
            "it is no file of torch.save: neither a zip archive nor a pickle with its magic"
        ) from error
    if magic != LEGACY_MAGIC:
        raise GraphposeError("it is no file of torch.save: neither a zip archive nor a pickle with its magic")
    if _Machine(_no_reference).run(file) != LEGACY_PROTOCOL:
        raise GraphposeError("it has an unknown protocol of torch.save; 1001 is read")
    system = _Machine(_no_reference).run(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise GraphposeError("it was written on a big-endian machine; save it again on a little-endian one")
    storages = _Storages(size)
    content = _Machine(storages.persistent).run(file)
    for key in _Machine(_no_reference).run(file):
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
            content = _Machine(storages.persistent).run(entry)
        for key, storage in storages.by_key.items():
            try:
                entry = archive.open(f"{prefix}data/{key}")
            except KeyError:
                raise GraphposeError(f"it is damaged: it lacks storage '{key}'") from None
            with entry:
                _fill(storage, entry, key)
    return content


def _fill(storage: Tensor, file: Any, key: str) -> None:
    """Read a storage's bytes into its memory."""
    target = memoryview(storage.view(torch.uint8).numpy().data)
    done = 0
    while done < len(target):
        count = file.readinto(target[done : done + (1 << 20)])
        if not count:
            raise GraphposeError(f"it is truncated: storage '{key}' ends after {done} of {len(target)} bytes")
        done += count


def _no_reference(identity: Any) -> Any:
    raise GraphposeError("its header refers to something outside of it")


class _Machine:
    """The stack of a pickle.

    Args:
        persistent: gives what a persistent id stands for.
    """

    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: Any) -> Any:
        """Follow one pickle to its end; the file then stands behind it."""
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return self.stack.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise GraphposeError(f"its pickle uses {opcode.name}, which builds no tensor or plain container")
            step(self, argument)
        raise GraphposeError("it is truncated")

    def since_mark(self) -> list[Any]:
        """Take what was pushed after the last mark, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise GraphposeError("it is damaged: its pickle has no mark where one is needed")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def take(self, count: int) -> list[Any]:
        items = self.stack[len(self.stack) - count :]
        if len(items) < count or any(item is _MARK for item in items):
            raise GraphposeError("it is damaged: its pickle takes more than it has put down")
        del self.stack[len(self.stack) - count :]
        return items


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _put(machine: _Machine, index: int) -> None:
    machine.memo[int(index)] = machine.stack[-1]


def _get(machine: _Machine, index: int) -> None:
    machine.stack.append(machine.memo[int(index)])


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is list:
        target.extend(items)
    elif type(target) is set:
        target.update(items)
    else:
        raise GraphposeError(f"its pickle adds items to a {_kind(target)}, which is no plain container")


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) not in (dict, OrderedDict):
        raise GraphposeError(f"its pickle sets items of a {_kind(target)}, which is no plain container")
    target.update(zip(items[::2], items[1::2], strict=True))


def _call_by_name(machine: _Machine, argument: str) -> None:
    raise _CallError(argument.replace(" ", "."))


def _name(machine: _Machine, argument: str | None) -> None:
    module, name = argument.split(" ", 1) if argument is not None else machine.take(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise GraphposeError("it is damaged: its pickle names a class by something that is no text")
    found = Name(module, name)
    if _is_callable_elsewhere(found):
        raise _CallError(found)
    machine.stack.append(found)


def _is_callable_elsewhere(name: Name) -> bool:
    """Whether a name belongs to Python, numpy or torch and is none of those that a network's file needs."""
    if str(name) in CALLS or str(name) in STORAGES or str(name) in NAMES:
        return False
    root = name.module.split(".")[0]
    if root == "torch":
        return not name.module.startswith(("torch.nn.modules.", "torch.nn.parallel.", "torch.nn.parameter"))
    return root in sys.stdlib_module_names or root in ("__builtin__", "copy_reg", "numpy")


def _reduce(machine: _Machine, _: Any) -> None:
    function, arguments = machine.take(2)
    call = CALLS.get(str(function)) if isinstance(function, Name) else None
    if call is None or type(arguments) is not tuple:
        raise _CallError(function if isinstance(function, Name) else _kind(function))
    machine.stack.append(call(*arguments))


def _new(machine: _Machine, _: Any) -> None:
    kind, _arguments = machine.take(2)
    if not isinstance(kind, Name):
        raise GraphposeError(f"it is damaged: its pickle makes an object of a {_kind(kind)}")
    plain = _PLAIN_CLASSES.get(str(kind))
    machine.stack.append(Instance(kind) if plain is None else plain())


def _build(machine: _Machine, _: Any) -> None:
    (state,) = machine.take(1)
    target = machine.stack[-1]
    if isinstance(target, Instance):
        for part in state if type(state) is tuple else (state,):
            if isinstance(part, dict):
                target.state.update({str(key): value for key, value in part.items()})
    elif isinstance(target, _Dtype):
        target.order = str(state[1])
    elif isinstance(target, _Array):
        target.values = _numbers(*state[1:])
    elif type(target) is not OrderedDict:  # a state dict's metadata, which nothing here reads
        raise GraphposeError(f"its pickle sets attributes of a {_kind(target)}, which has none")


def _kind(value: Any) -> str:
    return str(value.kind) if isinstance(value, Instance) else type(value).__name__


def _numbers(shape: Any, dtype: Any, fortran: Any, data: Any) -> np.ndarray:
    """The array of numbers that a pickled numpy array's state describes."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise GraphposeError("it holds a numpy object array, whose items could be anything; arrays of numbers are read")
    order = dtype.order if dtype.order in "<>=" else ""
    values = np.frombuffer(data, np.dtype(order + dtype.code))
    return values.reshape(tuple(int(n) for n in shape), order="F" if fortran else "C")


def _make_dtype(code: Any, *_: Any) -> _Dtype:
    if not isinstance(code, str) or not NUMBERS.fullmatch(code):
        what = "object array" if isinstance(code, str) and code.startswith("O") else f"array of type '{code}'"
        raise GraphposeError(f"it holds a numpy {what}, whose items could be anything; arrays of numbers are read")
    return _Dtype(code)


def _make_scalar(dtype: _Dtype, data: bytes) -> Any:
    return _numbers((), dtype, False, data)[()].item()


def _make_bytes(text: str, encoding: str = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise GraphposeError(f"it encodes bytes as '{encoding}'; pickles use latin1")
    return text.encode("latin1")


def _make_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise GraphposeError(f"it is damaged: a tensor is made of a {_kind(storage)}")
    return storage.as_strided(tuple(size), tuple(stride), offset)  # torch refuses what lies outside of the storage


def _make_parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise GraphposeError(f"it is damaged: a parameter is made of a {_kind(data)}")
    return data


# What a pickle may ask to be called, and what is called in its place.
CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _make_tensor,
    "torch._utils._rebuild_tensor_v2": _make_tensor,
    "torch._utils._rebuild_parameter": _make_parameter,
    "torch.device": lambda *parts: ":".join(str(part) for part in parts),
    "torch.Size": lambda sizes=(): tuple(sizes),
    "collections.OrderedDict": lambda items=(): OrderedDict(items),
    "_codecs.encode": _make_bytes,
    "numpy.dtype": _make_dtype,
}
for _module in ("builtins", "__builtin__"):
    CALLS |= {
        f"{_module}.set": lambda items=(): set(items),
        f"{_module}.frozenset": lambda items=(): frozenset(items),
        f"{_module}.list": lambda items=(): list(items),
        f"{_module}.tuple": lambda items=(): tuple(items),
        f"{_module}.dict": lambda items=(): dict(items),
        f"{_module}.bytes": lambda items=(): bytes(tuple(items)),
    }
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    CALLS |= {f"{_module}._reconstruct": lambda *_: _Array(), f"{_module}.scalar": _make_scalar}
for _module in ("pathlib", "pathlib._local"):  # a training run's arguments hold paths
    CALLS |= {
        f"{_module}.{name}": lambda *parts: "/".join(str(part) for part in parts)
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    }

# Names that stand in a file without being called.
NAMES = {"numpy.ndarray", "argparse.Namespace", "collections.OrderedDict"}
_PLAIN_CLASSES: dict[str, Callable[[], Any]] = {"collections.OrderedDict": OrderedDict}

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "MARK": lambda machine, argument: _push(machine, _MARK),
    "POP": lambda machine, argument: machine.stack.__delitem__(-1),
    "POP_MARK": lambda machine, argument: machine.since_mark().clear(),
    "DUP": lambda machine, argument: _push(machine, machine.stack[-1]),
    "NONE": lambda machine, argument: _push(machine, None),
    "NEWTRUE": lambda machine, argument: _push(machine, True),
    "NEWFALSE": lambda machine, argument: _push(machine, False),
    "EMPTY_DICT": lambda machine, argument: _push(machine, {}),
    "EMPTY_LIST": lambda machine, argument: _push(machine, []),
    "EMPTY_TUPLE": lambda machine, argument: _push(machine, ()),
    "EMPTY_SET": lambda machine, argument: _push(machine, set()),
    "LIST": lambda machine, argument: _push(machine, machine.since_mark()),
    "TUPLE": lambda machine, argument: _push(machine, tuple(machine.since_mark())),
    "TUPLE1": lambda machine, argument: _push(machine, tuple(machine.take(1))),
    "TUPLE2": lambda machine, argument: _push(machine, tuple(machine.take(2))),
    "TUPLE3": lambda machine, argument: _push(machine, tuple(machine.take(3))),
    "FROZENSET": lambda machine, argument: _push(machine, frozenset(machine.since_mark())),
    "APPEND": lambda machine, argument: _append(machine, machine.take(1)),
    "APPENDS": lambda machine, argument: _append(machine, machine.since_mark()),
    "ADDITEMS": lambda machine, argument: _append(machine, machine.since_mark()),
    "SETITEM": lambda machine, argument: _set_items(machine, machine.take(2)),
    "SETITEMS": lambda machine, argument: _set_items(machine, machine.since_mark()),
    "GLOBAL": _name,
    "STACK_GLOBAL": _name,
    "REDUCE": _reduce,
    "INST": _call_by_name,
    "NEWOBJ": _new,
    "BUILD": _build,
    "BINPERSID": lambda machine, argument: _push(machine, machine.persistent(machine.take(1)[0])),
    "MEMOIZE": _memoize,
}
_STEPS |= dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put)
_STEPS |= dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get)
# What stands in the opcode's argument.
_LITERALS = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8",
)  # fmt: skip
_STEPS |= dict.fromkeys(_LITERALS, _push)
