"""Random graphs and graph convolutions, in float64."""

import torch
from torch import Tensor

from graphpose.nn.graph_conv import GraphConv


def random_graph(shape: tuple[int, ...], generator: torch.Generator, density: float = 0.4) -> Tensor:
    """Random weights on random edges, self loops with weight 1."""
    A = torch.rand(shape, generator=generator, dtype=torch.float64)
    A = A * (torch.rand(shape, generator=generator) < density)
    A.diagonal(dim1=-2, dim2=-1).fill_(1)
    return A


def random_layer(d: int, d_out: int, K: int, seed: int, **options) -> GraphConv:
    torch.manual_seed(seed)
    layer = GraphConv(d, d_out, K, **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer
