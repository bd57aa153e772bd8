"""CUDA devices where there are none: tensors that say they are on ``cuda:0`` and compute on the CPU.

What is emulated is what breaks a program, not the arithmetic:

- operations on tensors of different devices are refused, but for CPU tensors without dimensions, as on CUDA;
- every operation whose result the host has to wait for is noted, with the stream that was current
  (:attr:`EmulatedCuda.waits`);
- kernels that the CPU has and a CUDA build may lack, as those of a torch-scatter without CUDA, raise what they raise;
- streams, events, devices and random states are there to be asked for, and what is asked is noted.

Autograd, autocast (with the CPU's lists) and optimisers run as they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
# Their result's size, or value, depends on numbers on the device.
WAITING = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.is_nonzero.default,
    aten.unique_dim.default, aten._unique2.default, aten.unique_consecutive.default, aten.equal.default,
    aten.repeat_interleave.Tensor, aten.bincount.default,
}  # fmt: skip
COPYING = {aten._to_copy.default, aten.copy_.default}
# that CUDA takes from whichever device, or of which it moves small numbers itself
MIXING = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default, aten.index_put.default}
_current: EmulatedCuda | None = None


@dataclasses.dataclass
class Wait:
    """The host waited.

    Attributes:
        operation: name.
        stream: that was current.
    """

    operation: str
    stream: str


class EmulatedTensor(Tensor):
    """A tensor on an emulated device; ``held`` has its numbers."""

    held: Tensor
    on: torch.device
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor, on: torch.device) -> EmulatedTensor:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=held.device, requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held, made.on = held.detach(), on
        return made

    # only Python is told: autograd in C++ has no such device
    device = property(lambda self: self.on)  # type: ignore[assignment]
    is_cuda = property(lambda self: self.on.type == "cuda")  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def tolist(self) -> Any:
        assert _current is not None
        return _current.wait("tolist", self.held).tolist()

    def record_stream(self, stream: Any) -> None:
        """Nothing: memory is the CPU's."""

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {self.on} device type tensor to numpy. Use Tensor.cpu() first")

    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        return ["held"], self.on

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], on: Any, *_: Any) -> EmulatedTensor:
        return EmulatedTensor(inner["held"], on)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)  # a file has numbers, and says where they were

    def __repr__(self) -> str:  # type: ignore[override]
        return f"EmulatedTensor({self.held!r}, device={self.on})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert _current is not None, "an emulated tensor outlived its devices"
        return _current.run(func, args, kwargs)


def _on(tensor: Tensor) -> torch.device:
    return tensor.on if isinstance(tensor, EmulatedTensor) else torch.device("cpu")


def _is_cuda(device: Any) -> bool:
    return device is not None and not isinstance(device, int) and torch.device(device).type == "cuda"


_group = torch._C._group_tensors_by_device_and_dtype


def _grouped(lists: Any, with_indices: bool = False) -> Any:
    """Optimisers and clipping group tensors in C++; the groups of one emulated device are known by it."""
    groups = {}
    for (_, dtype), (tensors, indices) in _group(lists, with_indices).items():
        on = next((_on(tensor) for tensor in tensors[0] if tensor is not None), torch.device("cpu"))
        groups[on, dtype] = tensors, indices
    return groups


def _held(values: Any) -> Any:
    return tree_map_only(EmulatedTensor, lambda tensor: tensor.held, values)


