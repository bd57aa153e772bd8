"""The tracker's figures on made films, by py-motmetrics."""

import numpy as np
import pytest

from experiments.benchmark import build_parser, measure
from experiments.benchmarks.track import distances, figures, milliseconds_per_frame
from graphpose.data.demo.film import DemoFilm
from graphpose.inference.tracking import TrackerConfig

pytest.importorskip("motmetrics")


@pytest.fixture(scope="module")
def film():
    return DemoFilm(40, seed=3, persons=4)


def test_what_is_true_and_found_whole_is_tracked(film):
    frames = []
    for index in range(len(film)):
        truth = film.persons(index)
        frames.append((truth, truth.keypoints.astype(float), truth.area, np.ones(len(truth))))
    found = figures([frames], TrackerConfig())
    assert found["MOTA"] > 0.98
    assert found["identity_switches"] <= 1  # of somebody who comes out from behind another
    assert found["IDF1"] > 0.95


def test_a_distance_is_one_less_the_oks_and_missing_where_it_is_no_match(film):
    truth = film.persons(0)
    found = distances(truth, truth.keypoints)
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-7)
    assert np.nanmax(found) <= 0.5


@pytest.mark.slow
def test_the_benchmark_has_figures_with_and_without_a_velocity():
    # which is the better one, three films cannot say
    measured = measure(build_parser().parse_args(["track", "--films", "3", "--frames", "60"]))
    for name in ("with_velocity", "without_velocity"):
        assert measured[name]["MOTA"] > 0.75
        assert 0.5 < measured[name]["IDF1"] <= 1
    assert milliseconds_per_frame(persons=3, frames=5) > 0
