"""Graph layers in place of the paper's: PyG's dense layers and classes of the same signature, on the same graph.

PyG's dense layers compute A · X, in which row i is the node that receives: our orientation, so they take our adjacency
as it is. (PyG's ``to_dense_adj`` gives the transpose, on which they would send against the edges' direction.)

A layer is called at every position of a feature map, with (batch · positions, K, d) nodes. One that is affine in the
features (GCN, SAGE, GraphConv) is one matrix of the K·d channels for a given graph: that is what is applied, so that it
costs no more than the paper's, and what it is folded into.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphpose.errors import GraphposeError
from graphpose.graphs.own_code import import_named
from graphpose.nn.autocast import in_float32
from graphpose.nn.config import PYG_LAYERS

AFFINE_LAYERS = ("DenseGCNConv", "DenseSAGEConv", "DenseGraphConv")


class DenseLayer(nn.Module):
    """A graph layer of PyG's dense kind over feature maps, without its non-linearity.

    Args:
        name: of one of :data:`~graphpose.nn.config.PYG_LAYERS`, or ``package.module:Class``; such a class is made by
            ``Class(in_channels, out_channels)``, called with (batch, K, d) nodes and a (K, K) or (batch, K, K)
            adjacency, and says with an attribute ``affine = True`` that it is affine in the nodes.
        in_width: channels d per keypoint.
        out_width: channels d' per keypoint.

    Attributes:
        affine: the layer is one matrix for a given graph.

    Raises:
        GraphposeError: there is no such class, or it is no layer of this signature.
    """

    def __init__(self, name: str, in_width: int, out_width: int) -> None:
        super().__init__()
        self.in_width, self.out_width = in_width, out_width
        if name in PYG_LAYERS:
            self.conv, self.affine = _pyg_layer(name, in_width, out_width), name in AFFINE_LAYERS
        else:
            self.conv = _own_layer(name, in_width, out_width)
            self.affine = bool(getattr(self.conv, "affine", False))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """The layer at every position.

        Args:
            x: (B, K, d, …) node features.
            adjacency: (K, K) or (B, K, K), row i = the keypoint that receives.

        Returns:
            (B, K, d', …).
        """
        flat = x.flatten(3) if x.ndim > 3 else x.unsqueeze(-1)  # (B, K, d, N)
        B, K, d, N = flat.shape
        if self.affine:
            weight, bias = self.joint(adjacency)
            out = weight.to(x.dtype) @ flat.reshape(B, K * d, N) + bias.to(x.dtype).unsqueeze(-1)  # (B, K·d', N)
            return out.view(B, K, self.out_width, *x.shape[3:])
        nodes = flat.permute(0, 3, 1, 2).reshape(B * N, K, d)
        if adjacency.ndim == 3:
            adjacency = adjacency.repeat_interleave(N, 0)
        out = self.conv(nodes, adjacency.to(x.dtype))  # (B·N, K, d')
        return out.view(B, N, K, self.out_width).permute(0, 2, 3, 1).reshape(B, K, self.out_width, *x.shape[3:])

    def joint(self, adjacency: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix (K·d', K·d) and offset (K·d',) that an affine layer is, read off from its unit vectors.

        Computed in float32 at least.

        Args:
            adjacency: (K, K), or (B, K, K) for one matrix each, with B before both shapes.
        """
        K, d = adjacency.shape[-1], self.in_width
        probes = torch.eye(K * d, device=adjacency.device, dtype=adjacency.dtype).view(K * d, K, d)
        probes = torch.cat((probes, torch.zeros_like(probes[:1])))  # (K·d + 1, K, d)
        shape = (*adjacency.shape[:-2], len(probes), K * self.out_width)
        if adjacency.ndim == 3:
            count = adjacency.shape[0]  # its len would fix the batch of an exported network
            probes, adjacency = probes.repeat(count, 1, 1), adjacency.repeat_interleave(len(probes), 0)
        out = in_float32(self.conv, probes, adjacency).reshape(shape)
        bias = out[..., -1, :]
        return (out[..., :-1, :] - bias.unsqueeze(-2)).transpose(-1, -2), bias

    def extra_repr(self) -> str:
        return f"{self.in_width}, {self.out_width}, affine={self.affine}"


def _pyg_layer(name: str, in_width: int, out_width: int) -> nn.Module:
    """One of PyG's layers, which starts as the paper's does: its linear maps are the identity, as far as they reach.

    A batch norm follows, so that there is no bias.
    """
    from torch_geometric.nn import dense  # here, since it takes seconds and the paper's layer needs none of it

    if name == "DenseGINConv":
        first = nn.Linear(in_width, out_width)
        nn.init.zeros_(first.bias)
        mlp = nn.Sequential(first, nn.ReLU(), nn.Linear(out_width, out_width, bias=False))
        layer: nn.Module = dense.DenseGINConv(mlp)
    else:
        layer = getattr(dense, name)(in_width, out_width, bias=False)
    for parameter_name, parameter in layer.named_parameters():
        if parameter.ndim == 2 and parameter_name.endswith("weight"):
            nn.init.eye_(parameter)
    return layer


def _own_layer(name: str, in_width: int, out_width: int) -> nn.Module:
    """An instance of ``package.module:Class``, after it was tried on a graph of three nodes."""
    made = import_named(name, "graph_layer")
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise GraphposeError(f"graph_layer '{name}' is no torch.nn.Module class")
    signature = "a class is needed that is made by Class(in_channels, out_channels) and called with (nodes, adjacency)"
    try:
        layer = made(in_width, out_width)
        with torch.no_grad():
            layer.eval()
            parameter = next(layer.parameters(), torch.zeros(()))
            nodes = parameter.new_zeros(2, 3, in_width)
            shape = tuple(layer(nodes, torch.eye(3, dtype=nodes.dtype, device=nodes.device)).shape)
            layer.train()
    except Exception as error:  # whatever another's code raises
        raise GraphposeError(f"graph_layer '{name}': {type(error).__name__}: {error}; {signature}") from error
    if shape != (2, 3, out_width):
        raise GraphposeError(f"graph_layer '{name}' makes {shape} of (2, 3, {in_width}) nodes, not (2, 3, {out_width})")
    return layer
