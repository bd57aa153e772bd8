"""Loader processes: how they begin, and how the death of one is told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader

from graphpose.errors import GraphposeError

# what torch says of a worker that is gone; the thread that pins memory may meet it first, and ends
LOST_WORKER = ("DataLoader worker (pid", "Pin memory thread exited unexpectedly")
OWN_ERROR = "in DataLoader worker process"  # in what torch says of an error that a living worker hands on
TERMINATION_GRACE_SECONDS = 20  # that a worker process lives on after a SIGTERM

T = TypeVar("T")


class WorkerError(GraphposeError):
    """A worker process was killed or ended by itself."""


def init_worker(_: int) -> None:
    """Make a loader's process, known by its number, live beside many others and longer than a signal to stop."""
    # Ctrl-C and a scheduler's SIGTERM reach every process, and the main one still has a checkpoint to write.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(TERMINATION_GRACE_SECONDS))
    # Each worker is one of many: threads of its own would fight the others for the same cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def iterate(loader: DataLoader[Any]) -> Iterator[Any]:
    """What ``loader`` yields; the processes begin at once.

    A worker's death is told by the next batch that is asked for, never in between.

    Raises:
        WorkerError: a worker process died.
    """
    batches = _waited_for(lambda: DataLoader.__iter__(loader))  # asks the processes of the epoch before to go on
    _DEATH_SIGNAL.install()
    return _named(batches)


def _named(batches: Iterator[T]) -> Iterator[T]:
    end = object()
    while (batch := _waited_for(lambda: _next(batches, end))) is not end:
        yield batch  # type: ignore[misc]


def _next(batches: Iterator[T], end: object) -> T | object:
    _require_alive(batches)
    return next(batches, end)


def _waited_for(take: Callable[[], T]) -> T:
    """What ``take`` returns; a death meanwhile, or before, is a WorkerError."""
    # no context manager of a generator: the signal may come in its own code, where nothing would name the error
    try:
        with _DEATH_SIGNAL:
            return take()
    # a batch that was just being handed over ends in one of the other two
    except (RuntimeError, ConnectionError, EOFError) as error:
        text = str(error)
        lost = any(words in text for words in LOST_WORKER)
        if not lost and (isinstance(error, RuntimeError) or OWN_ERROR in text):
            raise
        raise WorkerError(
            f"a loader process died ({(text or type(error).__name__).splitlines()[0]}); if the machine ran out of "
            "memory set a smaller workers or cache=False"
        ) from error


def _require_alive(batches: Iterator[T]) -> None:
    """Finds a death of which the signal came while nothing was waited for."""
    for worker in getattr(batches, "_workers", ()):  # torch has no public way to them
        if not worker.is_alive():
            raise RuntimeError(f"DataLoader worker (pid {worker.pid}) ended with code {worker.exitcode}")


class _DeathSignal:
    """SIGCHLD's handler: torch's, whose error is let through only while a batch is waited for, ``with`` this.

    Elsewhere it would come out of whatever code the main thread is in: it may leave a mode switched that was about to
    be restored, or break what writes the checkpoint.
    """

    def __init__(self) -> None:
        self.waited_for = False
        self.before: Callable[[int, FrameType | None], object] | None = None

    def install(self) -> None:
        """Take the place of torch's handler, which its first loader with processes has set."""
        handler = signal.getsignal(signal.SIGCHLD)
        if callable(handler) and handler is not self and _in_main_thread():
            self.before = handler
            signal.signal(signal.SIGCHLD, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        assert self.before is not None
        try:
            self.before(number, frame)
        except RuntimeError:
            if self.waited_for:
                raise

    def __enter__(self) -> None:
        self.waited_for = _in_main_thread()

    def __exit__(self, *_: object) -> None:
        self.waited_for = False


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


_DEATH_SIGNAL = _DeathSignal()
