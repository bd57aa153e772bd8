"""Parts of the network that stay in float32 under autocast."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def in_float32(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """``function(*tensors)``, under autocast computed in float32; without autocast in the tensors' own type."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # meta has no autocast to ask about
        return function(*tensors)
    with torch.autocast(device, enabled=False):
        return function(*(tensor.float() for tensor in tensors))