class EmulatedCuda(TorchFunctionMode):
    """Devices ``cuda:0`` … as long as the context lasts.

    Args:
        devices: how many there are.

    Attributes:
        waits: of the host, in order.
        copies: (operation, device) of every copy from the host.
        operations: names of all that ran on a device.
        used: devices that were asked for something.
        states: of the random generators, as they were set.
    """

    def __init__(self, devices: int = 1) -> None:
        super().__init__()
        self.devices, self.device, self.stream = devices, 0, "default"
        self.waits: list[Wait] = []
        self.copies: list[tuple[str, torch.device]] = []
        self.operations: set[str] = set()
        self.used: set[torch.device] = set()
        self.states: dict[torch.device, Tensor] = {}
        self._patches = contextlib.ExitStack()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if str(func).startswith("torch_scatter.") and any(isinstance(arg, EmulatedTensor) for arg in args):
            raise RuntimeError("Not compiled with CUDA support")
        if name == "cuda" and isinstance(args[0] if args else None, Tensor):
            func, args = Tensor.to, (args[0], "cuda")
        if func is Tensor.to:
            return self._to(*args, **kwargs)
        if func is Tensor.cpu:
            return self._to(args[0], "cpu")
        if func is Tensor.pin_memory:
            return args[0]  # the host's memory is as it is
        kwargs.pop("pin_memory", None)
        if _is_cuda(kwargs.get("device")):
            on = self._index(kwargs.pop("device"))
            pinned = func(*args, **kwargs)
            if func is torch.tensor or func is torch.as_tensor:
                self.wait(name, pinned)  # a copy from memory that is not pinned
            with torch._C.DisableTorchFunction():
                return EmulatedTensor(pinned, on).requires_grad_(pinned.requires_grad)
        return func(*args, **kwargs)

    def _index(self, device: Any) -> torch.device:
        device = torch.device(device)
        index = self.device if device.index is None else device.index
        if index >= self.devices:
            raise RuntimeError("CUDA error: invalid device ordinal")
        return torch.device("cuda", index)

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``Tensor.to``, which may name a device in several ways; differentiable as it is."""
        to = kwargs.pop("device", None)
        flags = [arg for arg in args if isinstance(arg, bool)]  # non_blocking, copy
        non_blocking = bool(kwargs.pop("non_blocking", False) or flags[:1] == [True])
        for arg in args:
            if isinstance(arg, (str, torch.device)):
                to = arg
            elif isinstance(arg, Tensor):
                to, kwargs["dtype"] = _on(arg), arg.dtype
            elif isinstance(arg, torch.dtype):
                kwargs["dtype"] = arg
        if to is not None and torch.device(to).type not in ("cpu", "cuda"):
            return Tensor.to(tensor, to, **kwargs)
        if to is not None and (to := self._index(to) if _is_cuda(to) else torch.device("cpu")) != _on(tensor):
            tensor = _Move.apply(tensor, to, non_blocking)
        return Tensor.to(tensor, **kwargs) if kwargs else tensor

    def move(self, tensor: Tensor, to: torch.device, non_blocking: bool) -> Tensor:
        """A copy of a tensor on another device."""
        held = _held(tensor).detach().clone(memory_format=torch.preserve_format)
        if to.type == "cpu":
            return self.wait("copy to the host", held)
        self.copies.append(("non-blocking" if non_blocking else "blocking", to))
        return EmulatedTensor(held, self._used(to))

    def wait(self, operation: str, result: Any) -> Any:
        """Note that the host waits for a result."""
        self.waits.append(Wait(operation, self.stream))
        return result

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """One operation of which at least one tensor is on a device."""
        name = func.name()
        self.operations.add(name)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {_on(tensor) for tensor in tensors if tensor.ndim or isinstance(tensor, EmulatedTensor)}
        if func in COPYING:
            return self._copy(func, args, kwargs)
        mixing = (func in MIXING and _on(args[0]).type == "cuda") or func.namespace == "graphpose"
        # what backward fills in for a missing gradient is made by C++, where the device is
        mixing = mixing or torch._C._current_graph_task_id() != -1
        if len(devices) > 1 and not mixing:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {name} got {sorted(map(str, devices))}"
            )
        on = next(_on(tensor) for tensor in tensors if isinstance(tensor, EmulatedTensor))
        if func in WAITING and not (func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is not None):
            self.wait(name, None)
        if func in MIXING and any(
            isinstance(index, EmulatedTensor) and index.dtype in (torch.bool, torch.uint8)
            for index in args[1] if index is not None
        ):  # fmt: skip
            self.wait(name, None)
        target = kwargs.get("device")
        if target is not None:
            on = torch.device("cpu") if torch.device(target).type == "cpu" else self._index(target)
            kwargs = {**kwargs, "device": torch.device("cpu")}
        if func.namespace == "graphpose":  # copies to the device of its other argument
            self.copies.append((name, on))
        result = func(*_held(args), **_held(kwargs))
        if on.type == "cpu":
            return result
        wrapped = tree_map_only(Tensor, lambda tensor: EmulatedTensor(tensor, on), result)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)

    def _copy(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func is aten._to_copy.default:
            device = kwargs.get("device")
            on = _on(args[0]) if device is None else torch.device(device)
            if on.type == "cpu" and isinstance(args[0], EmulatedTensor):
                # C++ takes the tensor for the host's, so that "to the CPU" of it alone is no copy
                on = _on(args[0])
            held = func(_held(args[0]), **{**kwargs, "device": torch.device("cpu")})
            return EmulatedTensor(held, on) if on.type == "cuda" else held
        if func is aten.copy_.default and _on(args[0]) != _on(args[1]):
            if _on(args[0]).type == "cpu":
                if not (kwargs.get("non_blocking") or args[2:] == (True,)):
                    self.wait("copy to the host", None)
            else:
                self.copies.append(("copy_", _on(args[0])))
        func(*_held(args), **_held(kwargs))
        return args[0]

    def __enter__(self) -> EmulatedCuda:  # type: ignore[override]
        global _current
        autocast, scaler, generator = torch.autocast, torch.amp.GradScaler, torch.Generator
        cuda = {
            "is_available": lambda: self.devices > 0,
            "device_count": lambda: self.devices,
            "current_device": lambda: self.device,
            "set_device": self._set_device,
            "device": self._on_device,
            "Stream": lambda device=None, priority=0: EmulatedStream(self, device, priority),
            "stream": self._on_stream,
            "current_stream": lambda device=None: EmulatedStream(self, device, name=self.stream),
            "Event": lambda **_: EmulatedEvent(self),
            "synchronize": lambda device=None: self.wait("synchronize", None),
            "get_rng_state": lambda device="cuda": torch.full((16,), self._used(device).index, dtype=torch.uint8),
            "set_rng_state": self._set_rng_state,
            "get_rng_state_all": lambda: [torch.cuda.get_rng_state(i) for i in range(self.devices)],
            "set_rng_state_all": lambda states: [torch.cuda.set_rng_state(s, i) for i, s in enumerate(states)],
            "get_device_name": lambda device=None: "emulated",
            "get_device_capability": lambda device=None: (8, 0),
            "is_bf16_supported": lambda *_, **__: True,
            "memory_allocated": lambda device=None: 0,
            "max_memory_allocated": lambda device=None: 2**20,
            "reset_peak_memory_stats": lambda device=None: None,
            "empty_cache": lambda: None,
        }
        for name, value in cuda.items():
            self._patches.enter_context(mock.patch.object(torch.cuda, name, value))
        patch = self._patches.enter_context
        patch(mock.patch.object(torch, "autocast", lambda device, *a, **o: autocast("cpu", *a, **o)))
        patch(mock.patch.object(torch.amp, "GradScaler", lambda device, *a, **o: scaler("cpu", *a, **o)))
        patch(mock.patch.object(torch._C, "_group_tensors_by_device_and_dtype", _grouped))
        patch(mock.patch.object(torch, "Generator", side_effect=lambda device="cpu": generator()))
        before = torch.__future__.get_swap_module_params_on_conversion()
        self._patches.callback(torch.__future__.set_swap_module_params_on_conversion, before)
        torch.__future__.set_swap_module_params_on_conversion(True)  # modules come back to the CPU, too
        _current = self
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()

    def _set_device(self, device: Any) -> None:
        self.device = device if isinstance(device, int) else self._index(device).index or 0
        if self.device >= self.devices:
            raise RuntimeError("CUDA error: invalid device ordinal")

    @contextlib.contextmanager
    def _on_device(self, device: Any) -> Iterator[None]:
        before = self.device
        self._set_device(device)
        yield
        self.device = before

    @contextlib.contextmanager
    def _on_stream(self, stream: EmulatedStream | None) -> Iterator[None]:
        before, device = self.stream, self.device
        if stream is not None:
            self.stream, self.device = stream.name, stream.device.index
        yield
        self.stream, self.device = before, device

    def _used(self, device: Any) -> torch.device:
        """A device by name or number, noted as one that a context was opened on."""
        on = self._index(torch.device("cuda", device) if isinstance(device, int) else device)
        self.used.add(on)
        return on

    def _set_rng_state(self, state: Tensor, device: Any = "cuda") -> None:
        self.states[self._used(device)] = state


class _Move(torch.autograd.Function):
    """A copy between devices, whose gradient goes back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, to: torch.device, non_blocking: bool) -> Tensor:
        assert _current is not None
        ctx.origin = _on(tensor)
        return _current.move(tensor, to, non_blocking)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        assert _current is not None
        return _current.move(gradient, ctx.origin, False), None, None


