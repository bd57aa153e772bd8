"""Counting memory without computing."""

import pytest
import torch

from experiments.benchmarks.memory import PeakMemory, table, training_peak
from graphpose.nn.config import PoseNetworkConfig


def test_storages_count_from_their_making_until_they_are_freed():
    with PeakMemory() as counter:
        a = torch.empty(1024)
        b = a[10:]  # a view has none of its own
        c = a + 1
        assert counter.held == 2 * 4096
        del a, b
        assert counter.held == 4096
        del c
    assert (counter.held, counter.peak) == (0, 2 * 4096)


@pytest.mark.slow
def test_activations_grow_with_the_batch_and_shrink_with_the_precision():
    config = PoseNetworkConfig(backbone="test_resnet", stem_pool=True)
    one, two = (training_peak(config, 129, "float32", batch) for batch in (4, 8))
    half = training_peak(config, 129, "bfloat16", 8)
    assert 1.5 * one < two < 2 * one  # weights do not grow
    assert half < two


def test_the_table_names_the_smallest_card():
    lines = table({"DGCN": {"401 px": 8.0, "641 px": 14.0, "huge": 100.0}}).splitlines()
    assert "| DGCN | 8.0 (16 GB) | 14.0 (24 GB) | 100.0 (none) |" in lines
