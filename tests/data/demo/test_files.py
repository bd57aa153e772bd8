"""The demo's scenes as files."""

import numpy as np
import pytest

from graphpose.cli import main
from graphpose.data.check import check_dataset
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.demo.files import write_demo
from graphpose.data.open import open_dataset
from graphpose.errors import GraphposeError


def test_scenes_read_back_are_the_scenes(tmp_path):
    scenes = DemoDataset(6, seed=3, size=96)
    write_demo(tmp_path, scenes)
    files = open_dataset(tmp_path / "annotations.json", tmp_path / "images")
    assert len(files) == 6
    for index in range(6):
        scene, read = scenes[index], files[index]
        assert (read.image_id, read.file_name) == (scene.image_id, scene.file_name)
        np.testing.assert_array_equal(read.image, scene.image)
        for name in ("keypoints", "bbox", "area", "iscrowd", "ids"):
            np.testing.assert_array_equal(getattr(read.persons, name), getattr(scene.persons, name))
        assert not read.ignore.any()
    assert check_dataset(tmp_path / "annotations.json", tmp_path / "images").ok


def test_the_command_writes_a_stream_and_overwrites_none(tmp_path, capsys):
    folder = tmp_path / "scenes"
    command = ["demo", str(folder), "--scenes", "2", "--seed", "7", "--size", "64"]
    assert main(command) == 0
    assert "2 scenes written to" in capsys.readouterr().out
    read = open_dataset(folder / "annotations.json", folder / "images")
    np.testing.assert_array_equal(read[1].image, DemoDataset(2, seed=7, size=64)[1].image)
    assert main(command) == 2
    assert "has an annotations.json already" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GraphposeError, match="file"):
        write_demo(tmp_path / "file" / "scenes", DemoDataset(1, size=64))


def test_annotations_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "annotations.json").symlink_to(tmp_path / "nowhere" / "annotations.json")
    with pytest.raises(GraphposeError, match=f"'{tmp_path}' cannot be written to"):
        write_demo(tmp_path, DemoDataset(1, size=64))
