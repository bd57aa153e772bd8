"""Prediction: images in, poses out; one at a time, as a list, or as a stream."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from graphpose.checkpoint import load_checkpoint, network_from_checkpoint, usage_of
from graphpose.data.batch import Batch
from graphpose.data.image import read_image
from graphpose.data.loader import collate
from graphpose.data.sample import Persons, Sample
from graphpose.data.transforms import EvalTransform, Warped
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig, Merge, UsageConfig
from graphpose.fields.decode import Decoder, build_decoder
from graphpose.fields.fusion import View
from graphpose.fields.merging import decode_views
from graphpose.fields.pose import Poses
from graphpose.inference.batches import PendingFields, begin_fields, device_of, for_inference, input_sizes
from graphpose.inference.exported import ExportedNetwork, FieldNetwork
from graphpose.inference.frames import Frame, read_frames
from graphpose.inference.sources import Video
from graphpose.nn.compilation import compiled, compiler_failures_named
from graphpose.nn.config import SHIPPED

PRECISIONS = ("float32", "bfloat16", "float16")
WINDOW = 4  # batches of frames that one input size is looked for in
KNOWN_AHEAD = 16  # frames without work that are taken at once


class Predictor:
    """Poses of images, in their own pixels.

    Args:
        network: on the device that it runs on; None is the network that graphpose ships, with its own usage and
            thresholds where none are given.
        usage: size that images are resized to and views that the network sees; None is that of the shipped network, or
            the defaults of :class:`~graphpose.fields.config.UsageConfig`.
        decoder: made for ``network.spec``; by default one with default thresholds.
        precision: autocast type of the network: "float32" for none, "bfloat16" or "float16".
        compile: run the network through torch.compile, which takes minutes for the first image.

    Attributes:
        network: folded, see :meth:`PoseNetwork.fold`; an exported one is that already.

    Raises:
        GraphposeError: there is no shipped network, or it cannot be read; or another precision than its own is asked
            of an exported network.
    """

    def __init__(
        self,
        network: FieldNetwork | None = None,
        usage: UsageConfig | None = None,
        decoder: Decoder | None = None,
        *,
        precision: str = "float32",
        compile: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise GraphposeError(f"precision '{precision}' must be one of {', '.join(PRECISIONS)}")
        if network is None:
            content = load_checkpoint(SHIPPED)
            network = network_from_checkpoint(content, SHIPPED)
            usage = usage or usage_of(content)
            decoder = decoder or build_decoder(
                network.spec, DecoderConfig.from_dict(content["decoder"]), network.pose_statistics
            )
        self.network: FieldNetwork
        if isinstance(network, ExportedNetwork):
            if precision != "float32":
                raise GraphposeError(f"precision '{precision}': an exported network computes in its own, float32")
            if compile:
                raise GraphposeError("compile=True: an exported network is compiled by its runtime")
            self.network = network
        else:
            self.network = for_inference(network.eval() if network.folded else network.fold())
        self._model = compiled(self.network) if compile else self.network
        self.precision = precision
        self.usage = usage or UsageConfig()
        self.decoder = decoder or build_decoder(network.spec, statistics=network.pose_statistics)
        self.transform = EvalTransform(self.usage.long_edge, enlarge=self.usage.enlarge)

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str = SHIPPED,
        *,
        device: torch.device | str = "cpu",
        long_edge: int | None = None,
        flip: bool | None = None,
        scales: Sequence[float] | None = None,
        enlarge: bool | None = None,
        merge: Merge | None = None,
        decoder: DecoderConfig | None = None,
        precision: str = "float32",
        compile: bool = False,
    ) -> Predictor:
        """A predictor with the network of a checkpoint, used as the checkpoint says.

        Args:
            path: a checkpoint, the folder of a run, or a packed network; by default the shipped one.
            device: where the network runs.
            long_edge: pixels of the long edge, 0 for images at their own size.
            flip: fuse the mirror image.
            scales: sizes to look at, relative to the long edge.
            enlarge: resize images with a shorter long edge, too.
            merge: how the sizes come together, see :class:`~graphpose.fields.config.FusionConfig`.
            decoder: thresholds.
            precision: autocast type of the network.
            compile: run the network through torch.compile, which takes minutes for the first image.

        Raises:
            GraphposeError: see :func:`graphpose.checkpoint.load_checkpoint`.
        """
        content = load_checkpoint(path)
        network = network_from_checkpoint(content, path, device)
        config = decoder or DecoderConfig.from_dict(content["decoder"])
        usage = usage_of(content).changed(long_edge, flip, scales, enlarge, merge)
        decoding = build_decoder(network.spec, config, network.pose_statistics)
        return cls(network, usage, decoding, precision=precision, compile=compile)

    @classmethod
    def from_onnx(
        cls,
        path: Path | str,
        *,
        long_edge: int | None = None,
        flip: bool | None = None,
        scales: Sequence[float] | None = None,
        enlarge: bool | None = None,
        merge: Merge | None = None,
        decoder: DecoderConfig | None = None,
    ) -> Predictor:
        """A predictor with an exported network, used as its file says, by ONNX Runtime on the CPU.

        Args:
            path: a file of :func:`graphpose.inference.export.export_onnx`.
            long_edge: pixels of the long edge, 0 for images at their own size.
            flip: fuse the mirror image.
            scales: sizes to look at, relative to the long edge.
            enlarge: resize images with a shorter long edge, too.
            merge: how the sizes come together, see :class:`~graphpose.fields.config.FusionConfig`.
            decoder: thresholds.

        Raises:
            GraphposeError: see :class:`~graphpose.inference.exported.ExportedNetwork`.
        """
        network = ExportedNetwork(path)
        contract = network.contract
        usage = UsageConfig() if contract.usage is None else UsageConfig.from_dict(contract.usage)
        config = decoder or DecoderConfig.from_dict(contract.decoder or {})
        decoding = build_decoder(network.spec, config, network.pose_statistics)
        return cls(network, usage.changed(long_edge, flip, scales, enlarge, merge), decoding)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return device_of(self.network)

    @property
    def default_batch_size(self) -> int:
        """Images that are predicted together where nothing else is asked for: 1 on a CPU, 16 on a GPU."""
        return 1 if self.device.type == "cpu" else 16

    @overload
    def __call__(self, image: np.ndarray | str | Path, *, batch_size: int | None = None) -> Poses: ...

    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...], *, batch_size: int | None = None) -> list[Poses]: ...

    def __call__(
        self, image: np.ndarray | str | Path | list[Any] | tuple[Any, ...], *, batch_size: int | None = None
    ) -> Poses | list[Poses]:
        """Poses of one image, or of a list of them.

        Args:
            image: (H, W, 3) uint8 RGB, or the path of an image file; or a list of such, of any sizes.
            batch_size: images of a list that go through the network together, where their sizes allow it; None takes
                :attr:`default_batch_size`.

        Returns:
            Poses in pixels of the image; a list of them for a list.

        Raises:
            GraphposeError: an array is no such image, or a file cannot be read.
        """
        if isinstance(image, (np.ndarray, str, Path)):
            return self([image])[0]
        images = list(image)
        for n, one in enumerate(images):
            if isinstance(one, np.ndarray):
                _require_image(one, "an image" if len(images) == 1 else f"image {n} of the list")
        frames = (self._frame(n, one) for n, one in enumerate(images, start=1))
        found = []
        for frame, poses in self.stream(frames, batch_size=batch_size):
            if frame.error is not None:
                raise frame.error
            assert poses is not None
            found.append(poses)
        return found

    def _frame(self, number: int, image: np.ndarray | str | Path) -> Frame[Warped]:
        if not isinstance(image, np.ndarray):
            try:
                image = read_image(Path(image), upright=True)
            except GraphposeError as error:
                return Frame(number, str(image), error=error)
        return Frame(number, "", image=image, prepared=self.prepare(image))

    def predict_file(self, path: Path | str) -> tuple[np.ndarray, Poses]:
        """The image of a file and its poses; GraphposeError names a file that cannot be read."""
        image = read_image(Path(path), upright=True)
        return image, self(image)

    def predict_video(
        self, source: Path | str | int, *, batch_size: int | None = None
    ) -> Iterator[tuple[np.ndarray, Poses]]:
        """Frames of a video, (H, W, 3) uint8 RGB, and their poses, as they come.

        Args:
            source: video file, URL of a stream, or number of a camera.
            batch_size: frames that go through the network together.

        Raises:
            GraphposeError: the video has no frame that can be read, or breaks off.
        """
        video = Video(source if isinstance(source, int) else str(source), str(source))
        frames = read_frames([video], self.prepare)
        with contextlib.closing(self.stream(frames, batch_size=1 if video.is_live else batch_size)) as stream:
            for frame, poses in stream:
                if frame.error is not None:
                    raise frame.error
                assert frame.image is not None
                assert poses is not None
                yield frame.image, poses

    def prepare(self, image: np.ndarray) -> Warped:
        """An image at the size that the network gets, with the way back; threads may do this ahead.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        persons = Persons.empty(self.network.spec.skeleton.num_keypoints)
        return self.transform(Sample(image, persons, np.zeros(image.shape[:2], bool), image_id=0, file_name=""))

    def fields(self, images: Tensor) -> list[View]:
        """What is decoded, with probabilities, on the CPU: one view, or several sizes whose poses are merged.

        Args:
            images: (B, 3, H, W) in ImageNet normalisation, on any device.
        """
        return self._begin_images(images).finish()

    def stream(
        self,
        frames: Iterable[Frame[Warped]],
        *,
        batch_size: int | None = None,
        seconds: dict[str, float] | None = None,
    ) -> Generator[tuple[Frame[Warped], Poses | None], None, None]:
        """Poses of frames in their order; the network works on the next batch while a thread decodes the last.

        Args:
            frames: with ``prepared``; those without, which could not be read or are known, are handed on.
            batch_size: frames of one input size that go through the network together, from the next WINDOW batches;
                None takes :attr:`default_batch_size`.
            seconds: if given, the time of reading (as far as it was waited for), network and decoder is added to it.

        Yields:
            Each frame with its poses in pixels of its image, or None where nothing was prepared.
        """
        size = self.default_batch_size if batch_size is None else batch_size
        if size < 1:
            raise GraphposeError(f"a batch of {size} images: it must be 1 or more")
        window = 1 if size == 1 else WINDOW * size
        source = iter(frames)
        more = True
        waiting: collections.deque[_Waiting] = collections.deque()
        last: Future[None] | None = None
        # as in fields_of_batches; one image at a time is for who wants it at once
        ahead = int(self.device.type == "cuda" and size > 1)
        begun: collections.deque[tuple[list[_Waiting], Batch, PendingFields]] = collections.deque()
        clock = seconds if seconds is not None else {}
        with ThreadPoolExecutor(1) as thread:
            while more or waiting:
                started = time.perf_counter()
                still_open = sum(one.is_open for one in waiting)
                while more and still_open < window and len(waiting) < 2 * window + KNOWN_AHEAD:
                    frame = next(source, None)
                    if frame is None:
                        more = False
                    else:
                        waiting.append(_Waiting(frame))
                        still_open += waiting[-1].is_open
                _add(clock, "read", started)
                batch = _next_batch(waiting, size)
                started = time.perf_counter()
                if batch:
                    begun.append((batch, *self._begin(batch)))
                due = begun.popleft() if begun and (len(begun) > ahead or not batch) else None
                views = due[2].finish() if due else None
                _add(clock, "network", started)
                if last is not None:
                    last.result()
                last = thread.submit(self._decode, due[0], due[1], views, clock) if due and views else None
                while waiting and waiting[0].is_settled:
                    one = waiting.popleft()
                    yield one.frame, one.poses

    def _begin(self, batch: Sequence[_Waiting]) -> tuple[Batch, PendingFields]:
        """Hand frames to the network, from pinned memory where it is on a GPU."""
        collated = collate([one.frame.prepared for one in batch if one.frame.prepared is not None])
        if self.device.type == "cuda":
            collated = collated.pin_memory()
        return collated, self._begin_images(collated.images)

    def _begin_images(self, images: Tensor) -> PendingFields:
        with compiler_failures_named():
            return begin_fields(self._model, images, self.precision, self.usage.fusion)

    def _decode(
        self, waiting: Sequence[_Waiting], batch: Batch, views: Sequence[View], seconds: dict[str, float]
    ) -> None:
        started = time.perf_counter()
        poses = decode_views(self.decoder, views, input_sizes(batch))
        for one, found, affine in zip(waiting, poses, batch.to_original, strict=True):
            one.poses = found.mapped(affine.numpy())
        _add(seconds, "decode", started)


@dataclasses.dataclass
class _Waiting:
    """A frame on its way through :meth:`Predictor.stream`."""

    frame: Frame[Warped]
    poses: Poses | None = None
    started: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it is still to go through the network."""
        return self.frame.prepared is not None and not self.started

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is to be done."""
        return self.frame.prepared is None or self.poses is not None


def _next_batch(waiting: Iterable[_Waiting], size: int) -> list[_Waiting]:
    """The first open frame and those after it of the same input size."""
    batch: list[_Waiting] = []
    shape: tuple[int, ...] = ()
    for one in waiting:
        if len(batch) < size and one.is_open and one.frame.prepared is not None:
            own = one.frame.prepared.sample.image.shape
            if not batch or own == shape:
                shape, one.started = own, True
                batch.append(one)
    return batch


def _add(seconds: dict[str, float], name: str, started: float) -> None:
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


def _require_image(image: np.ndarray, what: str) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise GraphposeError(f"{what} must be a (H, W, 3) uint8 array in RGB, not {image.shape} {image.dtype}")
