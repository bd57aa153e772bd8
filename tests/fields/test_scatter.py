"""Scatter reductions: both backends give the same minima, winners and sums."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphpose.errors import GraphposeError
from graphpose.fields.scatter import _package, scatter_min, scatter_sum, torch_scatter

BACKENDS = [
    "torch",
    pytest.param(
        "torch_scatter",
        marks=pytest.mark.skipif(torch_scatter() is None, reason="torch-scatter is not installed"),
    ),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_minimum_names_the_lowest_row_among_equals(backend):
    values = torch.tensor([3.0, 1.0, 2.0, 1.0, 1.0, 2.0])
    index = torch.tensor([0, 0, 2, 0, 0, 2])
    minimum, argmin = scatter_min(values, index, 4, backend)
    assert minimum.tolist() == [1.0, torch.inf, 2.0, torch.inf]
    assert argmin.tolist() == [1, 6, 2, 6]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_scattered_leaves_every_segment_empty(backend):
    minimum, argmin = scatter_min(torch.zeros(0), torch.zeros(0, dtype=torch.int64), 3, backend)
    assert minimum.tolist() == [torch.inf] * 3
    assert argmin.tolist() == [0, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@given(
    rows=st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 6)), max_size=40),
)
def test_minimum_equals_a_loop(backend, rows):
    values = torch.tensor([float(v) for v, _ in rows])
    index = torch.tensor([i for _, i in rows], dtype=torch.int64)
    minimum, argmin = scatter_min(values, index, 7, backend)
    for segment in range(7):
        mine = [(float(v), row) for row, (v, i) in enumerate(rows) if i == segment]
        best = min(mine, default=(float("inf"), len(rows)))
        assert (minimum[segment].item(), argmin[segment].item()) == best


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_of_segments(backend):
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]], dtype=torch.float64)
    index = torch.tensor([1, 1, 0])
    assert scatter_sum(values, index, 3, backend).tolist() == [[10.0, 20.0], [4.0, 6.0], [0.0, 0.0]]


def test_asking_for_a_missing_backend_says_what_to_install(monkeypatch):
    monkeypatch.setattr("graphpose.fields.scatter.torch_scatter", lambda: None)
    with pytest.raises(GraphposeError, match="install it or choose 'torch'"):
        scatter_sum(torch.ones(1), torch.zeros(1, dtype=torch.int64), 1, "torch_scatter")


@pytest.mark.skipif(torch_scatter() is None, reason="torch-scatter is not installed")
@pytest.mark.parametrize(("built_with", "taken"), [(-1, False), (12040, True)])
def test_the_package_is_taken_on_the_devices_it_was_built_for(monkeypatch, built_with, taken):
    monkeypatch.setattr("graphpose.fields.scatter.cuda_version", lambda: built_with)
    assert _package(None, torch.device("cpu")) is torch_scatter()
    assert (_package(None, torch.device("cuda", 1)) is torch_scatter()) is taken
    if not taken:
        with pytest.raises(GraphposeError, match="device 'cuda:1': the package torch-scatter was built without it"):
            _package("torch_scatter", torch.device("cuda", 1))


@pytest.mark.parametrize("error", [ImportError("none"), OSError("symbol"), RuntimeError("different CUDA versions")])
def test_a_package_that_cannot_be_imported_is_left_out(monkeypatch, error):
    def fail(name: str):
        raise error

    torch_scatter.cache_clear()
    monkeypatch.setattr("importlib.import_module", fail)
    try:
        assert torch_scatter() is None
        minimum, argmin = scatter_min(torch.tensor([2.0, 1.0]), torch.tensor([0, 0]), 1)
        assert (minimum.item(), argmin.item()) == (1, 1)
    finally:
        torch_scatter.cache_clear()
