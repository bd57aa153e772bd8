"""experiments/benchmark.py network: runs, and counts what it says it counts."""

import argparse
import importlib

import pytest
import torch
from torch import nn

from experiments.benchmark import build_parser
from graphpose.errors import GraphposeError
from graphpose.nn.config import GRAPH_LAYERS


@pytest.fixture
def benchmark(monkeypatch):
    return importlib.import_module("experiments.benchmarks.network")


def parse(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(["network", *arguments])


@pytest.mark.slow
def test_a_small_run_compares_every_network_with_the_baseline(benchmark):
    small = ["--backbone", "resnet10t", "--size", "65", "--train-size", "65", "--batch", "1", "--memory-size", "97"]
    result = benchmark.run(parse(*small, "--rounds", "1", "--device", "cpu"))
    assert list(result["networks"]) == ["baseline", "one_head", "three_heads"]
    baseline, one, three = result["networks"].values()
    assert (baseline["inference"]["ratio"], baseline["peak_ratio"], baseline["training_step"]["ratio"]) == (1, 1, 1)
    assert baseline["gmac_at_641"] < one["gmac_at_641"] < three["gmac_at_641"]
    assert 1 < one["peak_ratio"] < three["peak_ratio"]


@pytest.mark.slow
def test_every_layer_is_compared_with_the_paper_s(benchmark):
    small = ["--backbone", "test_resnet", "--size", "65", "--batch", "1", "--rounds", "1"]
    result = benchmark.run_layers(build_parser().parse_args(["layers", *small]))
    assert list(result["layers"]) == list(GRAPH_LAYERS)
    paper = result["layers"]["dgcn"]
    assert all(paper[part]["ratio"] == 1 for part in ("dgcm", "dgcm_folded", "inference", "training_step"))


def test_peak_memory_counts_weights_and_tensors_alive_together(benchmark):
    class Chain(nn.Module):
        def forward(self, x):
            x = x + 1  # one tensor
            x = x + 1  # two at a time, the first is then freed
            return x + 1

    size = 256
    one = 3 * size * size * 4 / 2**20
    assert benchmark.peak_mib(Chain(), size, torch.device("cpu")) == pytest.approx(2 * one, abs=0.01)


def test_multiply_adds_are_counted_without_computing(benchmark):
    assert benchmark.gmac(nn.Conv2d(3, 8, 3, padding=1), 10) == pytest.approx(3 * 8 * 9 * 100 / 1e9)


def test_a_missing_gpu_is_reported(benchmark):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(GraphposeError, match="device='cuda', but this torch sees no CUDA device"):
        benchmark.run(parse("--device", "cuda"))
