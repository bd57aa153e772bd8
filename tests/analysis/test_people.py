"""The command that scores a network on photographs and chooses thresholds for it."""

import json
import runpy
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from graphpose.checkpoint import save_checkpoint
from graphpose.data.demo.dataset import DemoDataset
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork

SCRIPT = Path(__file__).parents[2] / "analysis" / "people.py"
script = runpy.run_path(str(SCRIPT))
main = script["main"]


def tiny_network() -> PoseNetwork:
    torch.manual_seed(0)
    return PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True, adjacency="none", upsample=2))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two scenes with their file, and an untrained network's checkpoint."""
    dataset = DemoDataset(3, seed=4, size=96)
    truth = dataset.ground_truth()
    for index, image in enumerate(truth["images"]):
        cv2.imwrite(str(tmp_path / image["file_name"]), dataset[index].image[..., ::-1])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    network = tiny_network()
    save_checkpoint(tmp_path / "checkpoint.pt", network, network.config, decoder={"keypoint_threshold": 0.02})
    return {"truth": tmp_path / "truth.json", "images": tmp_path, "checkpoint": tmp_path / "checkpoint.pt"}


def test_the_command_prints_both_tables(files: dict[str, Path], capsys: Any) -> None:
    pair = [str(files["truth"]), str(files["images"])]
    arguments = ["--checkpoint", str(files["checkpoint"]), "--limit", "2", "--resamples", "3", "--long-edge", "96"]
    assert main([*arguments, "--coco", *pair, "--single", *pair]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop(0) == "long edge 96 px"
    assert [line.split()[0] for line in lines[:5]] == ["truth:", "AP", "AP50", "AR", "face"]
    assert lines[0] == "truth: 2 images"
    assert lines[5].startswith("truth: 2 images, ")
    assert [line.split()[1] for line in lines[6:]] == ["0.1", "0.1", "0.05", "0.05"]


def test_sizes_and_the_mirror_image_are_fused_where_asked_for(files: dict[str, Path], capsys: Any) -> None:
    pair = [str(files["truth"]), str(files["images"])]
    arguments = ["--checkpoint", str(files["checkpoint"]), "--limit", "1", "--resamples", "2", "--long-edge", "65"]
    assert main([*arguments, "--single", *pair, "--flip", "--scales", "1", "1.5"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("long edge 65 px")
    assert "mirror" in line
    assert "1.5" in line


def test_sizes_are_decoded_apart_in_scoring_and_tuning(files: dict[str, Path], monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(script["tune"].__globals__, "GRID", {"complete_poses": (True,), "expected_oks": (True,)})
    pair = [str(files["truth"]), str(files["images"])]
    sizes = ["--long-edge", "200", "--no-enlarge", "--scales", "1", "0.5", "--merge", "poses"]
    arguments = ["--checkpoint", str(files["checkpoint"]), "--limit", "2", *sizes, "--coco", *pair]
    out = files["images"] / "decoder.json"
    assert main([*arguments, "--tune", str(out)]) == 0
    assert "2 settings tried" in capsys.readouterr().out
    assert main([*arguments, "--decoder", str(out), "--resamples", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "long edge at most 200 px, scales 1 0.5 decoded apart and merged"


def test_thresholds_are_chosen_on_the_sets_and_written(files: dict[str, Path], capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(script["tune"].__globals__, "GRID", {"keypoint_threshold": (0.3, 0.02), "radius": (1.5, 6.0)})
    pair = [str(files["truth"]), str(files["images"])]
    out = files["images"] / "decoder.json"
    arguments = ["--checkpoint", str(files["checkpoint"]), "--long-edge", "96", "--coco", *pair, "--single", *pair]
    assert main([*arguments, "--tune", str(out), "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    before, after = (float(word) for word in lines[-2].split(" on ")[0].split(" → "))
    images = len(json.loads(files["truth"].read_text())["images"])
    assert lines[-2].endswith(f"on {2 * images} images, 3 settings tried")
    assert after >= before
    config = json.loads(out.read_text())
    assert config["join_fragments"] is True
    assert config["keypoint_threshold"] in (0.02, 0.3)
    assert config["radius"] in (1.25, 1.5, 6.0)


def test_a_sheet_is_drawn_and_the_persons_in_it_are_counted(files: dict[str, Path], capsys: Any) -> None:
    pair = [str(files["truth"]), str(files["images"])]
    arguments = ["--checkpoint", str(files["checkpoint"]), "--long-edge", "96", "--coco", *pair, "--pictures", "2"]
    assert main([*arguments, "--sheet", str(files["images"] / "sheet.png"), "--min-score", "1.1"]) == 0
    *_, first, second, total, written = capsys.readouterr().out.splitlines()
    drawn = {line.split(":")[0].strip() for line in (first, second)}
    truth = json.loads(files["truth"].read_text())
    ids = {image["id"] for image in truth["images"] if image["file_name"] in drawn}
    persons = sum(one["image_id"] in ids and one["num_keypoints"] > 0 for one in truth["annotations"])
    assert len(drawn) == 2
    assert total == f"2 images, poses with a score of 1.1 or more: 0 found, {persons} missed, 0 invented"
    assert cv2.imread(written.removeprefix("written to ")) is not None


@pytest.mark.parametrize("missing", ["sets", "checkpoint"])
def test_what_cannot_be_scored_is_one_line_and_status_2(files: dict[str, Path], missing: str, capsys: Any) -> None:
    arguments = ["--checkpoint", str(files["checkpoint"])]
    if missing == "checkpoint":
        arguments = ["--checkpoint", "nowhere.pt", "--single", str(files["truth"]), str(files["images"])]
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("people: ")
