"""Networks through ``torch.compile``, and what is said where there is nothing to compile them with."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

from graphpose.errors import GraphposeError

Network = TypeVar("Network", bound=nn.Module)


def compiled(network: Network) -> Network:
    """The network, compiled when it is first called, and again for sizes of images that are new to it.

    What it offers beside its outputs is the original's. The calls belong into :func:`compiler_failures_named`.
    """
    return torch.compile(network)  # type: ignore[return-value]


@contextlib.contextmanager
def compiler_failures_named() -> Iterator[None]:
    """Turns what ``torch.compile`` raises in the call of a network into one line.

    Raises:
        GraphposeError: a compiler is missing, or cannot compile the network.
    """
    try:
        yield
    except RuntimeError as error:
        compiler = sys.modules.get("torch._dynamo.exc")  # imported by the first call of a compiled network
        if compiler is None or not isinstance(error, compiler.BackendCompilerFailed):
            raise
        reason = str(error.inner_exception).strip().partition("\n")[0]
        raise GraphposeError(
            f"torch.compile has failed ({reason}); it needs a C++ compiler such as g++, and Triton on a GPU. "
            "Leave compile out to go without"
        ) from error
