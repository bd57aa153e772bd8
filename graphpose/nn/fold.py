"""Folding a trained DGCM into plain convolutions for inference.

In evaluation the graph is fixed (A_d = 1) and W_d is frozen, so β(W_d ⊙ A), W and the batch norm of a graph layer are
one linear map of the K·d channels: a 1×1 convolution. A graph that a gate weighs for each image is not fixed; its
layers stay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from graphpose.nn.dgcm import DGCM, Downsample, GraphLayer, GraphPyramid
from graphpose.nn.graph_conv import KeypointConv
from graphpose.nn.layers import DenseLayer
from graphpose.nn.non_local import NonLocal


class FoldedDGCM(nn.Module):
    """A DGCM of plain convolutions; the adjacency is part of their weights.

    Args:
        dgcm: in evaluation mode; its parts are taken over and changed.
        adjacency: (K, K) of evaluation; None where it is another for each image.
    """

    def __init__(self, dgcm: DGCM, adjacency: Tensor | None) -> None:
        super().__init__()
        self.per_image = adjacency is None
        self.reduce = fuse_conv_bn_eval(dgcm.reduce, dgcm.norm)  # type: ignore[type-var, arg-type]
        self.read = dgcm.read
        self.layers = (
            dgcm.layers if adjacency is None else nn.ModuleList(fold_graph_layer(one, adjacency) for one in dgcm.layers)  # type: ignore[arg-type]
        )
        self.non_local = dgcm.non_local
        if isinstance(dgcm.non_local, NonLocal):
            fold_non_local(dgcm.non_local)
        self.expand = dgcm.expand

    def forward(self, features: Tensor, adjacency: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`DGCM.forward`; ``adjacency`` is read where it is another for each image."""
        x = self.reduce(features)  # (B, K·d, H, W)
        confidence = self.read(x)  # (B, K, H, W)
        for layer in self.layers:
            x = layer(x, adjacency) if self.per_image else layer(x).relu()
        return features + self.expand(self.non_local(x)), confidence


class FixedGraphLayer(nn.Module):
    """A graph layer and its batch norm on the one graph of evaluation, before its ReLU.

    Args:
        layer: whose parts are taken over.
        adjacency: (K, K) of evaluation.
    """

    def __init__(self, layer: GraphLayer, adjacency: Tensor) -> None:
        super().__init__()
        self.conv, self.norm, self.shape = layer.conv, layer.norm, layer.shape
        self.adjacency: Tensor
        self.register_buffer("adjacency", adjacency.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, K·d, H, W) → (B, K·d, H, W)."""
        return self.norm(self.conv(x.unflatten(1, self.shape), self.adjacency).flatten(1, 2))


@torch.no_grad()
def fold_graph_layer(layer: GraphLayer, adjacency: Tensor) -> nn.Module:
    """One 1×1 convolution that equals the layer in evaluation mode, before its ReLU.

    Args:
        layer: graph convolution and batch norm.
        adjacency: (K, K) of evaluation.

    Returns:
        K·d → K·d' convolution; its weight is the Kronecker product of β(W_d ⊙ A) and W, scaled by the batch norm. A
        layer that is not affine (attention, a multilayer perceptron) stays as it is, with its graph.
    """
    offset: Tensor | None = None
    if isinstance(layer.conv, KeypointConv):
        joint: Tensor = layer.conv.weight
    elif isinstance(layer.conv, DenseLayer):
        if not layer.conv.affine:
            return FixedGraphLayer(layer, adjacency)
        joint, offset = layer.conv.joint(adjacency)
    else:
        relations, W, bias = layer.conv.relations(adjacency), layer.conv.weight, layer.conv.bias
        joint = torch.kron(relations.to(W.dtype), W)  # (K·d', K·d): row (i, a), column (j, b) is β_ij · W_ab
        offset = None if bias is None else bias.repeat(len(adjacency))
    conv = nn.Conv2d(joint.shape[1], joint.shape[0], 1, device=joint.device, dtype=joint.dtype)
    conv.weight.copy_(joint[:, :, None, None])
    nn.init.zeros_(conv.bias) if offset is None else conv.bias.copy_(offset)  # type: ignore
    return fuse_conv_bn_eval(conv.eval(), layer.norm)


def fold_non_local(block: NonLocal) -> None:
    """Fold the batch norm after the block's last convolution into it, in place."""
    if isinstance(block.norm, nn.modules.batchnorm._BatchNorm):
        block.out, block.norm = fuse_conv_bn_eval(block.out, block.norm), nn.Identity()


def fold_pyramid(pyramid: GraphPyramid, adjacency: Tensor | None) -> None:
    """Fold every DGCM and every way down of a pyramid in evaluation mode, in place; ``adjacency`` as of
    :class:`FoldedDGCM`."""
    for stride, dgcm in pyramid.modules_at.items():
        pyramid.modules_at[stride] = FoldedDGCM(dgcm, adjacency)  # type: ignore[arg-type]
    downs: Any = pyramid.down.values()
    for down in downs:
        assert isinstance(down, Downsample)
        down.pointwise, down.norm = fuse_conv_bn_eval(down.pointwise, down.norm), nn.Identity()  # type: ignore
