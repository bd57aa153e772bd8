"""Prediction: photographs in, poses, drawings and COCO results out."""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpose.checkpoint import load_checkpoint, network_from_checkpoint, usage_of
from graphpose.data.batch import Batch
from graphpose.data.image import read_image
from graphpose.data.loader import collate
from graphpose.data.sample import Persons, Sample
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig, FusionConfig, UsageConfig
from graphpose.fields.decode import Decoder, build_decoder
from graphpose.fields.fusion import Fields, fused_fields
from graphpose.fields.pose import Poses
from graphpose.fields.spec import probabilities
from graphpose.metrics.coco import coco_results
from graphpose.nn.network import PoseNetwork
from graphpose.packed import SHIPPED
from graphpose.visualize import draw_poses, save_image

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".bmp", ".dib", ".webp", ".avif", ".tif", ".tiff", ".gif", ".pbm",
    ".pgm", ".ppm", ".pnm",
)  # fmt: skip


def input_sizes(batch: Batch) -> list[tuple[int, int]]:
    """Height and width in pixels that each image of a batch covers of the network's input, without its padding."""
    H, W = batch.images.shape[-2:]
    scales = torch.linalg.det(batch.to_original[:, :, :2]).abs().sqrt().tolist()  # original pixels per input pixel
    return [
        (min(H, round(height / scale)), min(W, round(width / scale)))
        for (height, width), scale in zip(batch.original_sizes, scales, strict=True)
    ]


