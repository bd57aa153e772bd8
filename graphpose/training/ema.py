"""The exponential moving average of a network's weights."""

from __future__ import annotations

from graphpose.nn import torchvision_ops  # noqa: F401  (before timm, which imports torchvision)

# isort: split
from timm.utils import ModelEmaV3
from torch import nn


class ModelEma(ModelEmaV3):
    """A copy of a network whose weights and buffers follow the original's as an exponential moving average.

    It counts its updates on the host, so that none of them waits for the device, as one of
    ``torch.optim.swa_utils.AveragedModel`` does.

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

    def get_decay(self, step: int | None = None) -> float:
        """Decay of the next update; ``step`` is not needed, updates are counted here."""
        return min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0

    def update(self, model: nn.Module, step: int | None = None) -> None:
        """One step towards ``model``, which has the parameters and buffers of the original."""
        super().update(model, step)
        self.steps += 1
