"""Samples that are made once and kept in memory."""

import numpy as np
import pytest
import torch

from graphpose.data import cache
from graphpose.data.cache import CachedDataset
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError


class Counting(DemoDataset):
    """Scenes of which the third cannot be read, and which were asked for in this process."""

    def __init__(self, length):
        super().__init__(length, seed=1, size=64)
        self.asked = []

    def __getitem__(self, index):
        self.asked.append(index)
        if index == 2:
            raise GraphposeError("image 'scene_000003.png' is truncated")
        return super().__getitem__(index)


def test_every_sample_is_made_once():
    cached = CachedDataset(Counting(3))
    assert cached[1] is cached[1]
    assert cached.dataset.asked == [1]
    assert len(cached) == 3
    assert cached.ground_truth()["images"] == cached.dataset.ground_truth()["images"]


@pytest.mark.parametrize("workers", [0, 2])
def test_filling_makes_the_rest_and_leaves_what_cannot_be_read_to_who_asks_for_it(monkeypatch, workers):
    monkeypatch.setattr(cache, "CHUNK_SIZE", 4)
    monkeypatch.setattr(cache, "MIN_PARALLEL_SAMPLES", 1)
    dataset = Counting(10)
    cached = CachedDataset(dataset)
    first = cached[0]
    dataset.asked.clear()
    before = torch.get_rng_state()
    assert list(cached.fill(workers)) == [4, 8, 9]
    assert torch.equal(torch.get_rng_state(), before)  # a resumed run must find it as it was
    assert dataset.asked == ([] if workers else [1, 2, 3, 4, 5, 6, 7, 8, 9])
    dataset.asked.clear()
    assert cached[0] is first
    for index in (1, 3, 9):
        expected = DemoDataset(10, seed=1, size=64)[index]
        np.testing.assert_array_equal(cached[index].image, expected.image)
        np.testing.assert_array_equal(cached[index].persons.keypoints, expected.persons.keypoints)
        assert cached[index].image_id == expected.image_id
    assert dataset.asked == []
    for _ in range(2):
        with pytest.raises(GraphposeError, match="scene_000003"):
            cached[2]
    assert dataset.asked == [2, 2]


def test_few_samples_are_made_without_other_processes():
    dataset = Counting(5)
    assert list(CachedDataset(dataset).fill(workers=2)) == [4]
    assert dataset.asked == [0, 1, 2, 3, 4]


def test_processes_of_a_loader_share_what_was_made_before_they_started():
    class Silent(DemoDataset):
        silent = False

        def __getitem__(self, index):
            if self.silent:
                raise GraphposeError("made again")
            return super().__getitem__(index)

    dataset = Silent(4, seed=1, size=64)
    cached = CachedDataset(dataset)
    assert list(cached.fill(workers=0)) == [4]
    dataset.silent = True
    batches = list(make_loader(cached, EvalTransform(None), 2, shuffle=False, workers=1))
    assert [batch.errors for batch in batches] == [[], []]
    assert [batch.image_ids for batch in batches] == [[1, 2], [3, 4]]
