"""Scatter reductions with a winner: minimum with argmin, and sums over segments.

Uses torch-scatter where it is installed and was built for the tensors' device, and PyTorch's own ``scatter_reduce_``
elsewhere. Both give the same answer on every device: the minimum's lowest index wins a tie, and a segment that nothing
falls into is empty in the same way.

Convention: ``index`` says for each row of ``values`` the segment 0 … size − 1 that it falls into.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from graphpose.errors import GraphposeError

Backend = Literal["torch", "torch_scatter"]


@cache
def torch_scatter() -> ModuleType | None:
    """The torch-scatter package, or None where it is not installed or was built for another PyTorch or CUDA."""
    try:
        return importlib.import_module("torch_scatter")
    except (ImportError, OSError, RuntimeError):  # the last is its own, where PyTorch has another CUDA
        return None


@cache
def cuda_version() -> int:
    """CUDA that torch-scatter was built with, as 12040 for 12.4; -1 where it has kernels for the CPU only."""
    return -1 if torch_scatter() is None else int(torch.ops.torch_scatter.cuda_version())


def _package(backend: Backend | None, device: torch.device) -> ModuleType | None:
    if backend == "torch":
        return None
    package = torch_scatter()
    if backend == "torch_scatter" and package is None:
        raise GraphposeError("backend 'torch_scatter' needs the package torch-scatter; install it or choose 'torch'")
    if device.type == "cpu" or (device.type == "cuda" and cuda_version() > 0):
        return package
    if backend == "torch_scatter":
        raise GraphposeError(
            f"backend 'torch_scatter' on device '{device}': the package torch-scatter was built without it; choose "
            "'torch', which gives the same bits"
        )
    return None


def scatter_min(values: Tensor, index: Tensor, size: int, backend: Backend | None = None) -> tuple[Tensor, Tensor]:
    """Minimum of each segment and the row that holds it.

    Args:
        values: (N,) floating point, no NaN.
        index: (N,) int64 segments.
        size: number of segments.
        backend: which implementation; None takes torch-scatter where it has kernels for the device.

    Returns:
        minimum (size,), +inf where a segment is empty; argmin (size,) int64, the lowest row among equals, N where a
        segment is empty.
    """
    N = len(values)
    rows = torch.arange(N, device=values.device)
    minimum = torch.full((size,), torch.inf, dtype=values.dtype, device=values.device)
    argmin = torch.full((size,), N, dtype=torch.int64, device=values.device)
    package = _package(backend, values.device)
    if package is None:
        minimum.scatter_reduce_(0, index, values, "amin")
        contenders = torch.where(values == minimum[index], rows, N)
        return minimum, argmin.scatter_reduce_(0, index, contenders, "amin")
    # torch-scatter's own argmin names any of several equal rows: a second minimum over the row numbers settles it.
    package.scatter_min(values, index, dim=0, out=minimum)
    contenders = torch.where(values == minimum[index], rows, N)
    package.scatter_min(contenders, index, dim=0, out=argmin)
    return minimum, argmin


def scatter_sum(values: Tensor, index: Tensor, size: int, backend: Backend | None = None) -> Tensor:
    """Sum of each segment.

    Args:
        values: (N, …).
        index: (N,) int64 segments.
        size: number of segments.
        backend: which implementation; None takes torch-scatter where it has kernels for the device.

    Returns:
        (size, …) in the type of ``values``, 0 where a segment is empty.
    """
    package = _package(backend, values.device)
    if package is None:
        return values.new_zeros((size, *values.shape[1:])).index_add_(0, index, values)
    return package.scatter_sum(values, index, dim=0, dim_size=size)
