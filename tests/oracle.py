"""A stand-in for a trained network in tests of what comes after it."""

import torch
from torch import nn

from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.spec import FieldSpec


class Oracle(nn.Module):
    """A network that knows the annotations: its outputs are the encoded persons of the batch that it is told.

    Args:
        spec: of the fields.
        certainty: its confidence where a person is.
    """

    def __init__(self, spec: FieldSpec, certainty: float = 1.0) -> None:
        super().__init__()
        self.spec, self.certainty, self.pose_statistics = spec, certainty, None
        self.parameter = nn.Parameter(torch.zeros(1))
        self.batch = None

    def watch(self, loader):
        for self.batch in loader:
            yield self.batch

    def forward(self, images):
        targets = encode(self.batch.keypoints, self.batch.scales, self.spec, images.shape[-2:], self.batch.ignore)
        pif, paf = perfect_fields(targets)
        for field in (pif, paf):
            field[:, :, 0] = torch.logit(self.certainty * field[:, :, 0], eps=1e-4)
        return {"pif": pif, "paf": paf, "intermediate": []}
