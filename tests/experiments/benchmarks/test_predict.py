"""experiments/benchmark.py predict: runs, and its parts add up."""

import cv2
import pytest
import torch

from experiments.benchmark import build_parser, measure
from graphpose.checkpoint import save_checkpoint
from graphpose.data.demo.dataset import DemoDataset
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork


@pytest.mark.parametrize("batch_size", ["1", "2"])
def test_speed_shares_and_what_is_hidden_are_printed(tmp_path, batch_size):
    torch.manual_seed(0)
    network = PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency="none"))
    save_checkpoint(tmp_path / "c.pt", network, network.config)
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), DemoDataset(3, size=96)[i].image)
    arguments = ["predict", str(tmp_path), "--checkpoint", str(tmp_path / "c.pt"), "--long-edge", "96", "--rounds", "1"]
    measured = measure(build_parser().parse_args([*arguments, "--batch-size", batch_size]))
    assert measured["frames"] == 3
    assert measured["batch_size"] == int(batch_size)
    assert measured["images_per_second"] > 0
    assert set(measured["share_of_the_wall_clock"]) == {"read", "network", "decode", "write"}
    assert all(0 <= share <= 1.01 for share in measured["share_of_the_wall_clock"].values())
