"""The device that a name means."""

from __future__ import annotations

import torch

from graphpose.errors import GraphposeError


def resolve_device(name: str | torch.device) -> torch.device:
    """The device of a name, checked: what it computes with is there.

    Args:
        name: "cpu", "cuda" (the current one, each rank's own), "cuda:<index>", "auto" (CUDA where there is one), or
            another accelerator that torch knows.

    Returns:
        The device, with its index where it is CUDA.

    Raises:
        GraphposeError: no such device, in words of the setting.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        there = device.type == "cpu" or torch.get_device_module(device).is_available()
    except RuntimeError:
        raise GraphposeError(f"device='{name}' must be auto, cpu, cuda or cuda:<index>") from None
    if not there:
        raise GraphposeError(f"device='{name}', but this torch sees no {device.type.upper()} device; use device=cpu")
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= count:
        raise GraphposeError(
            f"device='{name}', but this machine has {count} CUDA device(s), cuda:0 to cuda:{count - 1}"
        )
    return torch.device("cuda", index)


def describe_device(device: torch.device) -> str:
    """A device for people: "cuda:0 (NVIDIA H100)", "cpu (8 threads)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device} ({threads} thread{'' if threads == 1 else 's'})" if device.type == "cpu" else str(device)
