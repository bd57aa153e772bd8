"""States of the global random generators."""

import random

import numpy as np
import torch

from graphpose.training.random_state import derived_seed, random_states, restore_random_states


def test_random_states_come_back_through_a_file(tmp_path):
    torch.save(random_states(), tmp_path / "r.pt")
    expected = random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002
    restore_random_states(torch.load(tmp_path / "r.pt", weights_only=True))
    assert random.random() == expected[0]
    assert np.random.rand() == expected[1]  # noqa: NPY002
    assert torch.equal(torch.rand(3), expected[2])


def test_ranks_draw_from_seeds_of_their_own_and_the_first_from_the_runs():
    seeds = [derived_seed(7, rank) for rank in range(8)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 8
