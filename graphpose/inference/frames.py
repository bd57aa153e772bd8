"""Frames of sources in one row: read and prepared by threads ahead of whoever works on them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.inference.sources import ImageFile, Source, Video

T = TypeVar("T")


@dataclasses.dataclass
class Frame(Generic[T]):
    """One picture of a source, in the order of all of them.

    Attributes:
        image_id: its place among all frames, from 1; frames that cannot be read count.
        name: of the source.
        index: its place in a video, from 0; None for an image file.
        image: (H, W, 3) uint8 RGB; None where it was not read.
        prepared: what ``prepare`` made of the image.
        error: why it could not be read.
        known: it was dealt with in an earlier run.
        rate: frames per second of the video.
    """

    image_id: int
    name: str
    index: int | None = None
    image: np.ndarray | None = None
    prepared: T | None = None
    error: GraphposeError | None = None
    known: bool = False
    rate: float | None = None

    @property
    def label(self) -> str:
        """For people: "clip.mp4, frame 3"."""
        return self.name if self.index is None else f"{self.name}, frame {self.index}"


def read_frames(
    items: Iterable[Source],
    prepare: Callable[[np.ndarray], T],
    *,
    known: Callable[[str, int | None], bool] = lambda name, index: False,
    read_known: bool = False,
    threads: int = 2,
    ahead: int = 8,
) -> Generator[Frame[T], None, None]:
    """All frames of all sources in order, read and prepared by threads while the last ones are worked on.

    Args:
        items: the sources.
        prepare: what is made of an image beside, such as a resized copy; not called for known frames.
        known: whether a frame of this name and index was dealt with before; it is handed on without its image.
        read_known: known frames of videos have their image.
        threads: that read image files; a video has one.
        ahead: frames that are read before they are asked for, at most.
    """
    number = 0

    def read_file(item: ImageFile) -> tuple[np.ndarray, T]:
        image = item.read()
        return image, prepare(image)

    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[tuple[Frame[T], Future[tuple[np.ndarray, T]] | None]] = collections.deque()

        def settle(keep: int) -> Iterator[Frame[T]]:
            while len(waiting) > keep:
                frame, future = waiting.popleft()
                if future is not None:
                    try:
                        frame.image, frame.prepared = future.result()
                    except GraphposeError as error:
                        frame.error = error
                yield frame

        try:
            for item in items:
                if isinstance(item, Video):
                    yield from settle(0)
                    for frame in _video_frames(item, prepare, known, read_known, 1 if item.is_live else ahead):
                        number += 1
                        frame.image_id = number
                        yield frame
                    continue
                number += 1
                if known(item.name, None):
                    waiting.append((Frame(number, item.name, known=True), None))
                else:
                    waiting.append((Frame(number, item.name), pool.submit(read_file, item)))
                yield from settle(ahead - 1)
            yield from settle(0)
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()


def _video_frames(
    item: Video,
    prepare: Callable[[np.ndarray], T],
    known: Callable[[str, int | None], bool],
    read_known: bool,
    ahead: int,
) -> Iterator[Frame[T]]:
    """Frames of one video, still without an id; one that cannot be gone on with ends in a frame with the error."""
    try:
        reader = item.open()
    except GraphposeError as error:
        yield Frame(0, item.name, 0, error=error)
        return

    def next_frame() -> Frame[T] | None:
        frame: Frame[T] = Frame(0, item.name, reader.position, rate=reader.rate)
        frame.known = known(item.name, frame.index)
        try:
            if frame.known and not read_known:
                return frame if reader.skip() else None
            frame.image = reader.read()
        except GraphposeError as error:
            frame.error = error
            return frame
        if frame.image is None:
            return None
        if not frame.known:
            frame.prepared = prepare(frame.image)
        return frame

    with contextlib.closing(reader), ThreadPoolExecutor(1) as thread:
        waiting: collections.deque[Future[Frame[T] | None]] = collections.deque()
        try:
            while True:
                while len(waiting) < ahead:
                    waiting.append(thread.submit(next_frame))
                frame = waiting.popleft().result()
                if frame is None:
                    return
                yield frame
                if frame.error is not None:
                    return
        finally:
            for future in waiting:
                future.cancel()
