"""Samples kept in memory, made by several processes before they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from graphpose.data.dataset import DrawnByWeight, PoseDataset, Weighted
from graphpose.data.sample import Sample
from graphpose.data.workers import init_worker, iterate
from graphpose.errors import GraphposeError

CHUNK_SIZE = 32  # samples that a process makes before it hands them over
MIN_PARALLEL_SAMPLES = 256  # samples that are worth starting processes for


class CachedDataset:
    """Keeps the samples of a slow data set in memory: each is made once and must not be changed.

    Worker processes of a loader share what is there when they start, and keep to themselves what they make later.

    Args:
        dataset: rendered scenes, or few enough photographs; a sample of 160 × 160 pixels takes 100 kB.
    """

    def __init__(self, dataset: PoseDataset) -> None:
        self.dataset = dataset
        self.skeleton = dataset.skeleton
        self.image_ids = dataset.image_ids
        if isinstance(dataset, Weighted):
            self.epoch_images, self.visits = dataset.epoch_images, dataset.visits
        if isinstance(dataset, DrawnByWeight):
            self.draw = dataset.draw
        self._samples: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """The sample of ``index``; a failure to read it is not remembered."""
        if index not in self._samples:
            self._samples[index] = self.dataset[index]
        return self._samples[index]

    @property
    def num_cached(self) -> int:
        """Samples that are in memory."""
        return len(self._samples)

    def fill(self, workers: int, progress: bool = True) -> Iterator[int]:
        """Make what is not there yet; yields how many samples are, now and then, so that the caller may stop it.

        A sample that cannot be read is left to whoever asks for it.

        Args:
            workers: processes that make them; in this one where there are few to make.
            progress: show a bar on a terminal.

        Raises:
            WorkerError: a process died.
        """
        missing = [index for index in range(len(self)) if index not in self._samples]
        loader = DataLoader(
            _Readable(self.dataset),
            batch_size=CHUNK_SIZE,
            sampler=missing,
            num_workers=workers if len(missing) >= MIN_PARALLEL_SAMPLES else 0,
            collate_fn=list,
            worker_init_fn=init_worker,
            generator=torch.Generator(),  # without one it would draw from the global generator
        )
        with tqdm(total=len(missing), desc="samples", disable=None if progress else True, leave=False) as bar:
            for made in iterate(loader):
                self._samples.update((index, sample) for index, sample in made if sample is not None)
                bar.update(len(made))
                yield self.num_cached

    def ground_truth(self) -> dict[str, Any]:
        """Annotations of the data set underneath."""
        return self.dataset.ground_truth()


class _Readable(Dataset[tuple[int, "Sample | None"]]):
    """Samples with their index; None for one that cannot be read."""

    def __init__(self, dataset: PoseDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[int, Sample | None]:
        try:
            return index, self.dataset[index]
        except GraphposeError:
            return index, None
