"""What a frozen trunk makes of images, kept on the disk with the images' targets: computed once, trained on many times.

A store is a folder of shards, safetensors files of consecutive views. Each is written under another name and renamed
when it is whole, and has a checksum of its tensors; so a computation that was cut off goes on where it was, and nothing
that a disk has damaged is trained on. Shards are mapped into memory, not read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graphpose.data.batch import Batch
from graphpose.data.dataset import PoseDataset
from graphpose.data.sample import Persons, Sample
from graphpose.data.transforms import Warped
from graphpose.errors import GraphposeError

MANIFEST = "features.json"
SHARD_VIEWS = 512  # views of a shard; what an interruption costs at most
DISK_MARGIN = 1.05  # of the stated size, that must be free
METADATA_KEY = "graphpose"


@dataclasses.dataclass(frozen=True)
class FeatureLayout:
    """What a store has in it.

    Attributes:
        made_from: plain values that features and targets depend on; two stores of the same are the same.
        passes: how often each image was looked at.
        views: of each pass.
        cells: h, w of the features.
        channels: C of the features.
        image_size: H, W of the views in pixels.
        num_keypoints: K of the targets.
    """

    made_from: Mapping[str, Any]
    passes: int
    views: int
    cells: tuple[int, int]
    channels: int
    image_size: tuple[int, int]
    num_keypoints: int

    @property
    def total(self) -> int:
        """Views of all passes."""
        return self.passes * self.views

    @property
    def shards(self) -> list[range]:
        """The views of each shard, which are of one pass."""
        return [
            range(first + begin, first + min(begin + SHARD_VIEWS, self.views))
            for first in range(0, self.total, self.views)
            for begin in range(0, self.views, SHARD_VIEWS)
        ]

    @property
    def bytes_of_view(self) -> int:
        """Features in float16 and the ignore mask in bits; the rest is a few hundred bytes."""
        h, w = self.cells
        H, W = self.image_size
        return 2 * h * w * self.channels + (H * W + 7) // 8

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def folder(self, root: Path, name: str) -> Path:
        """Where the store lies: under ``root``, by its name and a digest of everything in here."""
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]
        return root / f"{name}-{digest}"


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"{number:05d}.safetensors"


def missing_shards(folder: Path, layout: FeatureLayout) -> list[int]:
    """Numbers of the shards that are still to be computed."""
    return [number for number in range(len(layout.shards)) if not shard_path(folder, number).is_file()]


def require_space(folder: Path, layout: FeatureLayout) -> str:
    """Make the folder and say in a line what will come into it.

    Raises:
        GraphposeError: the disk is too small for what is missing.
    """
    missing = sum(len(layout.shards[number]) for number in missing_shards(folder, layout))
    needed = missing * layout.bytes_of_view
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise GraphposeError(f"features cannot be kept in {folder}: {error.strerror or error}") from error
    if DISK_MARGIN * needed > free:
        raise GraphposeError(
            f"features of {missing} views take {_gigabytes(needed)}, but {folder} has {_gigabytes(free)} free; choose "
            "another disk with features=FOLDER, or fewer feature_passes"
        )
    return (
        f"features of {missing} of {layout.total} views, {_gigabytes(needed)}, into {folder} ({_gigabytes(free)} free)"
    )


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.2f} GB"


def write_manifest(folder: Path, layout: FeatureLayout) -> None:
    """Say in a file what the store is of."""
    _replace(folder / MANIFEST, lambda path: path.write_text(json.dumps(layout.to_dict(), indent=1)))


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise GraphposeError(f"{path} could not be written: {error.strerror or error}") from error
    except SafetensorError as error:  # a full disk, too
        raise GraphposeError(f"{path} could not be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


class ShardWriter:
    """Collects the views of one shard, batch by batch, and writes it.

    Args:
        path: of the shard.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: list[dict[str, Tensor]] = []
        self._texts: dict[str, list[str]] = {"file_names": [], "sources": []}

    def add(self, batch: Batch, features: Tensor) -> None:
        """Take over a batch.

        Args:
            batch: of images with their targets.
            features: (B, C, h, w) of the images.

        Raises:
            GraphposeError: a feature that float16 cannot hold.
        """
        kept = features.permute(0, 2, 3, 1).to(torch.float16).contiguous()  # (B, h, w, C)
        if not torch.isfinite(kept).all():
            raise GraphposeError(f"the trunk's features of image {batch.image_ids[0]} or near it exceed float16")
        labelled = (batch.keypoints[..., 2] > 0).any(-1)  # (B, P); the others are padding
        known = batch.known
        part = {
            "features": kept,
            "keypoints": batch.keypoints[labelled],
            "scales": batch.scales[labelled],
            "persons": labelled.sum(1),
            "ignore": torch.from_numpy(np.packbits(batch.ignore.flatten(1).numpy(), axis=1)),
            "to_original": batch.to_original,
            "original_sizes": torch.tensor(batch.original_sizes, dtype=torch.int64).reshape(-1, 2),
            "image_ids": torch.tensor(batch.image_ids, dtype=torch.int64),
        }
        K = batch.keypoints.shape[2]
        for i in range(len(batch)):
            table = torch.ones(1, K, dtype=torch.bool) if known is None else known[i]
            several = batch.regions is not None and len(table) > 1 and bool(batch.regions[i].any())
            regions = batch.regions[i][None] if several else torch.zeros(0, *batch.ignore.shape[1:])  # type: ignore[index]
            one = {
                "known": (table if several else table[:1]).to(torch.uint8),
                "known_rows": torch.tensor([len(table) if several else 1]),
                "regions": regions.to(torch.uint8),
            }
            for name, tensor in one.items():
                part[name] = torch.cat((part[name], tensor)) if name in part else tensor
        self._parts.append(part)
        self._texts["file_names"] += batch.file_names
        self._texts["sources"] += batch.sources

    def write(self) -> None:
        """The shard, whole or not at all."""
        tensors = {name: torch.cat([part[name] for part in self._parts]).contiguous() for name in self._parts[0]}
        metadata = json.dumps(self._texts | {"sha256": digest(tensors)})
        _replace(self.path, lambda path: save_file(tensors, path, metadata={METADATA_KEY: metadata}))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and bytes of tensors."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        found.update(np.ascontiguousarray(tensors[name].numpy()).data)
    return found.hexdigest()


