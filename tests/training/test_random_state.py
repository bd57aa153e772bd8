"""States of the global random generators."""

import random

import numpy as np
import pytest
import torch

from graphpose.training.random_state import derived_seed, random_states, restore_random_states
from tests.emulated_cuda import EmulatedCuda


def test_random_states_come_back_through_a_file(tmp_path):
    torch.save(random_states(), tmp_path / "r.pt")
    expected = random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002
    restore_random_states(torch.load(tmp_path / "r.pt", weights_only=True))
    assert random.random() == expected[0]
    assert np.random.rand() == expected[1]  # noqa: NPY002
    assert torch.equal(torch.rand(3), expected[2])


@pytest.mark.parametrize("visible", [1, 2])
def test_the_state_of_the_device_that_trained_is_restored_on_the_one_that_trains(visible):
    with EmulatedCuda(devices=4) as cuda:
        own = random_states(torch.device("cuda", 3))
        assert {device.index for device in cuda.used} == {3}  # asking another one opens a context there
        every = own | {"cuda": torch.cuda.get_rng_state_all()}  # as checkpoints before had it
    with EmulatedCuda(devices=visible) as cuda:
        device = torch.device("cuda", visible - 1)
        restore_random_states(own, device)
        assert [int(state[0]) for state in cuda.states.values()] == [3]
        restore_random_states(every, device)
        assert {device.index: int(state[0]) for device, state in cuda.states.items()} == {visible - 1: visible - 1}
    restore_random_states(every)  # on a CPU
    restore_random_states(random_states(), torch.device("cuda", 0))  # and back


def test_ranks_draw_from_seeds_of_their_own_and_the_first_from_the_runs():
    seeds = [derived_seed(7, rank) for rank in range(8)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 8
