"""The training processes of a table: shared out over the GPUs, stopped with the table, one for each run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from graphpose.errors import GraphposeError


class TrainingProcesses:
    """Processes that end with the table that started them.

    Args:
        gpus: names of GPUs as CUDA_VISIBLE_DEVICES has them. With several of them each process sees the one that fewest
            others have; with none or one it sees what this process sees.
    """

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        self.gpus = tuple(gpus)
        self._gpu_of: dict[subprocess.Popen[bytes], str] = {}
        self._lock = threading.Lock()
        self.stopped = False

    def run(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
    ) -> int:
        """Start a process and wait for its end.

        Args:
            command: of the process.
            env: its environment; None for this process's.
            stdout: file for what it prints; None for where this process prints.
            stderr: likewise.

        Returns:
            Its exit status, −SIGTERM where all have been stopped.
        """
        with self._lock:
            if self.stopped:
                return -signal.SIGTERM
            gpu = ""
            if len(self.gpus) > 1:
                gpu = min(self.gpus, key=list(self._gpu_of.values()).count)
                env = {**(env or os.environ), "CUDA_VISIBLE_DEVICES": gpu}
            process = subprocess.Popen(command, env=env, stdout=stdout, stderr=stderr)
            self._gpu_of[process] = gpu
        try:
            return process.wait()
        finally:
            with self._lock:
                del self._gpu_of[process]

    def stop(self) -> None:
        """Let every process write its checkpoint and end; none starts after this."""
        with self._lock:
            self.stopped = True
            for process in self._gpu_of:
                process.terminate()


def gpus_for(devices: Iterable[str]) -> list[str]:
    """Names of the GPUs to share out among runs on these devices; none where a run has chosen its own."""
    if not set(devices) <= {"auto", "cuda"}:
        return []
    import torch  # takes seconds, and a table that is only listed trains nothing

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A run's folder for this process alone, as long as the context lasts or the process lives.

    Raises:
        GraphposeError: another process has it, or it cannot be written to.
    """
    lock = FileLock(folder / "lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise GraphposeError(f"{folder} is being trained by another process; wait for it, or stop it first") from None
    except OSError as error:
        raise GraphposeError(f"{folder} cannot be written to ({error}); choose another folder with --runs") from None
    try:
        yield
    finally:
        lock.release()
