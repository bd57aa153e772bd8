"""Loader processes that die: one clear error, and only where their work is waited for."""

import contextlib
import os
import signal
import threading

import pytest
import torch

from graphpose.data import cache, workers
from graphpose.data.cache import CachedDataset
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import PoseLoader, make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.data.workers import WorkerError


class Ending(DemoDataset):
    """Scenes of which the one at ``index`` ends the process that reads it, or raises ``error``."""

    def __init__(self, length: int, index: int = -1, error: Exception | None = None) -> None:
        super().__init__(length, seed=1, size=64)
        self.index, self.error = index, error

    def __getitem__(self, index):
        if index == self.index:
            if self.error is not None:
                raise self.error
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def loader_of(dataset: DemoDataset, **options) -> PoseLoader:
    return make_loader(dataset, EvalTransform(64), 1, shuffle=False, workers=1, **options)


def kill(loader: PoseLoader) -> None:
    """End the worker process; its signal has come when this returns."""
    pid = loader._iterator._workers[0].pid  # type: ignore[union-attr]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.slow
def test_the_death_of_a_worker_is_told_by_the_next_batch_and_nowhere_before():
    loader = loader_of(DemoDataset(40, seed=1, size=64))
    with contextlib.closing(loader):
        batches = iter(loader)
        next(batches)
        with torch.no_grad():
            kill(loader)
            assert sum(range(10_000)) == 49_995_000  # code that the signal would have interrupted
        assert torch.is_grad_enabled()
        with pytest.raises(WorkerError, match=r"a loader process died \(DataLoader worker \(pid \d+\).* code -9\)"):
            next(batches)
    assert len(list(loader)) == 40  # new processes


@pytest.mark.slow
def test_the_death_of_a_worker_between_two_epochs_is_told_by_the_second():
    with contextlib.closing(loader_of(DemoDataset(3, seed=1, size=64))) as loader:
        assert len(list(loader)) == 3
        kill(loader)
        with pytest.raises(WorkerError, match="a loader process died"):
            list(loader)


@pytest.mark.slow
def test_the_death_of_a_worker_that_is_waited_for_is_told_at_once():
    with (
        contextlib.closing(loader_of(Ending(10, index=3))) as loader,
        pytest.raises(WorkerError, match=r"a loader process died .* smaller workers or cache=False"),
    ):
        list(loader)


@pytest.mark.slow
def test_the_death_of_a_worker_is_told_to_another_thread():
    told = []

    def read() -> None:
        try:
            list(loader)
        except WorkerError as error:
            told.append(error)

    with contextlib.closing(loader_of(Ending(10, index=3))) as loader:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert len(told) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the thread that pins
def test_the_death_of_a_worker_is_told_while_memory_is_pinned(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)  # so that the thread that pins is there
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda _: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor)
    loader = loader_of(DemoDataset(400, seed=1, size=64), pin_memory=True)
    with contextlib.closing(loader):
        batches = iter(loader)
        next(batches)
        kill(loader)
        with pytest.raises(WorkerError, match="a loader process died"):
            list(batches)


@pytest.mark.slow
def test_the_death_of_a_process_that_fills_a_cache_is_told(monkeypatch):
    monkeypatch.setattr(cache, "CHUNK_SIZE", 2)
    monkeypatch.setattr(cache, "MIN_PARALLEL_SAMPLES", 1)
    with pytest.raises(WorkerError, match="a loader process died"):
        list(CachedDataset(Ending(10, index=3)).fill(workers=2))


@pytest.mark.slow
def test_an_error_of_the_data_set_is_not_taken_for_a_death():
    with (
        contextlib.closing(loader_of(Ending(10, index=3, error=ConnectionResetError("the share is gone")))) as loader,
        pytest.raises(ConnectionResetError, match="the share is gone"),
    ):
        list(loader)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
        RuntimeError("Pin memory thread exited unexpectedly"),
        ConnectionResetError("Caught ConnectionResetError in pin memory thread for device 0."),
        EOFError(),
    ],
)
def test_every_face_of_a_lost_worker_is_named_as_one(error):
    def batches():
        yield 1
        raise error

    named = workers._named(batches())
    assert next(named) == 1
    with pytest.raises(WorkerError, match="a loader process died"):
        next(named)


def test_other_errors_stay_what_they_are():
    def batches():
        raise RuntimeError("of another kind")
        yield

    with pytest.raises(RuntimeError, match="of another kind"):
        next(workers._named(batches()))
