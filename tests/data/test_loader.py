"""Loaders: the same bytes for every number of workers, every image once, and no crash over a bad file."""

import os
import signal
from typing import Any

import numpy as np
import pytest
import torch

from graphpose.data.batch import Batch
from graphpose.data.coco import CocoDataset
from graphpose.data.config import AugmentConfig
from graphpose.data.loader import collate, make_loader, normalise
from graphpose.data.sample import Persons, Sample
from graphpose.data.transforms import EvalTransform, TrainTransform
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, Skeleton


class NoiseDataset:
    """Images of different sizes; image i has i % 3 persons; the ids in ``broken`` cannot be read."""

    skeleton: Skeleton = COCO

    def __init__(self, length: int, broken: tuple[int, ...] = ()) -> None:
        self.image_ids = [100 + i for i in range(length)]
        self.broken = broken

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        if self.image_ids[index] in self.broken:
            raise GraphposeError(f"image noise{self.image_ids[index]} is truncated")
        rng = np.random.default_rng(index)
        height, width = rng.integers(40, 80, 2).tolist()
        P = index % 3
        keypoints = np.concatenate([rng.uniform(5, 35, (P, 17, 2)), np.full((P, 17, 1), 2)], axis=2)
        persons = Persons(
            keypoints.astype(np.float32),
            np.ones((P, 4), np.float32),
            np.full(P, 64, np.float32),
            np.zeros(P, bool),
            np.arange(P),
        )
        image = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
        return Sample(image, persons, np.zeros((height, width), bool), self.image_ids[index], f"noise{index}")

    def ground_truth(self) -> dict[str, Any]:
        return {"images": [], "annotations": [], "categories": []}


AUGMENT = TrainTransform(48, COCO, AugmentConfig(long_edge=64))


