"""analysis/pose_modes.py: prints, draws and writes what a run can take."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from graphpose.checkpoint import save_checkpoint
from graphpose.data.demo.dataset import DemoDataset
from graphpose.graphs.dataset_statistics import dataset_modes
from graphpose.graphs.mode_statistics import mode_name, read_modes
from graphpose.graphs.statistics import load_statistics
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import MPII
from tests.data.test_mpii import point, rect, structs
from tests.graphs.test_modes import STAR, persons
from tests.metrics.test_coco import truth_of

SMALL = {"backbone": "test_resnet", "stem_pool": True}
SCRIPT = Path(__file__).parents[2] / "analysis" / "pose_modes.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pose_modes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kinds_are_printed_drawn_and_written_for_runs(script, tmp_path, capsys):
    keypoints, _, _ = persons((30, 10))
    (tmp_path / "a.json").write_text(json.dumps(truth_of(keypoints, STAR)))
    assert script.main([str(tmp_path / "a.json"), "--kinds", "2", "--out", str(tmp_path / "kinds")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("40 persons, ")
    assert " ← " in printed[2]
    assert printed[1].startswith("kind 1: ")
    counts = [load_statistics(tmp_path / "kinds" / f"kind-{n}.json").count[0, 1] for n in (1, 2)]
    assert sum(counts) == 40
    assert (tmp_path / "kinds" / "kinds.png").stat().st_size > 10000


def test_what_cannot_be_clustered_is_said(script, tmp_path, capsys):
    keypoints, _, _ = persons((2, 1))
    (tmp_path / "a.json").write_text(json.dumps(truth_of(keypoints, STAR)))
    assert script.main([str(tmp_path / "a.json"), "--kinds", "9", "--out", str(tmp_path / "kinds")]) == 1
    assert "9 kinds of 3 poses" in capsys.readouterr().err
    assert not (tmp_path / "kinds").exists()


def write_activities(path: Path) -> None:
    """A release of 12 images: downhill skiers, and swimmers of whom one's image says nothing."""
    person = rect(annopoints={"point": [point(k) for k in range(16)]})
    images = [{"image": {"name": f"{n}.jpg"}, "annorect": structs([person, person])} for n in range(12)]
    skiing = {"act_name": "skiing, downhill", "cat_name": "winter activities", "act_id": 7}
    swimming = {"act_name": "swimming", "cat_name": "water activities", "act_id": 8}
    nothing = {"act_name": np.array([]), "cat_name": np.array([]), "act_id": -1}
    acts = structs([skiing] * 7 + [swimming] * 4 + [nothing])
    release = {"annolist": structs(images)[None], "img_train": np.ones((1, 12)), "act": acts[:, None]}
    savemat(path, {"RELEASE": release})


def test_persons_are_grouped_by_what_mpii_says_they_do_and_the_folder_is_one_for_a_network(script, tmp_path, capsys):
    write_activities(tmp_path / "release.mat")
    out = tmp_path / "kinds"
    command = [str(tmp_path / "release.mat"), "--by", "activity", "--out", str(out)]
    assert script.main([*command, "--min-persons", "8"]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if "persons (" in line]
    assert printed == ["winter activities: 14 persons (58.3 %)", "water activities: 8 persons (33.3 %)",
                       "other: 2 persons (8.3 %)"]  # fmt: skip
    assert [mode_name(kind) for kind in read_modes(out)] == ["winter activities", "water activities", "other"]
    assert (out / "kinds.png").stat().st_size > 10000
    config = PoseNetworkConfig(
        backbone="test_resnet", stem_pool=True, skeleton=MPII, adjacency="modes", modes=3, statistics=str(out)
    )
    network = PoseNetwork(config)
    assert network.keypoint_graph.shares.tolist() == pytest.approx([14 / 24, 8 / 24, 2 / 24])
    assert script.main([*command, "--min-persons", "9"]) == 0
    assert "other: 10 persons" in capsys.readouterr().out
    assert script.main([command[0], "--by", "single-activity", "--min-persons", "1", *command[3:]]) == 0
    assert "skiing, downhill: 14 persons" in capsys.readouterr().out


def test_files_without_activities_and_options_that_do_not_fit_are_named(script, tmp_path, capsys):
    keypoints, _, _ = persons((4, 4))
    (tmp_path / "a.json").write_text(json.dumps(truth_of(keypoints, STAR)))
    for options, message in (
        (["--by", "activity"], "a.json does not say what is done in its images; of MPII's forms the official release"),
        (["--min-persons", "0"], "--min-persons 0: at least 1 is needed"),
        (["--annotations", "b.json"], "--annotations and --data belong together"),
        (["--annotations", "b.json", "--data", "."], "a.json is no checkpoint"),
    ):
        assert script.main([str(tmp_path / "a.json"), *options, "--out", str(tmp_path / "kinds")]) == 1
        assert message in capsys.readouterr().err
    save_checkpoint(tmp_path / "c.pt", network := PoseNetwork(PoseNetworkConfig(**SMALL)), network.config)
    assert script.main([str(tmp_path / "c.pt")]) == 1
    assert "has no gate" in capsys.readouterr().err


def test_a_gate_is_printed_by_the_kinds_in_its_images(script, tmp_path, capsys, monkeypatch):
    few = DemoDataset(6, seed=2**31, size=96)
    monkeypatch.setattr("graphpose.data.demo.dataset.DemoDataset", lambda *_, **__: few)
    kinds = dataset_modes(few, 2).statistics
    network = PoseNetwork(PoseNetworkConfig(**SMALL, adjacency="modes", modes=2), mode_statistics=kinds)
    save_checkpoint(tmp_path / "c.pt", network, network.config)
    assert script.main([str(tmp_path / "c.pt")]) == 0
    printed = capsys.readouterr().out
    shares = " | ".join(f"{share:.4f}" for share in network.keypoint_graph.shares.tolist())
    assert f"| images' mean |  | {shares} |" in printed
    assert f"| where kind 1 of 2 is | {kinds[0].provenance['persons']} | {shares} |" in printed
    assert "own kind weighs +0.0000 more in its image than on average (p 1.000" in printed
