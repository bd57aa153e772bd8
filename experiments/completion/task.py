"""The task: some labelled keypoints of a person are hidden, and their places are to be told from the others.

Convention: positions are in units of the person's scale (of COCO: the square root of its area), x right, y down.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.graphs.dataset import KeypointGraphDataset


@dataclasses.dataclass(frozen=True)
class Poses:
    """N persons of K keypoints, of which some are hidden.

    Attributes:
        pos: (N, K, 2) float32 positions, whatever the origin; 0 where not labelled.
        visible: (N, K) bool; what may be looked at.
        hidden: (N, K) bool; labelled and to be told, never visible.
    """

    pos: Tensor
    visible: Tensor
    hidden: Tensor

    def __len__(self) -> int:
        return len(self.pos)

    def __getitem__(self, index: Tensor) -> Poses:
        return Poses(self.pos[index], self.visible[index], self.hidden[index])

    @property
    def centred(self) -> Tensor:
        """(N, K, 2) positions from the middle of the visible keypoints, which alone is known where some are hidden."""
        seen = self.visible.unsqueeze(-1)
        middle = (self.pos * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True)
        return self.pos - middle

    @property
    def features(self) -> Tensor:
        """(N, K, 3) x, y and 1 of visible keypoints; zeros of all others."""
        seen = self.visible.unsqueeze(-1).to(self.pos.dtype)
        return torch.cat((self.centred * seen, seen), dim=-1)

    def distances(self, predicted: Tensor) -> Tensor:
        """(N, K) distance of predicted from true positions, both from the middle of the visible; 0 where not hidden."""
        return torch.linalg.vector_norm(predicted - self.centred, dim=-1) * self.hidden


def hide(labelled: Tensor, share: float, keep: int, generator: torch.Generator) -> Tensor:
    """Choose labelled keypoints to be hidden, each as likely as any other.

    Args:
        labelled: (N, K) bool, with more than ``keep`` keypoints in every row.
        share: each is hidden with this probability, but at least one is, and ``keep`` of them stay.
        keep: at least 1.
        generator: source of randomness.

    Returns:
        (N, K) bool.

    Raises:
        GraphposeError: a person has too few keypoints.
    """
    count = labelled.sum(1)
    if keep < 1 or bool((count <= keep).any()):
        raise GraphposeError(f"a person of {int(count.min())} labelled keypoints cannot keep {keep} and hide another")
    wanted = (torch.rand(labelled.shape, generator=generator) < share) & labelled
    number = torch.minimum(wanted.sum(1).clamp(min=1), count - keep)
    order = torch.rand(labelled.shape, generator=generator).masked_fill(~labelled, 2).argsort(1)
    rank = order.argsort(1)  # place of each keypoint in its row's order; those not labelled come last
    return rank < number.unsqueeze(1)


def hidden_poses(dataset: KeypointGraphDataset, share: float, keep: int, generator: torch.Generator) -> Poses:
    """The data set's persons with keypoints hidden by :func:`hide`."""
    labelled = dataset.stacked("mask")
    hidden = hide(labelled, share, keep, generator)
    return Poses(dataset.stacked("pos"), labelled & ~hidden, hidden)
