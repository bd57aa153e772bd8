"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class AveragedNetwork:
    """A copy of a network whose weights and buffers follow the original's as an exponential moving average.

    Unlike ``torch.optim.swa_utils.AveragedModel`` it counts its steps on the host, so that an update never waits for
    the device.

    Args:
        network: the original; :meth:`update` reads it.
        decay: of the average; after n steps it is min(decay, (1 + n) / (10 + n)), so that the first are soon forgotten.

    Attributes:
        module: the averaged network.
        steps: updates so far; the first one copies.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.steps = 0
        pairs: list[tuple[Tensor, Tensor]] = [*zip(self.module.parameters(), network.parameters(), strict=True)]
        pairs += [*zip(self.module.buffers(), network.buffers(), strict=True)]
        self._averaged: list[Tensor] = [a.detach() for a, _ in pairs if a.is_floating_point()]
        self._current: list[Tensor] = [b.detach() for a, b in pairs if a.is_floating_point()]
        self._counters = [(a, b) for a, b in pairs if not a.is_floating_point()]  # of batch norms

    @torch.no_grad()
    def update(self) -> None:
        """One step towards the original."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        for averaged, current in self._counters:
            averaged.copy_(current)
        self.steps += 1
