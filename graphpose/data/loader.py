"""Loaders: samples to batches, the same for every number of worker processes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from graphpose.data.batch import Batch
from graphpose.data.dataset import PoseDataset, Weighted
from graphpose.data.sample import Sample
from graphpose.data.transforms import IMAGENET_MEAN, IMAGENET_STD, Transform, Warped
from graphpose.data.workers import init_worker, iterate
from graphpose.errors import GraphposeError


def make_loader(
    dataset: PoseDataset,
    transform: Transform,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int = 0,
    workers: int = 0,
    pin_memory: bool = False,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> PoseLoader:
    """A loader of batches whose bytes depend on seed, epoch and index only, not on the number of workers.

    Args:
        dataset: the images.
        transform: TrainTransform or EvalTransform.
        batch_size: images per batch (and per rank).
        shuffle: a new order every epoch, and of a :class:`~graphpose.data.dataset.Weighted` set a new choice of images
            by weight.
        seed: of the order and of every transform's draws.
        workers: processes; 0 loads in this one.
        pin_memory: for copies to a GPU.
        drop_last: leave out the images at the end that do not fill a batch on every rank.
        rank: which share this process loads.
        world_size: number of shares; the shares do not overlap and together are the whole set.

    Returns:
        An iterable of Batch. Images of different sizes are padded at the right and bottom to the largest of the batch.
        A sample that cannot be read is missing from its batch and named in ``errors``; a batch may so have 0 images.

    Raises:
        GraphposeError: when the set is empty or the batch size not positive.
    """
    if len(dataset) == 0:
        raise GraphposeError("the data set is empty; a loader needs at least one image")
    if batch_size < 1:
        raise GraphposeError(f"batch_size {batch_size} must be at least 1")
    if not 0 <= rank < world_size:
        raise GraphposeError(f"rank {rank} must lie between 0 and world_size − 1 = {world_size - 1}")
    visits = None
    length = len(dataset)
    if isinstance(dataset, Weighted) and shuffle:
        length, visits = dataset.epoch_images, dataset.visits
    if drop_last and length < batch_size * world_size:
        raise GraphposeError(
            f"the data set's {length} images do not fill one batch of {batch_size} on {world_size} rank(s); "
            f"choose a smaller batch_size or keep the last batch"
        )
    sampler = EpochSampler(length, batch_size, shuffle, seed, drop_last, rank, world_size, visits)
    return PoseLoader(
        _TransformedDataset(dataset, transform, seed),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_collate_readable,
        pin_memory=pin_memory,
        worker_init_fn=init_worker,
        # Without one of its own the loader would draw from the global generator, which a resumed run must find as it
        # was.
        generator=torch.Generator().manual_seed(seed),
        persistent_workers=workers > 0,
    )


class EpochSampler(Sampler[tuple[int, int, int]]):
    """Keys (epoch, index, visit) of one rank: the epoch travels with the index, so that workers never lag behind.

    The visit counts from 0 how often the image has been in the epoch before.

    Args:
        length: images of an epoch.
        batch_size: images per batch of each rank.
        shuffle: a new order every epoch.
        seed: of the order.
        drop_last: leave out the images at the end that do not fill a batch on every rank.
        rank: whose share it is.
        world_size: number of shares.
        visits: gives (n, 2) image indices and visits of an epoch from (seed, epoch); None is every image once.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        rank: int,
        world_size: int,
        visits: Callable[[int, int], np.ndarray] | None = None,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self.visits = visits
        self.epoch = 0
        self.first_batch = 0

    def indices(self) -> np.ndarray:
        """(n, 2) this rank's image indices and visits of the epoch, before ``first_batch`` is skipped."""
        if self.visits is None:
            order = np.stack([np.arange(self.length), np.zeros(self.length, np.int64)], axis=1)
        else:
            order = self.visits(self.seed, self.epoch)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        if self.drop_last:
            order = order[: self.length - self.length % (self.batch_size * self.world_size)]
        return order[self.rank :: self.world_size]

    @property
    def steps(self) -> int:
        """Batches of a whole epoch on the rank that has most; a rank may have one batch less."""
        images = self.length
        if self.drop_last:
            images -= images % (self.batch_size * self.world_size)
        return math.ceil(math.ceil(images / self.world_size) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for index, visit in self.indices()[self.first_batch * self.batch_size :].tolist():
            yield self.epoch, index, visit

    def __len__(self) -> int:
        return max(0, len(self.indices()) - self.first_batch * self.batch_size)


class PoseLoader(DataLoader["Warped | SampleError"]):
    """A DataLoader that yields Batch and knows epochs."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        return iterate(self)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of a whole epoch, whatever :meth:`set_epoch` has skipped; the same on every rank."""
        assert isinstance(self.sampler, EpochSampler)
        return self.sampler.steps

    def close(self) -> None:
        """End the worker processes; the next iteration starts new ones."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None and self.num_workers:
            iterator._shutdown_workers()  # type: ignore[attr-defined]

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose what the next iteration yields.

        Args:
            epoch: number of the epoch; decides order and augmentation.
            first_batch: batches to skip, for resuming in the middle of an epoch.
        """
        assert isinstance(self.sampler, EpochSampler)
        self.sampler.epoch = epoch
        self.sampler.first_batch = first_batch


@dataclasses.dataclass
class SampleError:
    """Takes the place of a sample that could not be read."""

    message: str


class _TransformedDataset(Dataset[Warped | SampleError]):
    """A data set with its transform; every draw comes from (seed, epoch, index, visit)."""

    def __init__(self, dataset: PoseDataset, transform: Transform, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.num_keypoints = dataset.skeleton.num_keypoints

    def __getitem__(self, key: tuple[int, int, int]) -> Warped | SampleError:
        epoch, index, visit = key
        # The 1 keeps these streams apart from the one that shuffles the epoch.
        stream = [self.seed, epoch, index, 1] + [visit] * (visit > 0)
        try:
            sample = self.dataset[index]
            return self.transform(sample, np.random.default_rng(stream))
        except GraphposeError as error:
            return SampleError(str(error))


def _collate_readable(items: Sequence[Warped | SampleError]) -> Batch:
    batch = collate([item for item in items if isinstance(item, Warped)])
    batch.errors.extend(item.message for item in items if isinstance(item, SampleError))
    return batch


def collate(items: Sequence[Warped]) -> Batch:
    """One batch of samples; smaller images and fewer persons are padded.

    Args:
        items: B samples with any sizes.

    Returns:
        Batch of B images of the largest height and width; padding is 0 (the mean colour) and ignored. B may be 0.
        Features must be of one size.
    """
    samples = [item.sample for item in items]
    features = [s.features for s in samples if s.features is not None]
    height = max((s.ignore.shape[0] for s in samples), default=0)
    width = max((s.ignore.shape[1] for s in samples), default=0)
    P = max((len(s.persons) for s in samples), default=0)
    K = samples[0].persons.keypoints.shape[1] if samples else 0
    images = _stack(features) if features else _allocate(len(items), 3, height, width)
    keypoints = torch.zeros(len(items), P, K, 3)
    scales = torch.zeros(len(items), P)
    ignore = _allocate(len(items), height, width, dtype=torch.bool)
    for i, sample in enumerate(samples):
        h, w = sample.ignore.shape
        ignore[i, h:], ignore[i, :h, w:] = True, True
        if not features:
            images[i, :, h:], images[i, :, :h, w:] = 0, 0
            normalise(sample.image, out=images[i, :, :h, :w])
        ignore[i, :h, :w] = torch.from_numpy(sample.ignore)
        keypoints[i, : len(sample.persons)] = torch.from_numpy(sample.persons.keypoints)
        scales[i, : len(sample.persons)] = torch.from_numpy(sample.persons.area).sqrt()
    known, regions = _collate_known(samples, K, (height, width))
    to_original = [torch.from_numpy(item.to_original) for item in items]
    return Batch(
        images=images,
        keypoints=keypoints,
        scales=scales,
        ignore=ignore,
        to_original=torch.stack(to_original) if items else torch.zeros(0, 2, 3, dtype=torch.float64),
        original_sizes=[item.original_size for item in items],
        image_ids=[s.image_id for s in samples],
        file_names=[s.file_name for s in samples],
        known=known,
        regions=regions,
        sources=[s.source for s in samples],
    )


def _stack(features: Sequence[np.ndarray]) -> torch.Tensor:
    """(B, C, h, w) in channels last of (h, w, C) each."""
    stacked = _allocate(len(features), *features[0].shape, dtype=torch.float16)
    np.stack(features, out=stacked.numpy())
    return stacked.permute(0, 3, 1, 2)


def _collate_known(
    samples: Sequence[Sample], K: int, size: tuple[int, int]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(B, R, K) known keypoints and (B, H, W) regions, None where all keypoints are known or every image is a region.

    Images of fewer regions get others that no pixel belongs to.
    """
    tables = [None if s.known is None else torch.from_numpy(s.known > 0) for s in samples]
    if all(table is None or bool(table.all()) for table in tables):
        return None, None
    known = torch.ones(len(samples), max(len(t) for t in tables if t is not None), K, dtype=torch.bool)
    regions = torch.zeros(len(samples), *size, dtype=torch.uint8) if known.shape[1] > 1 else None
    for i, (sample, table) in enumerate(zip(samples, tables, strict=True)):
        if table is None:
            continue
        known[i, : len(table)] = table
        if regions is not None and sample.regions is not None:
            regions[i, : sample.regions.shape[0], : sample.regions.shape[1]] = torch.from_numpy(sample.regions)
    return known, regions


def _allocate(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """An uninitialised tensor; in a worker process in shared memory, as torch's own collation has it.

    There the batch is filled where it travels, for copying it costs as much as making it.
    """
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    empty = torch.empty(0, dtype=dtype)
    return empty.new(empty._typed_storage()._new_shared(math.prod(shape))).resize_(*shape)


def normalise(image: np.ndarray, out: torch.Tensor | None = None) -> torch.Tensor:
    """An image in ImageNet normalisation.

    Args:
        image: (H, W, 3) uint8 RGB.
        out: (3, H, W) float32 to write to.

    Returns:
        (3, H, W) float32, (value / 255 − mean) / std per channel; ``out`` where given.
    """
    if out is None:
        out = torch.empty(3, *image.shape[:2])
    for channel, plane in enumerate(cv2.split(image)):
        # One plane at a time stays in the cache, and NumPy converts while it multiplies.
        target = out[channel].numpy()
        np.multiply(plane, np.float32(1 / (255 * IMAGENET_STD[channel])), out=target)
        np.subtract(target, np.float32(IMAGENET_MEAN[channel] / IMAGENET_STD[channel]), out=target)
    return out
