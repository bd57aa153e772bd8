"""What is predicted on: image files, folders, patterns, lists, videos, cameras and streams."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from graphpose.data.image import IMAGE_SUFFIXES, decode_image, read_image
from graphpose.errors import GraphposeError

# What is wrong is said by the errors here. OpenCV reads this when it first opens or writes a film, whosever that is.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".m2ts", ".3gp",
    ".ogv", ".gif",
)  # fmt: skip
LIST_SUFFIX = ".txt"
STANDARD_INPUT = "-"
DEFAULT_RATE = 25.0  # frames per second of a video or a camera that states none
MISSING_SHARE = 0.01  # of a video's stated number of frames, which some containers only estimate


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """One picture.

    Attributes:
        path: the file; None where ``data`` has the picture.
        name: what it is called in results: the path below the deepest folder that holds all sources, with "/".
        data: content of an image file that came by standard input.
    """

    path: Path | None
    name: str
    data: bytes | None = None

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, upright; GraphposeError naming the file."""
        if self.data is not None:
            return decode_image(self.data, self.name, upright=True)
        assert self.path is not None
        return read_image(self.path, upright=True)


@dataclasses.dataclass(frozen=True)
class Video:
    """A video file, or a camera or stream that ends when it is told to.

    Attributes:
        address: file, URL, or number of a camera, as OpenCV takes it.
        name: as of :class:`ImageFile`.
    """

    address: str | int
    name: str

    @property
    def is_live(self) -> bool:
        """Whether there is no end to it."""
        return isinstance(self.address, int) or is_stream(self.address)

    def open(self) -> VideoReader:
        """A reader at the first frame; GraphposeError where there is none."""
        return VideoReader(self)


Source = ImageFile | Video


class VideoReader:
    """Frames of a video in order.

    Attributes:
        rate: frames per second; :data:`DEFAULT_RATE` where the file states none.
        count: number of frames as the container states it, None for live ones and where it states none.

    Raises:
        GraphposeError: the video cannot be opened.
    """

    def __init__(self, video: Video) -> None:
        self.video = video
        if isinstance(video.address, str) and not video.is_live and not Path(video.address).is_file():
            raise GraphposeError(f"video {video.address} does not exist")
        with _quiet_opencv():
            if isinstance(video.address, int):
                self._capture = cv2.VideoCapture(video.address)
            else:
                self._capture = cv2.VideoCapture(video.address, cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            kind = "camera" if isinstance(video.address, int) else "stream" if video.is_live else "video"
            raise GraphposeError(f"{kind} {video.address} has no frame that can be read")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0.1 <= rate <= 1000 else DEFAULT_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = count if count > 0 and not video.is_live else None
        self.position = 0

    def read(self) -> np.ndarray | None:
        """The next frame, (H, W, 3) uint8 RGB; None after the last one.

        Raises:
            GraphposeError: there was no frame at all, or the video ends before its stated end.
        """
        read, frame = self._capture.read()
        if read:
            self.position += 1
            return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        self._check_end()
        return None

    def skip(self) -> bool:
        """Pass over the next frame; False after the last one, refusals as of :meth:`read`."""
        if self._capture.grab():
            self.position += 1
            return True
        self._check_end()
        return False

    def _check_end(self) -> None:
        if self.position == 0:
            raise GraphposeError(f"video {self.video.address} has no frame that can be read")
        if self.count is not None and self.count - self.position > max(1, MISSING_SHARE * self.count):
            raise GraphposeError(
                f"video {self.video.address} breaks off after {self.position} of {self.count} frames; the rest cannot "
                f"be read"
            )

    def close(self) -> None:
        """Give the file or the camera back."""
        self._capture.release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Without OpenCV's own lines on each backend that cannot open something."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def is_stream(address: str) -> bool:
    """Whether a source is a URL."""
    return re.match(r"[a-z][a-z0-9+.-]+://", address, re.IGNORECASE) is not None


@dataclasses.dataclass
class Sources:
    """Everything to predict on.

    Attributes:
        items: in the order in which they were named; folders sorted.
        skipped: number of files in folders that are neither images nor videos, by suffix.
        repeated: number of times that a source was named again; it counts once.
    """

    items: list[Source]
    skipped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    repeated: int = 0

    def lines(self) -> list[str]:
        """For people: how many of what, and what was skipped."""
        videos = sum(isinstance(item, Video) for item in self.items)
        images = len(self.items) - videos
        parts = [_count(images, "image")] if images or not videos else []
        parts += [_count(videos, "video")] if videos else []
        lines = [" and ".join(parts)]
        if self.repeated:
            lines.append(f"{self.repeated} named more than once, taken once")
        if self.skipped:
            kinds = ", ".join(f"{number} {suffix or 'without suffix'}" for suffix, number in self.skipped.most_common())
            lines.append(f"skipped in folders, neither image nor video: {kinds}")
        return lines

    def part(self, number: int, of: int) -> Sources:
        """Part ``number`` of ``of``, from 1: the parts in their order are the whole list, their lengths differ by 1.

        Raises:
            GraphposeError: there are cameras or streams, which have no parts.
        """
        if any(isinstance(item, Video) and item.is_live for item in self.items):
            raise GraphposeError("cameras and streams cannot be predicted in parts")
        ends = [len(self.items) * n // of for n in (number - 1, number)]
        return Sources(self.items[ends[0] : ends[1]], self.skipped, self.repeated)

    def number_of_frames(self) -> int | None:
        """Images and frames of all videos as their files state them; None where one does not, or has no end."""
        total = 0
        for item in self.items:
            if isinstance(item, Video):
                if item.is_live:
                    return None
                try:
                    with item.open() as reader:
                        count = reader.count
                except GraphposeError:
                    count = 0
                if count is None:
                    return None
                total += count
            else:
                total += 1
        return total


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def find_sources(
    named: Iterable[str | Path], *, without: Path | None = None, standard_input: BinaryIO | None = None
) -> Sources:
    """What the arguments of a command line mean.

    Args:
        named: each an image or video file, a folder (all images and videos in it and below), a pattern (``*``, ``?``,
            ``[…]``, ``**`` for folders below), a ``.txt`` list of any of these, one a line, a URL, the number of a
            camera, or ``-``: an image or such a list from standard input.
        without: folder that is passed over, such as the one that predictions are written to.
        standard_input: instead of the process's.

    Raises:
        GraphposeError: naming an argument that means nothing, or that holds no image or video.
    """
    found: list[tuple[str | Path | int | bytes, Path | None]] = []  # what it is; folder that counts for its name
    skipped: collections.Counter[str] = collections.Counter()
    for argument in named:
        found += _expand(str(argument), skipped, without, standard_input)
    folders = [str(folder) for _, folder in found if folder is not None]
    base = os.path.commonpath(folders) if folders else ""
    items: dict[str, Source] = {}
    for what, _ in found:
        item = _source(what, base)
        items.setdefault(item.name, item)
    if not items:
        raise GraphposeError("nothing to predict on: name images, folders, videos, a list, a camera or -")
    return Sources(list(items.values()), skipped, len(found) - len(items))


def _source(what: str | Path | int | bytes, base: str) -> Source:
    if isinstance(what, bytes):
        return ImageFile(None, "stdin", what)
    if isinstance(what, int):
        return Video(what, f"camera{what}")
    if isinstance(what, str):
        return Video(what, re.sub(r"[^A-Za-z0-9.]+", "_", what.split("://", 1)[1]).strip("_") or "stream")
    name = Path(os.path.relpath(what, base)).as_posix()
    return Video(str(what), name) if what.suffix.lower() in VIDEO_SUFFIXES else ImageFile(what, name)


def _expand(
    argument: str, skipped: collections.Counter[str], without: Path | None, standard_input: BinaryIO | None
) -> list[tuple[str | Path | int | bytes, Path | None]]:
    if argument == STANDARD_INPUT:
        content = (standard_input or sys.stdin.buffer).read()
        lines = _lines(content)
        if lines is None:
            return [(content, None)]
        return _expand_lines(lines, "standard input", Path(), skipped, without)
    path = Path(argument)
    if path.is_dir():
        return [(file, Path(os.path.abspath(path))) for file in _inside(path, skipped, without)]
    if path.is_file():
        if path.suffix.lower() == LIST_SUFFIX:
            lines = _lines(path.read_bytes())
            if lines is None:
                raise GraphposeError(f"list '{path}' is not a text with a path in each line")
            return _expand_lines(lines, f"list '{path}'", path.parent, skipped, without)
        file = Path(os.path.abspath(path))
        return [(file, file.parent)]
    if is_stream(argument):
        return [(argument, None)]
    if argument.isdecimal():
        return [(int(argument), None)]
    if glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))
        known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
        files = [Path(os.path.abspath(m)) for m in matches if Path(m).suffix.lower() in known and Path(m).is_file()]
        if not files:
            raise GraphposeError(f"pattern '{argument}' matches no image or video")
        return [(file, file.parent) for file in files]
    raise GraphposeError(
        f"'{argument}' is neither an image nor a folder of images, video, list, pattern, URL or number of a camera"
    )


