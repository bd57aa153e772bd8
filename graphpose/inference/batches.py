"""Batches of a loader through a network: fields on the host, and the poses that are decoded from them."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from graphpose.data.batch import Batch
from graphpose.fields.config import FusionConfig
from graphpose.fields.decode import Decoder
from graphpose.fields.fusion import Fields, View, views_to_decode
from graphpose.fields.merging import decode_views
from graphpose.fields.pose import Poses
from graphpose.fields.spec import probabilities
from graphpose.inference.exported import ExportedNetwork, FieldNetwork
from graphpose.nn.network import PoseNetwork


def input_sizes(batch: Batch) -> list[tuple[int, int]]:
    """Height and width in pixels that each image of a batch covers of the network's input, without its padding."""
    H, W = batch.size
    scales = torch.linalg.det(batch.to_original[:, :, :2]).abs().sqrt().tolist()  # original pixels per input pixel
    return [
        (min(H, round(height / scale)), min(W, round(width / scale)))
        for (height, width), scale in zip(batch.original_sizes, scales, strict=True)
    ]


def device_of(network: FieldNetwork) -> torch.device:
    """Where a network runs."""
    return torch.device("cpu") if isinstance(network, ExportedNetwork) else next(network.parameters()).device


def for_inference(network: PoseNetwork) -> PoseNetwork:
    """The network as its device computes it fastest: on CUDA folded and in channels last, on a CPU as it is."""
    if device_of(network).type != "cuda":
        return network
    return (network if network.folded else network.fold()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.inference_mode()
def predict_fields(
    network: FieldNetwork, images: Tensor, *, precision: str = "float32", fusion: FusionConfig | None = None
) -> list[View]:
    """The fields of a batch that are decoded, confidences are probabilities, on the CPU: of one view, or of several
    sizes whose poses are merged.

    Args:
        network: in evaluation mode, on the device that it runs on.
        images: (B, 3, H, W) in ImageNet normalisation, on any device.
        precision: autocast type, "float32" for none.
        fusion: views that the network sees; None is the image alone.
    """
    return begin_fields(network, images, precision, fusion).finish()


@dataclasses.dataclass
class PendingFields:
    """Fields that a device may still be working on.

    Attributes:
        views: where they will be, in the host's memory.
        done: recorded behind the copy to there; None where they are there.
    """

    views: list[View]
    done: torch.cuda.Event | None

    def finish(self) -> list[View]:
        """The fields, once they are there."""
        if self.done is not None:
            self.done.synchronize()
        return self.views


@torch.inference_mode()
def begin_fields(network: FieldNetwork, images: Tensor, precision: str, fusion: FusionConfig | None) -> PendingFields:
    """As :func:`predict_fields`, without waiting: on CUDA the host goes on while the network works."""
    device = device_of(network)

    def fields(images: Tensor) -> Fields:
        with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
            outputs = network(images)
        return probabilities(outputs["pif"].float()), probabilities(outputs["paf"].float())

    images = images.to(device, non_blocking=True)
    views = views_to_decode(fields, images, network.spec, fusion or FusionConfig())
    if device.type != "cuda":
        return PendingFields([View(view.pif.cpu(), view.paf.cpu(), view.factors) for view in views], None)
    host = [View(_begin_copy(view.pif), _begin_copy(view.paf), view.factors) for view in views]
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(device))
    return PendingFields(host, done)


def _begin_copy(field: Tensor) -> Tensor:
    """A copy in the host's memory, pinned, for a copy to other memory is waited for."""
    return torch.empty(field.shape, dtype=field.dtype, pin_memory=True).copy_(field, non_blocking=True)


def fields_of_batches(
    network: FieldNetwork,
    batches: Iterable[Batch],
    *,
    precision: str = "float32",
    seconds: dict[str, float] | None = None,
    fusion: FusionConfig | None = None,
) -> Iterator[tuple[Batch, list[View] | None]]:
    """The fields of every batch; on CUDA the next batch is with the network while the caller looks at this one's.

    Args:
        network: in evaluation mode, on the device that it runs on.
        batches: from a loader.
        precision: autocast type, "float32" for none.
        seconds: if given, the time that the host spent on the network is added to it.
        fusion: views that the network sees; None is the image alone.

    Yields:
        Each batch with its fields as :func:`predict_fields` gives them, in order; None for a batch without an image.
    """
    ahead = int(device_of(network).type == "cuda")
    begun: collections.deque[tuple[Batch, PendingFields | None]] = collections.deque()

    def finish() -> tuple[Batch, list[View] | None]:
        batch, pending = begun.popleft()
        started = time.perf_counter()
        views = None if pending is None else pending.finish()
        count(started)
        return batch, views

    def count(started: float) -> None:
        if seconds is not None:
            seconds["network"] = seconds.get("network", 0.0) + time.perf_counter() - started

    for batch in batches:
        started = time.perf_counter()
        begun.append((batch, begin_fields(network, batch.images, precision, fusion) if len(batch) else None))
        count(started)
        if len(begun) > ahead:
            yield finish()
    while begun:
        yield finish()


def predict_batches(
    network: FieldNetwork,
    decoder: Decoder,
    batches: Iterable[Batch],
    *,
    precision: str = "float32",
    seconds: dict[str, float] | None = None,
    fusion: FusionConfig | None = None,
) -> Iterator[tuple[Batch, list[Poses]]]:
    """Poses of every batch, in pixels of the original images.

    Args:
        network: in evaluation mode, on the device that it runs on.
        decoder: made for ``network.spec``.
        batches: from a loader.
        precision: autocast type, "float32" for none.
        seconds: if given, the time of network and decoder is added to it.
        fusion: views that the network sees; None is the image alone.
    """
    for batch, views in fields_of_batches(network, batches, precision=precision, seconds=seconds, fusion=fusion):
        if views is None:
            yield batch, []
            continue
        started = time.perf_counter()
        poses = decode_views(decoder, views, input_sizes(batch))
        if seconds is not None:
            seconds["decode"] = seconds.get("decode", 0.0) + time.perf_counter() - started
        yield batch, [one.mapped(affine.numpy()) for one, affine in zip(poses, batch.to_original, strict=True)]