def for_inference(network: PoseNetwork) -> PoseNetwork:
    """The network as its device computes it fastest: on CUDA folded and in channels last, on a CPU as it is."""
    if next(network.parameters()).device.type != "cuda":
        return network
    return (network if network.folded else network.fold()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.inference_mode()
def predict_fields(
    network: PoseNetwork, images: Tensor, *, precision: str = "float32", fusion: FusionConfig | None = None
) -> Fields:
    """PIF (B, K, 5, h, w) and PAF (B, M, 7, h, w) of a batch, confidences are probabilities, on the CPU.

    Args:
        network: in evaluation mode, on the device that it runs on.
        images: (B, 3, H, W) in ImageNet normalisation, on any device.
        precision: autocast type, "float32" for none.
        fusion: views that are fused; None is the image alone.
    """
    return _begin(network, images, precision, fusion).finish()


@dataclasses.dataclass
class _Begun:
    """Fields that a device may still be working on.

    Attributes:
        fields: where they will be, in the host's memory.
        done: recorded behind the copy to there; None where they are there.
    """

    fields: Fields
    done: torch.cuda.Event | None

    def finish(self) -> Fields:
        """The fields, once they are there."""
        if self.done is not None:
            self.done.synchronize()
        return self.fields


@torch.inference_mode()
def _begin(network: PoseNetwork, images: Tensor, precision: str, fusion: FusionConfig | None) -> _Begun:
    """Hand a batch to the network; on CUDA the host goes on meanwhile."""
    device = next(network.parameters()).device

    def fields(images: Tensor) -> Fields:
        with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
            outputs = network(images)
        return probabilities(outputs["pif"].float()), probabilities(outputs["paf"].float())

    images = images.to(device, non_blocking=True)
    pif, paf = fused_fields(fields, images, network.spec, fusion or FusionConfig())
    if device.type != "cuda":
        return _Begun((pif.cpu(), paf.cpu()), None)
    # pinned, for a copy to other memory is waited for
    host = tuple(torch.empty(field.shape, dtype=field.dtype, pin_memory=True) for field in (pif, paf))
    for to, field in zip(host, (pif, paf), strict=True):
        to.copy_(field, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(device))
    return _Begun((host[0], host[1]), done)


def fields_of_batches(
    network: PoseNetwork,
    batches: Iterable[Batch],
    *,
    precision: str = "float32",
    seconds: dict[str, float] | None = None,
    fusion: FusionConfig | None = None,
) -> Iterator[tuple[Batch, Fields | None]]:
    """The fields of every batch; on CUDA the next batch is with the network while the caller looks at this one's.

    Args:
        network: in evaluation mode, on the device that it runs on.
        batches: from a loader.
        precision: autocast type, "float32" for none.
        seconds: if given, the time that the host spent on the network is added to it.
        fusion: views that are fused; None is the image alone.

    Yields:
        Each batch with its fields as :func:`predict_fields` gives them, in order; None for a batch without an image.
    """
    ahead = int(next(network.parameters()).device.type == "cuda")
    begun: collections.deque[tuple[Batch, _Begun | None]] = collections.deque()

    def finish() -> tuple[Batch, Fields | None]:
        batch, pending = begun.popleft()
        started = time.perf_counter()
        fields = None if pending is None else pending.finish()
        count(started)
        return batch, fields

    def count(started: float) -> None:
        if seconds is not None:
            seconds["network"] = seconds.get("network", 0.0) + time.perf_counter() - started

    for batch in batches:
        started = time.perf_counter()
        begun.append((batch, _begin(network, batch.images, precision, fusion) if len(batch) else None))
        count(started)
        if len(begun) > ahead:
            yield finish()
    while begun:
        yield finish()


def predict_batches(
    network: PoseNetwork,
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
        fusion: views that are fused before decoding; None is the image alone.
    """
    for batch, fields in fields_of_batches(network, batches, precision=precision, seconds=seconds, fusion=fusion):
        if fields is None:
            yield batch, []
            continue
        started = time.perf_counter()
        poses = decoder.decode_batch(*fields, image_sizes=input_sizes(batch))
        if seconds is not None:
            seconds["decode"] = seconds.get("decode", 0.0) + time.perf_counter() - started
        yield batch, [one.mapped(affine.numpy()) for one, affine in zip(poses, batch.to_original, strict=True)]


class Predictor:
    """Poses of images, in their own pixels.

    Args:
        network: on the device that it runs on; None is the network that graphpose ships, with its own usage and
            thresholds where none are given.
        usage: size that images are resized to and views that are fused; None is that of the shipped network, or the
            defaults of :class:`~graphpose.fields.config.UsageConfig`.
        decoder: made for ``network.spec``; by default one with default thresholds.
        precision: autocast type, "float32" for none.

    Raises:
        GraphposeError: there is no shipped network, or it cannot be read.
    """

    def __init__(
        self,
        network: PoseNetwork | None = None,
        usage: UsageConfig | None = None,
        decoder: Decoder | None = None,
        precision: str = "float32",
    ) -> None:
        if network is None:
            content = load_checkpoint(SHIPPED)
            network = for_inference(network_from_checkpoint(content, SHIPPED))
            usage = usage or usage_of(content)
            decoder = decoder or build_decoder(network.spec, DecoderConfig.from_dict(content["decoder"]))
        self.precision = precision
        self.network = network.eval()
        self.usage = usage or UsageConfig()
        self.decoder = decoder or build_decoder(network.spec)
        self.transform = EvalTransform(self.usage.long_edge)

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str = SHIPPED,
        *,
        device: torch.device | str = "cpu",
        long_edge: int | None = None,
        flip: bool | None = None,
        scales: Sequence[float] | None = None,
        decoder: DecoderConfig | None = None,
        precision: str = "float32",
    ) -> Predictor:
        """A predictor with the network of a checkpoint, used as the checkpoint says.

        Args:
            path: a checkpoint, the folder of a run, or a packed network; by default the shipped one.
            device: where the network runs.
            long_edge: pixels of the long edge, 0 for images at their own size.
            flip: fuse the mirror image.
            scales: sizes to fuse, relative to the long edge.
            decoder: thresholds.
            precision: autocast type, "float32" for none.

        Raises:
            GraphposeError: see :func:`graphpose.checkpoint.load_checkpoint`.
        """
        content = load_checkpoint(path)
        network = for_inference(network_from_checkpoint(content, path, device))
        config = decoder or DecoderConfig.from_dict(content["decoder"])
        usage = usage_of(content).changed(long_edge, flip, scales)
        return cls(network, usage, build_decoder(network.spec, config), precision)

    def __call__(self, image: np.ndarray) -> Poses:
        """Poses of one image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Poses in pixels of ``image``.

        Raises:
            GraphposeError: the array is no such image.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise GraphposeError(f"an image must be a (H, W, 3) uint8 array in RGB, not {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        persons = Persons.empty(self.network.spec.skeleton.num_keypoints)
        sample = Sample(image, persons, np.zeros((height, width), bool), image_id=0, file_name="")
        batch = collate([self.transform(sample)])
        batches = predict_batches(
            self.network, self.decoder, [batch], precision=self.precision, fusion=self.usage.fusion
        )
        [(_, [poses])] = batches
        return poses

    def predict_file(self, path: Path | str) -> tuple[np.ndarray, Poses]:
        """The image of a file and its poses; GraphposeError names a file that cannot be read."""
        image = read_image(Path(path), upright=True)
        return image, self(image)


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Image files among ``paths``: files as they are, folders by the images in them, sorted, without hidden files. A
    line says how many other files were passed over.

    Raises:
        GraphposeError: a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
            inside = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
            others = sorted({file.suffix or file.name for file in files if file not in inside})
            if inside and others:
                count, shown = len(files) - len(inside), ", ".join(others[:8])
                logger.warning("%s: %d files that are no images are passed over (%s)", path, count, shown)
            if not inside:
                raise GraphposeError(f"folder '{path}' holds no image ({', '.join(IMAGE_SUFFIXES)})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise GraphposeError(f"'{path}' is neither an image nor a folder of images")
    return found


def predict_files(
    predictor: Predictor, paths: Iterable[Path], out: Path, *, draw: bool = True
) -> Iterator[tuple[Path, Poses | GraphposeError]]:
    """Poses of image files; drawings and one COCO-results file go to ``out``.

    Args:
        predictor: see :class:`Predictor`.
        paths: image files.
        out: folder for ``<name>.poses.png`` and ``results.json``; image ids in it are positions in ``images.json``.
        draw: write the drawings.

    What was found is written also when an error or Ctrl-C ends the loop early.

    Yields:
        Each path with its poses, or with the error that kept it from being read; the other images go on.
    """
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    try:
        for image_id, path in enumerate(paths, start=1):
            try:
                image, poses = predictor.predict_file(path)
            except GraphposeError as error:
                yield path, error
                continue
            images.append({"id": image_id, "file_name": path.name, "height": image.shape[0], "width": image.shape[1]})
            results += coco_results(image_id, poses)
            if draw:
                drawn = draw_poses(image, poses.keypoints, predictor.network.spec.skeleton)
                save_image(out / f"{path.stem}.poses.png", drawn)
            yield path, poses
    finally:  # also where the loop around this ends early
        (out / "results.json").write_text(json.dumps(results))
        (out / "images.json").write_text(json.dumps(images, indent=1))
