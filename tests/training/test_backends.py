"""Torch's switches on CUDA."""

import os

import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.training.backends import backends
from graphpose.training.config import TrainConfig
from tests.training.tiny import tiny_trainer


def switches() -> dict:
    return {
        "convolutions": torch.backends.cudnn.allow_tf32,
        "matmuls": torch.backends.cuda.matmul.allow_tf32,
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn": torch.backends.cudnn.deterministic,
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "flash": torch.backends.cuda.flash_sdp_enabled() or torch.backends.cuda.mem_efficient_sdp_enabled(),
    }


@pytest.mark.parametrize(
    ("tf32", "expected"), [("none", (False, False)), ("convolutions", (True, False)), ("all", (True, True))]
)
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_switches_are_the_configuration_s_on_cuda_and_as_they_were_afterwards(
    monkeypatch, tf32, expected, deterministic, training
):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = switches()
    with backends(TrainConfig(tf32=tf32, deterministic=deterministic), torch.device("cuda"), training):
        found = switches()
        assert (found["convolutions"], found["matmuls"]) == expected
        assert found["benchmark"] is (training and not deterministic)
        assert (found["cudnn"], found["algorithms"], found["flash"]) == (
            deterministic,
            deterministic,
            not deterministic,
        )
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is deterministic
    assert switches() == before
    with backends(TrainConfig(tf32=tf32, deterministic=deterministic), torch.device("cpu")):
        assert switches() == before


@pytest.mark.slow
def test_an_epoch_has_its_own_switches(cuda):
    found = []
    trainer = tiny_trainer(2, 2, device="cuda", tf32="all", deterministic=True)
    trainer.train_epoch(lambda: found.append(switches()))
    assert [(step["matmuls"], step["algorithms"]) for step in found] == [(True, True)]


def test_a_kind_of_float32_that_is_none_is_refused():
    with pytest.raises(GraphposeError, match="tf32='some' must be none, convolutions or all"):
        TrainConfig(tf32="some")