def assert_equal_batches(first: Batch, second: Batch) -> None:
    assert first.image_ids == second.image_ids
    assert first.errors == second.errors
    for name in ("images", "keypoints", "scales", "ignore", "to_original"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    loaders = [make_loader(NoiseDataset(11, (104,)), AUGMENT, 3, shuffle=True, seed=5, workers=w) for w in (0, workers)]
    for epoch in (0, 1, 4):
        for loader in loaders:
            loader.set_epoch(epoch)
        batches = [list(loader) for loader in loaders]
        assert len(batches[0]) == len(batches[1]) == 4
        for first, second in zip(*batches, strict=True):
            assert_equal_batches(first, second)


def test_epochs_differ_in_order_and_in_augmentation() -> None:
    loader = make_loader(NoiseDataset(9), AUGMENT, 9, shuffle=True)
    epochs = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        epochs.append(next(iter(loader)))
    assert epochs[0].image_ids != epochs[1].image_ids != epochs[2].image_ids
    first, second = (e.images[e.image_ids.index(104)] for e in epochs[:2])
    assert not torch.equal(first, second)
    loader.set_epoch(0)
    assert_equal_batches(next(iter(loader)), epochs[0])


def test_seeds_differ() -> None:
    first, second = (next(iter(make_loader(NoiseDataset(9), AUGMENT, 9, shuffle=False, seed=s))) for s in (0, 1))
    assert first.image_ids == second.image_ids
    assert not torch.equal(first.images, second.images)


def test_every_image_comes_once_in_order_without_shuffling() -> None:
    loader = make_loader(NoiseDataset(10), EvalTransform(64), 4, shuffle=False)
    batches = list(loader)
    assert [image_id for batch in batches for image_id in batch.image_ids] == list(range(100, 110))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert len(loader) == 3


def test_drop_last_leaves_full_batches_only() -> None:
    loader = make_loader(NoiseDataset(10), AUGMENT, 4, shuffle=True, drop_last=True)
    assert [len(batch) for batch in loader] == [4, 4]
    assert len(loader) == 2


def test_an_epoch_resumes_at_any_batch() -> None:
    loader = make_loader(NoiseDataset(10), AUGMENT, 3, shuffle=True, seed=2)
    loader.set_epoch(3)
    whole = list(loader)
    loader.set_epoch(3, first_batch=2)
    assert len(loader) == 2
    for first, second in zip(whole[2:], loader, strict=True):
        assert_equal_batches(first, second)


def test_ranks_share_the_set_without_overlap_and_make_up_the_global_batch() -> None:
    def load(**share: int) -> list[Batch]:
        return list(make_loader(NoiseDataset(11), AUGMENT, 4 // share["world_size"], shuffle=True, seed=1, **share))

    whole = load(rank=0, world_size=1)
    shares = [load(rank=rank, world_size=2) for rank in (0, 1)]
    for i, batch in enumerate(whole):
        assert sorted(batch.image_ids) == sorted(shares[0][i].image_ids + shares[1][i].image_ids)
    seen = [image_id for share in shares for batch in share for image_id in batch.image_ids]
    assert sorted(seen) == list(range(100, 111))


def test_ranks_have_the_same_number_of_batches_when_the_last_is_dropped() -> None:
    shares = [
        list(make_loader(NoiseDataset(11), AUGMENT, 2, shuffle=True, drop_last=True, rank=rank, world_size=2))
        for rank in (0, 1)
    ]
    assert [len(share) for share in shares] == [2, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_and_left_out(workers: int) -> None:
    loader = make_loader(NoiseDataset(6, (101, 104, 105)), EvalTransform(64), 2, shuffle=False, workers=workers)
    batches = list(loader)
    assert [batch.image_ids for batch in batches] == [[100], [102, 103], []]
    assert [batch.errors for batch in batches] == [
        ["image noise101 is truncated"],
        [],
        ["image noise104 is truncated", "image noise105 is truncated"],
    ]
    assert len(batches[2]) == 0
    assert batches[2].images.shape[0] == 0


def test_a_batch_of_two_equals_two_batches_of_one() -> None:
    dataset = NoiseDataset(6)
    two = next(iter(make_loader(dataset, EvalTransform(64), 6, shuffle=False)))
    ones = list(make_loader(dataset, EvalTransform(64), 1, shuffle=False))
    for i, one in enumerate(ones):
        _, _, height, width = one.images.shape
        P = one.keypoints.shape[1]
        assert torch.equal(two.images[i, :, :height, :width], one.images[0])
        assert torch.equal(two.keypoints[i, :P], one.keypoints[0])
        assert torch.equal(two.scales[i, :P], one.scales[0])
        assert torch.equal(two.ignore[i, :height, :width], one.ignore[0])
        assert torch.equal(two.to_original[i], one.to_original[0])
        assert not two.images[i, :, height:].any()
        assert not two.images[i, :, :, width:].any()
        assert two.ignore[i, height:].all()
        assert two.ignore[i, :, width:].all()
        assert not two.keypoints[i, P:].any()
        assert not two.scales[i, P:].any()


def test_scales_are_roots_of_areas_in_input_pixels() -> None:
    batch = next(iter(make_loader(NoiseDataset(3), EvalTransform(160), 3, shuffle=False)))
    height, width = batch.original_sizes[2]
    factor = 160 / max(height, width)
    np.testing.assert_allclose(batch.scales[2].numpy(), 8 * factor, rtol=0.02)


def test_normalisation_is_that_of_imagenet() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    expected = (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(normalise(image).numpy(), expected.transpose(2, 0, 1), atol=1e-6)


def test_loading_leaves_the_global_generator_alone() -> None:
    loader = make_loader(NoiseDataset(3), AUGMENT, 2, shuffle=True)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_worker_processes_outlive_a_sigterm_and_end_when_the_loader_is_closed() -> None:
    loader = make_loader(NoiseDataset(8), AUGMENT, 1, shuffle=False, workers=1)
    batches = iter(loader)
    next(batches)
    [worker] = loader._iterator._workers  # type: ignore[union-attr]
    os.kill(worker.pid, signal.SIGTERM)
    assert len(list(batches)) == 7
    assert worker.is_alive()
    loader.close()
    assert not worker.is_alive()
    assert len(list(loader)) == 8
    loader.close()


def test_an_empty_collation_has_no_images() -> None:
    assert len(collate([])) == 0


def test_impossible_loaders_are_refused() -> None:
    with pytest.raises(GraphposeError, match="data set is empty"):
        make_loader(NoiseDataset(0), AUGMENT, 2, shuffle=True)
    with pytest.raises(GraphposeError, match="batch_size 0"):
        make_loader(NoiseDataset(3), AUGMENT, 0, shuffle=True)
    with pytest.raises(GraphposeError, match="do not fill one batch"):
        make_loader(NoiseDataset(3), AUGMENT, 4, shuffle=True, drop_last=True)
    with pytest.raises(GraphposeError, match="rank 2"):
        make_loader(NoiseDataset(3), AUGMENT, 1, shuffle=True, rank=2, world_size=2)


def test_photographs_load_with_their_persons(data_root) -> None:  # type: ignore[no-untyped-def]
    path = data_root / "coco/annotations/person_keypoints_val2017_local.json"
    dataset = CocoDataset(path, data_root / "coco/val2017", require_persons=True)
    subset = CocoDataset(path, data_root / "coco/val2017", image_ids=dataset.image_ids[:8])
    batches = list(make_loader(subset, EvalTransform(321), 4, shuffle=False))
    assert all(not batch.errors for batch in batches)
    for batch in batches:
        assert max(batch.images.shape[2:]) == 321
        assert abs(float(batch.images.mean())) < 1.5
        labelled = batch.keypoints[..., 2] > 0
        assert labelled.any(dim=2).any(dim=1).all()  # somebody in every image
        assert torch.equal(labelled.any(dim=2), batch.scales > 0)
        x, y = batch.keypoints[..., 0][labelled], batch.keypoints[..., 1][labelled]
        assert ((x >= -0.5) & (x <= 320.5) & (y >= -0.5) & (y <= 320.5)).all()
