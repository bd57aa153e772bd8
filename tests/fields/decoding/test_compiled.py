"""Compiled steps: they read the settings by name, and their copies on disk are those of the sources at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphpose
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decoding.compiled import SOURCES
from graphpose.fields.decoding.growth import Fragments, best_poses
from graphpose.fields.decoding.tables import Settings, decoder_tables
from graphpose.skeleton import COCO


def test_compiled_steps_read_the_settings_under_their_names():
    config = DecoderConfig(radius=2, straggler_share=0.7, max_copies=3)
    read = decoder_tables(COCO, config).settings
    assert read._fields == tuple(DecoderConfig.types()) == Settings._fields
    assert (read.radius, read.straggler_share, read.max_copies, read.join_fragments) == (2.0, 0.7, 3, False)
    assert all(type(value) is kind for value, kind in zip(read, DecoderConfig.types().values(), strict=True))


def test_copies_on_disk_are_named_after_all_sources():
    none = Fragments(np.zeros((0, 17, 3), np.float32), np.zeros((0, 17), np.float32))
    best_poses(none, decoder_tables(COCO, DecoderConfig()).settings)
    assert list(Path(best_poses.stats.cache_path).glob(f"growth.best_poses-{SOURCES}-*.nbi"))


COUNT_CELLS = """
import numpy as np
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decoding.limbs import find_limb_cells
from graphpose.fields.decoding.tables import decoder_tables
from graphpose.skeleton import COCO
paf = np.full((19, 7, 2, 2), 0.25, np.float32)
cells = find_limb_cells(paf, decoder_tables(COCO, DecoderConfig(limb_threshold=0.25)).settings)
print(len(cells.confidence), sum(find_limb_cells.stats.cache_hits.values()))
"""


@pytest.mark.slow
def test_a_change_in_the_file_of_a_called_step_is_not_missed(tmp_path):
    """Numba itself looks at the file of the outermost function only."""
    package = shutil.copytree(
        Path(graphpose.__file__).parent, tmp_path / "graphpose", ignore=shutil.ignore_patterns("__pycache__", "*.pt")
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def counted() -> list[str]:
        command = [sys.executable, "-c", COUNT_CELLS]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert counted() == ["76", "0"]
    assert counted() == ["76", "1"]  # the next process loads what the first one has compiled
    step = package / "fields/decoding/cells.py"
    step.write_text(step.read_text().replace(">= threshold", "> threshold"))
    assert counted() == ["0", "0"]
