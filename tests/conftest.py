"""Fixtures that several test modules share."""

import gc
import os
import platform
import subprocess
import sys
from collections.abc import Generator, Iterator
from multiprocessing import popen_spawn_posix
from pathlib import Path

import pytest
import torch

from tests.emulated_cuda import EmulatedCuda

# h5py asks for it when it is first imported, which starts a process once and for all
platform.uname().processor  # noqa: B018


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real annotations and photographs; tests that need it skip where it is not given."""
    root = os.environ.get("GRAPHPOSE_DATA")
    if not root:
        pytest.skip("GRAPHPOSE_DATA is not set: no real annotations and photographs at hand")
    return Path(root)


@pytest.fixture
def cuda() -> Iterator[EmulatedCuda]:
    """Two CUDA devices, emulated; see :mod:`tests.emulated_cuda`."""
    with EmulatedCuda(devices=2) as emulated:
        yield emulated


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What ``make test-fast`` leaves out is marked; a test that is not marked is held to it, with all its fixtures.

    A process is a new interpreter, which imports torch anew; the loader's own are forked and cost nothing.
    """
    if item.get_closest_marker("slow"):
        return (yield)

    def refuse(*_, **__):
        pytest.fail("this test or its fixture starts a process, trains or exports: mark it slow", pytrace=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", refuse)
        patch.setattr(popen_spawn_posix.Popen, "__init__", refuse)
        patch.setattr(torch.onnx, "export", refuse)
        if "graphpose.training.trainer" in sys.modules:
            patch.setattr(sys.modules["graphpose.training.trainer"].Trainer, "train_epoch", refuse)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests live to the end, so that no garbage collection needs to walk through them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