class EmulatedStream:
    """A stream; the emulation does everything at once."""

    def __init__(self, cuda: EmulatedCuda, device: Any = None, priority: int = 0, name: str = "") -> None:
        self.cuda, self.priority = cuda, priority
        index = cuda.device if device is None or device == "cuda" else device
        self.device = torch.device("cuda", index) if isinstance(index, int) else cuda._index(index)
        self.name = name or f"stream of {self.device}"

    def wait_stream(self, stream: EmulatedStream) -> None: ...

    def wait_event(self, event: EmulatedEvent) -> None: ...

    def synchronize(self) -> None:
        self.cuda.wait("stream.synchronize", None)

    def record_event(self, event: EmulatedEvent | None = None) -> EmulatedEvent:
        event = event or EmulatedEvent(self.cuda)
        event.record(self)
        return event


class EmulatedEvent:
    """An event; knows the device whose stream it was recorded on."""

    def __init__(self, cuda: EmulatedCuda) -> None:
        self.cuda = cuda
        self.device: torch.device | None = None

    def record(self, stream: EmulatedStream | None = None) -> None:
        self.device = self.cuda._used("cuda" if stream is None else stream.device)

    def synchronize(self) -> None:
        self.cuda.wait("event.synchronize", None)

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: EmulatedEvent) -> float:
        if self.device != end.device:
            raise ValueError("events are of different devices")
        return 1.0
