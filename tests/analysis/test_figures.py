"""analysis/figures.py: a sheet of images with the poses of one or several checkpoints."""

import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from graphpose.checkpoint import save_checkpoint
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "analysis"))
    return importlib.import_module("figures")


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True, adjacency="none"))
    path = tmp_path / "run" / "checkpoint.pt"
    path.parent.mkdir()
    save_checkpoint(path, network, network.config)
    return path


def test_a_sheet_has_a_tile_for_every_image(figures, checkpoint, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((40, 60, 3), 128, np.uint8))
    out = tmp_path / "sheet.png"
    arguments = [str(tmp_path / "photo.png"), "--demo", "2", "--demo-size", "64", "--long-edge", "64", "--tile", "100"]
    assert figures.main([*arguments, "--columns", "3", "--checkpoint", str(checkpoint), "--out", str(out)]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "photo.png", "demo scene 1", "demo scene 2",
    ]  # fmt: skip
    one_row = cv2.imread(str(out)).shape
    assert one_row[1] > 3 * 100 > one_row[0]
    both = [str(checkpoint), str(checkpoint)]
    assert figures.main([*arguments, "--checkpoint", *both, "--out", str(out)]) == 0
    assert cv2.imread(str(out)).shape[0] > 300  # three rows of two


def test_what_is_missing_is_named(figures, checkpoint, tmp_path, capsys):
    assert figures.main(["--checkpoint", str(checkpoint), "--out", str(tmp_path / "x.png")]) == 2
    assert "there is nothing to draw" in capsys.readouterr().err
    assert figures.main(["nowhere.png", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "x.png")]) == 2
    assert "'nowhere.png' is neither an image nor a folder" in capsys.readouterr().err
