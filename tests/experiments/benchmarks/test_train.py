"""experiments/benchmark.py train: what it measures is training, and a loop that leaves the trainer alone."""

import importlib

import pytest
import torch

from experiments.benchmark import build_parser, measure
from graphpose.errors import GraphposeError
from tests.training.tiny import states_equal

TINY = [
    "demo", "demo_train_scenes=5", "batch_size=2", "image_size=64", "augment.long_edge=64", "backbone=test_resnet",
    "device=cpu",
]  # fmt: skip


@pytest.fixture
def benchmark(monkeypatch):
    return importlib.import_module("experiments.benchmarks.train")


def run(*arguments):
    return measure(build_parser().parse_args(["train", *arguments]))


@pytest.mark.slow
def test_the_ratio_is_of_one_round_and_the_median_over_rounds():
    report = run(*TINY, "--rounds", "3")
    assert report["steps_per_epoch"] == 2  # the fifth image is left out, as in training
    assert report["ratio"] == pytest.approx(sorted(report["ratios"])[1], abs=1e-3)
    assert min(report["images_per_second"], report["random_images_per_second"], *report["ratios"]) > 0
    assert 0 < report["waiting_share"] < report["outside_share"] < 1


@torch.no_grad()
def test_the_loop_changes_neither_its_weights_nor_the_trainers(benchmark):
    trainer, settings = benchmark.build([*TINY, "freeze_batch_norm=True", "loss.pif_offset=2"])
    assert trainer.loss.config.pif_offset == 2
    loop = benchmark.RandomLoop(trainer, settings)
    before = [parameter.clone() for parameter in loop.network.parameters()]
    with torch.enable_grad():
        loop.step()
    assert all(torch.equal(a, b) for a, b in zip(before, loop.network.parameters(), strict=True))
    assert any(parameter.grad.abs().sum() > 0 for parameter in loop.network.parameters())
    assert states_equal(trainer.network, benchmark.build([*TINY, "loss.pif_offset=2"])[0].network)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dmo"], "'dmo' is no named configuration; choose one of demo, own, coco"),
        (["demo", "epocs=3"], "unknown configuration key 'epocs'; did you mean epochs"),
        (["demo", "los.pif_offset=2"], "los.pif_offset: there is no group 'los', only augment, crowd, decoder, loss"),
        (["demo", "epochs"], "'demo epochs' is no named configuration"),
    ],
)
def test_wrong_settings_are_named(benchmark, words, message):
    with pytest.raises(GraphposeError, match=message):
        benchmark.build(words)
