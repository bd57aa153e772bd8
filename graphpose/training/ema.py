"""The exponential moving average of a network's weights."""

from __future__ import annotations

from graphpose.nn import torchvision_ops  # noqa: F401  (before timm, which imports torchvision)

# isort: split
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn


class ModelEma(ModelEmaV3):
    """A copy of a network whose weights and buffers follow the original's as an exponential moving average.

    It counts its updates on the host, so that none of them waits for the device, as one of
    ``torch.optim.swa_utils.AveragedModel`` does. The tensors are looked up once: a network whose parameters or buffers
    have been replaced by others, as when it is moved to another device, needs a new average.

    Args:
        network: the original, copied.
        decay: of the average; after n updates it is min(decay, (1 + n) / (10 + n)), so that the first weights are soon
            forgotten.

    Attributes:
        module: the averaged network; it does not learn.
        steps: updates so far; the first one copies.

    Source: the warm-up is that of TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, decay)
        self.module.requires_grad_(False)
        self.steps = 0
        self._tensors: list[list[Tensor]] = []
        self._found_in: nn.Module | None = None

    def get_decay(self, step: int | None = None) -> float:
        """Decay of the next update; ``step`` is not needed, updates are counted here."""
        return min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0

    def update(self, model: nn.Module, step: int | None = None) -> None:
        """One step towards ``model``, which has the parameters and buffers of the original."""
        if self._found_in is not model:  # for two walks through the modules take longer than the update
            pairs = list(zip(*(m.state_dict(keep_vars=True).values() for m in (self.module, model)), strict=True))
            real = [pair for pair in pairs if pair[0].is_floating_point()]
            counts = [pair for pair in pairs if not pair[0].is_floating_point()]
            self._tensors = [[tensor for tensor, _ in real], [tensor for _, tensor in real],
                             [tensor for tensor, _ in counts], [tensor for _, tensor in counts]]  # fmt: skip
            self._found_in = model
        super().update(model, step)
        self.steps += 1

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Two calls, however many tensors there are."""
        averages, values, counts_kept, counts = self._tensors
        torch._foreach_lerp_(averages, values, weight=1.0 - decay)
        if counts:
            torch._foreach_copy_(counts_kept, counts)
