"""The stack machine of a pickle.

``pickletools`` parses a pickle into opcodes, and the machine follows those that build data. Any other opcode is refused
by name.

Source: the pickle protocol as ``pickletools`` documents it.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

from graphpose.errors import GraphposeError
from graphpose.openpifpaf.pickled_objects import (
    CALLS,
    PLAIN_CLASSES,
    CallError,
    Instance,
    Name,
    PickledArray,
    PickledDtype,
    is_callable_elsewhere,
    kind_of,
    numbers,
)

_MARK = object()


class Machine:
    """The stack of a pickle.

    Args:
        persistent: gives what a persistent id stands for.
    """

    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        """Follow one pickle to its end; the file then stands behind it.

        Returns:
            The pickled object, as plain containers, tensors and Instances.

        Raises:
            GraphposeError: the pickle is truncated, or uses an opcode that is not one of those that build data.
        """
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return self.stack.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise GraphposeError(f"its pickle uses {opcode.name}, which builds no tensor or plain container")
            step(self, argument)
        raise GraphposeError("it is truncated")

    def since_mark(self) -> list[Any]:
        """Take what was pushed after the last mark, and the mark; GraphposeError without a mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise GraphposeError("it is damaged: its pickle has no mark where one is needed")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def take(self, count: int) -> list[Any]:
        """Take the last ``count`` values; GraphposeError where there are fewer since the last mark."""
        items = self.stack[len(self.stack) - count :]
        if len(items) < count or any(item is _MARK for item in items):
            raise GraphposeError("it is damaged: its pickle takes more than it has put down")
        del self.stack[len(self.stack) - count :]
        return items


def _push(machine: Machine, value: object) -> None:
    machine.stack.append(value)


def _put(machine: Machine, index: int) -> None:
    machine.memo[int(index)] = machine.stack[-1]


def _get(machine: Machine, index: int) -> None:
    machine.stack.append(machine.memo[int(index)])


def _memoize(machine: Machine, _: object) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _append(machine: Machine, items: list[object]) -> None:
    target = machine.stack[-1]
    if type(target) is list:
        target.extend(items)
    elif type(target) is set:
        target.update(items)
    else:
        raise GraphposeError(f"its pickle adds items to a {kind_of(target)}, which is no plain container")


def _set_items(machine: Machine, items: list[object]) -> None:
    target = machine.stack[-1]
    if type(target) not in (dict, OrderedDict):
        raise GraphposeError(f"its pickle sets items of a {kind_of(target)}, which is no plain container")
    target.update(zip(items[::2], items[1::2], strict=True))


def _call_by_name(machine: Machine, argument: str) -> None:
    raise CallError(argument.replace(" ", "."))


def _name(machine: Machine, argument: str | None) -> None:
    module, name = argument.split(" ", 1) if argument is not None else machine.take(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise GraphposeError("it is damaged: its pickle names a class by something that is no text")
    found = Name(module, name)
    if is_callable_elsewhere(found):
        raise CallError(found)
    machine.stack.append(found)


def _reduce(machine: Machine, _: object) -> None:
    function, arguments = machine.take(2)
    call = CALLS.get(str(function)) if isinstance(function, Name) else None
    if call is None or type(arguments) is not tuple:
        raise CallError(function if isinstance(function, Name) else kind_of(function))
    machine.stack.append(call(*arguments))


def _new(machine: Machine, _: object) -> None:
    kind, _arguments = machine.take(2)
    if not isinstance(kind, Name):
        raise GraphposeError(f"it is damaged: its pickle makes an object of a {kind_of(kind)}")
    plain = PLAIN_CLASSES.get(str(kind))
    machine.stack.append(Instance(kind) if plain is None else plain())


def _build(machine: Machine, _: object) -> None:
    (state,) = machine.take(1)
    target = machine.stack[-1]
    if isinstance(target, Instance):
        for part in state if type(state) is tuple else (state,):
            if isinstance(part, dict):
                target.state.update({str(key): value for key, value in part.items()})
    elif isinstance(target, PickledDtype):
        target.order = str(state[1])
    elif isinstance(target, PickledArray):
        target.values = numbers(*state[1:])
    elif type(target) is not OrderedDict:  # a state dict's metadata, which nothing here reads
        raise GraphposeError(f"its pickle sets attributes of a {kind_of(target)}, which has none")


_STEPS: dict[str, Callable[[Machine, Any], None]] = {
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
