"""experiments/benchmark.py onnx: what runs a network, in turns, and how far their fields lie apart."""

import pytest
import torch

from experiments.benchmark import build_parser, measure
from experiments.benchmarks.onnx import difference
from graphpose.checkpoint import save_checkpoint
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork


def test_the_difference_is_relative_to_each_channels_largest_value():
    pif, paf = torch.zeros(1, 2, 2, 3, 3), torch.ones(1, 1, 1, 3, 3)
    pif[0, :, 0], pif[0, :, 1] = 100.0, 2.0
    other = pif.clone()
    other[0, 1, 0, 2, 2] += 1.0  # 1 of 100
    other[0, 0, 1, 0, 1] += 0.5  # 0.5 of 2
    assert difference((pif, paf), (pif, paf)) == 0
    assert difference((pif, paf), (other, paf)) == 0.25


@pytest.mark.slow
def test_torch_and_onnxruntime_take_turns_and_agree(tmp_path):
    pytest.importorskip("onnxscript", reason="the onnx packages are not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    network = PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency="none"))
    save_checkpoint(tmp_path / "c.pt", network, network.config)
    arguments = ["onnx", "--checkpoint", str(tmp_path / "c.pt"), "--size", "65", "--rounds", "1"]
    measured = measure(build_parser().parse_args(arguments))
    assert (measured["size"], measured["threads"]) == (65, 1)
    runtimes = measured["runtimes"]
    assert {"torch float32", "torch bfloat16", "onnxruntime float32"} <= runtimes.keys()
    assert runtimes["torch float32"]["ratio"] == 1.0
    assert runtimes["onnxruntime float32"]["difference"] < 1e-3 < runtimes["torch bfloat16"]["difference"] < 0.5
