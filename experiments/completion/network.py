"""A small graph network that completes poses, with one of PyG's dense layers on one of the project's graphs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.nn import DenseGATConv, DenseGCNConv, DenseGraphConv

from experiments.completion.task import Poses, hide
from graphpose.graphs.adjacency import adjacency_matrix, sample_adjacency
from graphpose.skeleton import Skeleton

# Width → a layer of this width. GCN and GraphConv read an edge's weight, GAT only whether it is there.
LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "GCN": lambda width: DenseGCNConv(width, width),
    "GraphConv": lambda width: DenseGraphConv(width, width),
    "GAT": lambda width: DenseGATConv(width, width // 2, heads=2),
}


class CompletionNetwork(nn.Module):
    """What differs from the mean pose at every keypoint, from what differs at the visible ones.

    Every keypoint has an encoder and a head of its own; between them stand graph layers whose weights all keypoints
    share, so that what one keypoint knows of another has come along edges. Each layer has a residual around it, so that
    a keypoint stays itself on any graph.

    Args:
        layer: name in LAYERS, or "none" for a network without graph: all features at once through dense layers.
        skeleton: gives K and the graph.
        mean: (K, 2) mean pose.
        adjacency: see :func:`~graphpose.graphs.adjacency.adjacency_matrix`; a dynamic graph is drawn anew for every
            person in training and is its expectation A_s in evaluation.
        width: features per keypoint, a multiple of 4.
        depth: graph layers.
    """

    def __init__(
        self, layer: str, skeleton: Skeleton, adjacency: str, mean: Tensor, width: int = 64, depth: int = 3
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", mean.float())
        K = skeleton.num_keypoints
        self.dynamic = adjacency == "dynamic"
        self.dense: nn.Module | None = None
        if layer == "none":
            sizes = [3 * K, *[4 * width] * depth]
            steps = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
            self.dense = nn.Sequential(*steps, nn.Linear(sizes[-1], 2 * K))
            return
        self.A: Tensor
        self.register_buffer("A", adjacency_matrix(skeleton, adjacency).float())
        self.encoder = nn.Parameter(torch.randn(K, 3, width) / 3**0.5)
        self.encoder_bias = nn.Parameter(torch.zeros(K, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.layers = nn.ModuleList(LAYERS[layer](width) for _ in range(depth))
        self.head = nn.Parameter(torch.randn(K, width, 2) / width**0.5)
        self.head_bias = nn.Parameter(torch.zeros(K, 2))

    def forward(self, features: Tensor) -> Tensor:
        """(N, K, 2) positions from the middle of the visible keypoints.

        Args:
            features: (N, K, 3); x, y and 1 of visible keypoints, zeros of all others.
        """
        seen = features[:, :, 2:]
        mean = self.mean - (self.mean * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True)  # (N, K, 2)
        features = torch.cat(((features[:, :, :2] - mean) * seen, seen), dim=-1)
        if self.dense is not None:
            return mean + self.dense(features.flatten(1)).view(mean.shape)
        A = sample_adjacency(self.A, len(features)) if self.dynamic and self.training else self.A  # Eq. 7
        h = torch.einsum("nkf,kfw->nkw", features, self.encoder) + self.encoder_bias
        for norm, layer in zip(self.norms, self.layers, strict=True):
            h = h + layer(norm(h), A).relu()
        return mean + torch.einsum("nkw,kwc->nkc", h, self.head) + self.head_bias


def train(
    network: CompletionNetwork,
    pos: Tensor,
    labelled: Tensor,
    *,
    share: float,
    keep: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
) -> None:
    """Train on the mean distance of hidden keypoints, hidden anew in every epoch.

    Args:
        network: changed in place; left in evaluation mode.
        pos: (N, K, 2) positions.
        labelled: (N, K) bool.
        share: see :func:`~experiments.completion.task.hide`.
        keep: likewise.
        epochs: over all persons.
        batch_size: persons to a step.
        learning_rate: highest of a one-cycle schedule, for Adam.
        generator: of order and hiding; drawn graphs are from torch's own.
    """
    N = len(pos)
    steps = epochs * -(-N // batch_size)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    network.train()
    for _ in range(epochs):
        hidden = hide(labelled, share, keep, generator)
        poses = Poses(pos, labelled & ~hidden, hidden)
        features, target = poses.features, poses.centred  # of all persons at once: steps are short
        for index in torch.randperm(N, generator=generator).split(batch_size):
            asked = hidden[index]
            distance = torch.linalg.vector_norm(network(features[index]) - target[index], dim=-1)  # (B, K)
            loss = (distance * asked).sum() / asked.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


@torch.no_grad()
def predict(network: CompletionNetwork, poses: Poses) -> Tensor:
    """(N, K, 2) positions from the middle of the visible keypoints."""
    return torch.cat([network(part) for part in poses.features.split(2048)])
