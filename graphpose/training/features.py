"""Computing a frozen trunk's features of a data set's views, and keeping them; see :mod:`graphpose.data.features`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from tqdm import tqdm

from graphpose.data.features import (
    SHARD_VIEWS,
    FeatureLayout,
    ShardWriter,
    digest,
    missing_shards,
    require_space,
    shard_path,
    write_manifest,
)
from graphpose.data.loader import PoseLoader
from graphpose.errors import GraphposeError
from graphpose.nn.backbone import Backbone

BATCH_SIZE = 16  # views that pass the trunk together; divides SHARD_VIEWS


def trunk_digest(trunk: Backbone) -> str:
    """SHA-256 of a trunk's weights and statistics."""
    return digest({name: tensor.cpu() for name, tensor in trunk.state_dict().items()})


@torch.inference_mode()
def compute_features(trunk: Backbone, loader: PoseLoader, layout: FeatureLayout, folder: Path) -> None:
    """Bring a store to its end; shards that are there are not computed again.

    Whoever else computes the same store is waited for. The size is printed before anything is written.

    Args:
        trunk: of one stride, on the device that computes; its batch norms stay as they are.
        loader: of batches of BATCH_SIZE; its epoch p is pass p of the store.
        layout: of the store.
        folder: of the store.

    Raises:
        GraphposeError: the disk is too small, an image cannot be read, features do not fit into float16 or are of
            another size than the layout says.
    """
    if not missing_shards(folder, layout):
        return
    line = require_space(folder, layout)
    if loader.batch_size != BATCH_SIZE:
        raise GraphposeError(f"features are computed in batches of {BATCH_SIZE}, not of {loader.batch_size}")
    trunk.eval()
    with FileLock(folder / "lock"):
        missing = missing_shards(folder, layout)
        if not missing:  # another process computed them meanwhile
            return
        print(line, flush=True)
        write_manifest(folder, layout)
        started, views = time.perf_counter(), sum(len(layout.shards[number]) for number in missing)
        with tqdm(total=views, desc="features", disable=None, leave=False) as bar:
            for number in missing:
                _compute_shard(trunk, loader, layout, folder, number, bar)
        seconds = time.perf_counter() - started
        print(f"{views} views in {seconds:.0f} s, {views / seconds:.1f} a second", flush=True)


def _compute_shard(
    trunk: Backbone, loader: PoseLoader, layout: FeatureLayout, folder: Path, number: int, bar: Any
) -> None:
    views = layout.shards[number]
    epoch, begin = divmod(views.start, layout.views)
    loader.set_epoch(epoch, begin // BATCH_SIZE)
    device = next(trunk.parameters()).device
    writer, left = ShardWriter(shard_path(folder, number)), len(views)
    for batch in loader:
        if batch.errors:
            raise GraphposeError(f"{batch.errors[0]}; leave the image out of the set to train on features")
        images = batch.images.to(device).contiguous(memory_format=torch.channels_last)
        (features,) = trunk(images).values()
        expected = (layout.channels, *layout.cells)
        if tuple(features.shape[1:]) != expected:
            raise GraphposeError(f"the trunk's features are {tuple(features.shape[1:])}, the store's {expected}")
        writer.add(batch, features.cpu())
        left -= len(batch)
        bar.update(len(batch))
        if left <= 0:
            break
    writer.write()


assert SHARD_VIEWS % BATCH_SIZE == 0
