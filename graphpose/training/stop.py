"""Being told to stop: SIGTERM of a scheduler, Ctrl-C of a person."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None  # as signal.signal takes and returns it


class Interrupted(KeyboardInterrupt):
    """The run was told to stop and has saved what it had; ``str()`` says where.

    A KeyboardInterrupt, so that nothing on the way mistakes it for a failure.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


ECHO = 2.0  # seconds; torchrun passes Ctrl-C on to processes that the terminal has sent it already


class StopRequest:
    """Notes SIGTERM and SIGINT while it is entered, so that training can stop between two steps.

    A second signal, :data:`ECHO` seconds later or more, acts as if there were no such object. In a thread, which gets
    no signals, it does nothing.

    Attributes:
        signal_number: of the first signal, 0 before.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._since = 0.0
        self._replaced: dict[int, Handler] = {}

    def __enter__(self) -> StopRequest:
        self.signal_number = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._replaced[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.signal_number:
            self.signal_number, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > ECHO:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        while self._replaced:
            number, handler = self._replaced.popitem()
            signal.signal(number, handler)