def _expand_lines(
    lines: Sequence[str], what: str, folder: Path, skipped: collections.Counter[str], without: Path | None
) -> list[tuple[str | Path | int | bytes, Path | None]]:
    """Sources that a list names: relative to where the command runs or, failing that, to the list's folder.

    A file that is missing stays in the list, so that it is named when its turn comes and the others go on.
    """
    found: list[tuple[str | Path | int | bytes, Path | None]] = []
    for line in lines:
        if line in (STANDARD_INPUT, "") or line.startswith("#"):
            continue
        path = Path(line)
        if not path.exists() and (folder / path).exists():
            path = folder / path
        if path.is_dir() or is_stream(line) or glob.has_magic(line) or line.isdecimal():
            found += _expand(line if is_stream(line) else str(path), skipped, without, None)
        else:
            file = Path(os.path.abspath(path))
            found.append((file, file.parent))
    if not found:
        raise GraphposeError(f"{what} names no image or video")
    return found


def _lines(content: bytes) -> list[str] | None:
    """Lines of a text; None for anything else, such as an image."""
    if b"\0" in content[:4096]:
        return None
    try:
        return [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        return None


def _inside(folder: Path, skipped: collections.Counter[str], without: Path | None) -> list[Path]:
    """Images and videos in a folder and below it, sorted; hidden files and folders are passed over."""
    found: list[Path] = []
    passed = None if without is None else os.path.abspath(without)
    for parent, folders, files in os.walk(os.path.abspath(folder)):
        folders[:] = [f for f in folders if not f.startswith(".") and os.path.join(parent, f) != passed]
        for name in files:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES:
                found.append(Path(parent, name))
            else:
                skipped[suffix] += 1
    if not found:
        raise GraphposeError(f"folder '{folder}' holds no image or video ({', '.join(IMAGE_SUFFIXES)} …)")
    return sorted(found)
