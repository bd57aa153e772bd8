"""``graphpose predict``: sources in, files out, as a stream that can be stopped and gone on with."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from tqdm import tqdm

from graphpose.errors import GraphposeError
from graphpose.fields.pose import Poses
from graphpose.inference.frames import Frame, read_frames
from graphpose.inference.outputs import OutputConfig, Outputs
from graphpose.inference.predict import Predictor
from graphpose.inference.sources import Sources, Video

BACKLOG = 8  # frames that wait to be written, beyond a batch
LOG_SECONDS = 30.0  # between lines of progress where there is no terminal


@dataclasses.dataclass
class Summary:
    """How a run went.

    Attributes:
        done: frames that are in the files, those of earlier runs among them.
        known: of these, done by earlier runs.
        failed: frames, or videos, that could not be read.
        persons: poses in all frames done.
        signal_number: of the signal that stopped it, 0 where it came to its end.
        seconds: of the whole run and of its stages: "all", "read" (waiting for images), "network", "decode", "write",
            and "first" until the first frame was written.
    """

    done: int = 0
    known: int = 0
    failed: int = 0
    persons: int = 0
    signal_number: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def status(self) -> int:
        """Exit status: 0 all done, 1 something could not be read, 128 + number of the signal that stopped it."""
        if self.signal_number:
            return 128 + self.signal_number
        return 1 if self.failed else 0

    def line(self, out: Path) -> str:
        """For people."""
        frames = f"{self.done} frame{'' if self.done == 1 else 's'} with {self.persons} persons"
        earlier = f" ({self.known} of them earlier)" if self.known else ""
        failed = f", {self.failed} not read" if self.failed else ""
        stopped = "stopped; --resume goes on: " if self.signal_number else ""
        return f"{stopped}{frames}{earlier}{failed}, written to {out}"


class _Stopped(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, as a scheduler sends it, ends a run as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def predict_sources(
    predictor: Predictor,
    sources: Sources,
    config: OutputConfig,
    *,
    batch_size: int | None = None,
    say: Callable[[str], None] | None = None,
    log: TextIO | None = None,
) -> Summary:
    """Predict on everything and write it, one frame after the other.

    Files are read and prepared by threads ahead of the network; decoding, and drawing and writing, have a thread each
    beside it.

    Args:
        predictor: of the poses.
        sources: from :func:`~graphpose.inference.sources.find_sources`.
        config: what is written where.
        batch_size: frames that go through the network together; None takes the predictor's default, for cameras 1.
        say: is told of each image and what could not be read, one line each.
        log: gets the progress: a bar on a terminal, a line now and then elsewhere; None is standard error.

    Returns:
        The summary; also of a run that Ctrl-C or SIGTERM stopped, with all that was done by then written.

    Raises:
        GraphposeError: something cannot be written (how many frames are there is said), or would be overwritten.
    """
    outputs = Outputs(config, predictor.network.spec.skeleton)
    summary = Summary()
    log = sys.stderr if log is None else log
    started = time.perf_counter()
    if any(isinstance(item, Video) and item.is_live for item in sources.items):
        batch_size = 1
    failure: list[GraphposeError] = []
    progress = _Progress(sources.number_of_frames(), log)

    def write(frame: Frame[Any], poses: Poses | None) -> None:
        if failure:
            return
        begun = time.perf_counter()
        try:
            results = outputs.write(frame, poses)
        except GraphposeError as error:
            failure.append(error)
            return
        now = time.perf_counter()
        summary.seconds["write"] = summary.seconds.get("write", 0.0) + now - begun
        if frame.error is not None:
            summary.failed += 1
            if say is not None:
                progress.say(say, f"{frame.label}: not read: {frame.error}")
        else:
            summary.done += 1
            summary.known += frame.known
            summary.persons += len(results)
            if not frame.known:
                summary.seconds.setdefault("first", now - started)
                if say is not None and frame.index is None:
                    count = f"{len(results)} person{'' if len(results) == 1 else 's'}"
                    progress.say(say, f"{frame.label}: {count}")
        progress.step(frame.known)

    frames = read_frames(sources.items, predictor.prepare, known=outputs.is_known, read_known=config.draw)
    stream = predictor.stream(frames, batch_size=batch_size, seconds=summary.seconds)
    backlog = BACKLOG + (batch_size or predictor.default_batch_size)
    pending: collections.deque[Future[None]] = collections.deque()
    try:
        with _terminable(), ThreadPoolExecutor(1) as writer, contextlib.closing(frames), contextlib.closing(stream):
            try:
                for frame, poses in stream:
                    pending.append(writer.submit(write, frame, poses))
                    while len(pending) > backlog or (pending and pending[0].done()):
                        pending.popleft().result()
                    if failure:
                        break
                while pending:
                    pending.popleft().result()
                if not failure:
                    outputs.finish()
            except KeyboardInterrupt as stop:
                summary.signal_number = signal.SIGTERM if isinstance(stop, _Stopped) else signal.SIGINT
    finally:
        progress.close()
        outputs.close()
    summary.seconds["all"] = time.perf_counter() - started
    if failure:
        raise GraphposeError(f"{failure[0]} ({summary.done} frames are done; --resume goes on)") from None
    return summary


class _Progress:
    """Rate and time left, for people and for logs."""

    def __init__(self, total: int | None, log: TextIO) -> None:
        self._total = total
        self._log = log
        self._since = self._told = time.monotonic()
        self._steps = self._known = 0
        self._bar = tqdm(total=total, unit="frame", file=log, smoothing=0.1) if log.isatty() else None

    def step(self, known: bool) -> None:
        """One more frame."""
        self._steps += 1
        self._known += known
        if self._bar is not None:
            self._bar.update()
            return
        now = time.monotonic()
        if now - self._told >= LOG_SECONDS:
            self._told = now
            rate = (self._steps - self._known) / (now - self._since)
            of = left = ""
            if self._total is not None:
                of = f" of {self._total}"
                if rate > 0:
                    minutes, seconds = divmod(round((self._total - self._steps) / rate), 60)
                    left = f", {minutes}:{seconds:02d} left"
            print(f"{self._steps}{of} frames, {rate:.1f}/s{left}", file=self._log, flush=True)

    def say(self, say: Callable[[str], None], line: str) -> None:
        """A line that does not run into the bar."""
        if self._bar is None:
            say(line)
        else:
            with tqdm.external_write_mode(file=self._log):
                say(line)

    def close(self) -> None:
        """No more frames."""
        if self._bar is not None:
            self._bar.close()
