"""Folders of runs whose relations are known, without training."""

import json
from pathlib import Path

import torch

from graphpose.checkpoint import save_checkpoint
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.nn.relations import append_weights, graph_layers
from graphpose.skeleton import COCO, Skeleton


def made_run(
    folder: Path, seed: int, *, edge: float, skeleton: Skeleton = COCO, adjacency: str = "dynamic", epochs: int = 2
) -> Path:
    """A run's folder with W_d of small noise and, in every layer, one relation that is stronger by ``edge``.

    It is what keypoint 9 takes from keypoint 10, of COCO the left wrist from the right.
    """
    torch.manual_seed(seed)
    config = PoseNetworkConfig(backbone="test_resnet", stem_pool=True, skeleton=skeleton, adjacency=adjacency)
    network = PoseNetwork(config)
    for epoch in range(epochs):
        with torch.no_grad():
            for _, conv in graph_layers(network):
                conv.W_d += 0.05 * torch.randn(conv.W_d.shape) / epochs**0.5
                if edge:
                    conv.W_d[9, 10] += edge / epochs
        append_weights_into(folder, network, epoch)
    save_checkpoint(folder / "checkpoint.pt", network, network.config)
    (folder / "config.json").write_text(json.dumps({"seed": seed, "epochs": epochs, "adjacency": adjacency}))
    return folder


def append_weights_into(folder: Path, network: PoseNetwork, epoch: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    append_weights(folder / "relations.npz", network, epoch)
