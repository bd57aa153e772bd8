"""What torch computes with on CUDA: repeatable or fast, and how precise float32 is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from graphpose.training.config import TrainConfig


@contextlib.contextmanager
def backends(config: TrainConfig, device: torch.device, training: bool = True) -> Iterator[None]:
    """Torch's switches, which are those of the whole process, as a configuration has them; afterwards as they were.

    On a CPU there is nothing to switch: it adds in the same order every time, and float32 is float32.

    Args:
        config: ``deterministic`` and ``tf32`` are read.
        device: that computes.
        training: images are all of one size, so that it pays to try which convolution is fastest for it.

    Raises:
        RuntimeError: within the context, from torch: an operation that has no deterministic form.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
    )  # fmt: skip
    attention: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS picks its workspace as it comes
        attention = sdpa_kernel(SDPBackend.MATH)  # the gradients of the others are sums in any order
    try:
        cudnn.allow_tf32, matmul.allow_tf32 = config.tf32 != "none", config.tf32 == "all"
        cudnn.benchmark, cudnn.deterministic = training and not config.deterministic, config.deterministic
        torch.use_deterministic_algorithms(config.deterministic)
        with attention:
            yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = before[:4]
        torch.use_deterministic_algorithms(before[4], warn_only=before[5])