class _Shard:
    """A shard mapped into memory."""

    def __init__(self, path: Path, verify: bool) -> None:
        try:
            with safe_open(path, "pt") as file:
                self.texts = json.loads((file.metadata() or {})[METADATA_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise GraphposeError(
                f"features {path} cannot be read ({error}); remove it to have it made again"
            ) from error
        if verify and digest(tensors) != self.texts["sha256"]:
            raise GraphposeError(f"features {path} are damaged: the checksum is wrong; remove it to have it made again")
        self.tensors = {name: tensor.numpy() for name, tensor in tensors.items()}
        self.first_person = np.cumsum([0, *self.tensors["persons"].tolist()])
        rows = self.tensors["known_rows"]
        self.first_known = np.cumsum([0, *rows.tolist()])
        self.region = np.cumsum(rows > 1) - 1  # among those that are kept

    def sample(self, row: int, size: tuple[int, int]) -> FeatureSample:
        """View ``row`` of the shard."""
        t = self.tensors
        persons = slice(self.first_person[row], self.first_person[row + 1])
        known = t["known"][self.first_known[row] : self.first_known[row + 1]]
        count = persons.stop - persons.start
        ignore = np.unpackbits(t["ignore"][row], count=size[0] * size[1]).astype(bool).reshape(size)
        return FeatureSample(
            image=np.zeros((0, 0, 3), np.uint8),
            persons=Persons(
                keypoints=t["keypoints"][persons],
                bbox=np.zeros((count, 4), np.float32),
                area=t["scales"][persons] ** 2,
                iscrowd=np.zeros(count, bool),
                ids=np.zeros(count, np.int64),
            ),
            ignore=ignore,
            image_id=int(t["image_ids"][row]),
            file_name=self.texts["file_names"][row],
            known=None if known.all() else known.astype(np.float32),
            regions=t["regions"][self.region[row]] if len(known) > 1 else None,
            source=self.texts["sources"][row],
            features=t["features"][row],
            to_original=t["to_original"][row],
            original_size=tuple(t["original_sizes"][row].tolist()),
        )


@dataclasses.dataclass
class FeatureSample(Sample):
    """A view that is kept: features in place of the image, everything else in pixels of the view.

    Attributes:
        to_original: see :class:`~graphpose.data.transforms.Warped`.
        original_size: likewise.
    """

    to_original: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(2, 3))
    original_size: tuple[int, int] = (0, 0)


def stored_view(sample: Sample, rng: np.random.Generator) -> Warped:
    """The transform of a loader over a :class:`FeatureDataset`: its samples are views already."""
    assert isinstance(sample, FeatureSample)
    return Warped(sample, sample.to_original, sample.original_size)


class FeatureDataset:
    """A store of features as a data set; an epoch of training takes one pass after the other, and then the first again.

    Args:
        folder: of the store.
        layout: what is in it.
        dataset: that it was computed from; gives skeleton, ids and ground truth.
        verify: compare the checksums of all shards now; reads all of them once.

    Attributes:
        epoch_images: views of a pass.

    Raises:
        GraphposeError: shards are missing or damaged; names the file.
    """

    def __init__(self, folder: Path, layout: FeatureLayout, dataset: PoseDataset, verify: bool = True) -> None:
        self.folder, self.layout, self.dataset = folder, layout, dataset
        self.skeleton = dataset.skeleton
        self.epoch_images = layout.views
        missing = missing_shards(folder, layout)
        if missing:
            raise GraphposeError(
                f"features {folder} lack {len(missing)} of {len(layout.shards)} shards, "
                f"{shard_path(folder, missing[0]).name} for one; have them computed"
            )
        self._shards = [_Shard(shard_path(folder, number), verify) for number in range(len(layout.shards))]

    @property
    def image_ids(self) -> Sequence[int]:
        """Ids of the images of the data set underneath."""
        return self.dataset.image_ids

    def __len__(self) -> int:
        return self.layout.total

    def __getitem__(self, index: int) -> FeatureSample:
        """View ``index``, pass after pass."""
        number_of_pass, place = divmod(range(len(self))[index], self.layout.views)
        number, row = divmod(place, SHARD_VIEWS)
        shards_of_pass = len(self._shards) // self.layout.passes
        return self._shards[number_of_pass * shards_of_pass + number].sample(row, self.layout.image_size)

    def visits(self, seed: int, epoch: int) -> np.ndarray:
        """(epoch_images, 2) the views of the epoch's pass in an order of their own, and zeros."""
        begin = epoch % self.layout.passes * self.epoch_images
        order = begin + np.random.default_rng([seed, epoch]).permutation(self.epoch_images)
        return np.stack([order, np.zeros_like(order)], axis=1)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "layout": self.layout, "dataset": self.dataset}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state, verify=False)  # type: ignore[misc]

    def ground_truth(self) -> dict[str, Any]:
        """Annotations of the data set underneath."""
        return self.dataset.ground_truth()
