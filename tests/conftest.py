"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real annotations and photographs; tests that need it skip where it is not given."""
    root = os.environ.get("GRAPHPOSE_DATA")
    if not root:
        pytest.skip("GRAPHPOSE_DATA is not set: no real annotations and photographs at hand")
    return Path(root)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
