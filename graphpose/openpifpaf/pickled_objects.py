"""What names, objects and calls in a pickle become; nothing is imported or looked up by name.

A name is a :class:`Name`, an object of a class is an :class:`Instance` that holds its state, and of the calls that a
pickle can ask for only those of :data:`CALLS` are answered, by functions of this module. Every other one is refused by
name.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpose.errors import GraphposeError

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


class CallError(GraphposeError):
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

    def part(self, name: str, where: str) -> Instance:
        """A child that has to be there; GraphposeError that begins with ``where`` without it."""
        child = self.module(name)
        if not isinstance(child, Instance):
            raise GraphposeError(f"{where} ({self.kind}) lacks '{name}'")
        return child

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
class PickledDtype:
    """A numpy type that a pickle describes."""

    code: str
    order: str = "<"


@dataclasses.dataclass(eq=False)
class PickledArray:
    """A numpy array that a pickle describes; its numbers come with its state."""

    values: np.ndarray | None = None


def is_callable_elsewhere(name: Name) -> bool:
    """Whether a name belongs to Python, numpy or torch and is none of those that a network's file needs."""
    if str(name) in CALLS or str(name) in STORAGES or str(name) in NAMES:
        return False
    root = name.module.split(".")[0]
    if root == "torch":
        return not name.module.startswith(("torch.nn.modules.", "torch.nn.parallel.", "torch.nn.parameter"))
    return root in sys.stdlib_module_names or root in ("__builtin__", "copy_reg", "numpy")


def kind_of(value: object) -> str:
    """What a value of a pickle is, for messages: the class that the file names, or Python's."""
    return str(value.kind) if isinstance(value, Instance) else type(value).__name__


def numbers(shape: Iterable[int], dtype: object, fortran: bool, data: object) -> np.ndarray:
    """The array of numbers that a pickled numpy array's state describes.

    Args:
        shape: of the array.
        dtype: a :class:`PickledDtype`.
        fortran: columns come first.
        data: the array's bytes.

    Raises:
        GraphposeError: the array is one of objects.
    """
    if not isinstance(dtype, PickledDtype) or not isinstance(data, bytes):
        raise GraphposeError("it holds a numpy object array, whose items could be anything; arrays of numbers are read")
    order = dtype.order if dtype.order in "<>=" else ""
    values = np.frombuffer(data, np.dtype(order + dtype.code))
    return values.reshape(tuple(int(n) for n in shape), order="F" if fortran else "C")


def _make_dtype(code: object, *_: object) -> PickledDtype:
    if not isinstance(code, str) or not NUMBERS.fullmatch(code):
        what = "object array" if isinstance(code, str) and code.startswith("O") else f"array of type '{code}'"
        raise GraphposeError(f"it holds a numpy {what}, whose items could be anything; arrays of numbers are read")
    return PickledDtype(code)


def _make_scalar(dtype: PickledDtype, data: bytes) -> bool | int | float | complex:
    return numbers((), dtype, False, data)[()].item()


def _make_bytes(text: str, encoding: str = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise GraphposeError(f"it encodes bytes as '{encoding}'; pickles use latin1")
    return text.encode("latin1")


def _make_tensor(storage: object, offset: int, size: Iterable[int], stride: Iterable[int], *_: object) -> Tensor:
    if not isinstance(storage, Tensor):
        raise GraphposeError(f"it is damaged: a tensor is made of a {kind_of(storage)}")
    return storage.as_strided(tuple(size), tuple(stride), offset)  # torch refuses what lies outside of the storage


def _make_parameter(data: object, *_: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise GraphposeError(f"it is damaged: a parameter is made of a {kind_of(data)}")
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
    CALLS |= {f"{_module}._reconstruct": lambda *_: PickledArray(), f"{_module}.scalar": _make_scalar}
for _module in ("pathlib", "pathlib._local"):  # a training run's arguments hold paths
    CALLS |= {
        f"{_module}.{name}": lambda *parts: "/".join(str(part) for part in parts)
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    }

# Names that stand in a file without being called.
NAMES = {"numpy.ndarray", "argparse.Namespace", "collections.OrderedDict"}
PLAIN_CLASSES: dict[str, Callable[[], Any]] = {"collections.OrderedDict": OrderedDict}
