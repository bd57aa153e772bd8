"""The command that answers what M_d looks like on a data set."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from graphpose.graphs.statistics import load_statistics
from graphpose.skeleton import COCO

SCRIPT = Path(__file__).parents[2] / "analysis" / "distance_statistics.py"


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("distance_statistics", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def crowdpose(data_root) -> str:
    return str(data_root / "crowdpose" / "crowdpose_val.json")


def content(num_persons: int = 20, area: float = 400.0) -> dict:
    rng = np.random.default_rng(0)
    return {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": [0, 0, 30, 40], "area": area}
            | {"keypoints": np.c_[rng.integers(0, 100, (17, 2)), np.full(17, 1 + n % 2)].ravel().tolist()}
            for n in range(num_persons)
        ],
    }


def test_it_prints_relations_and_writes_arrays_and_a_heat_map(command, crowdpose, tmp_path, capsys):
    out = tmp_path / "stats.npz"
    assert command([crowdpose, "--out", str(out), "--top", "3"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "M_d of 7962 persons, skeleton crowdpose, in units of sqrt_area"
    assert lines[2].startswith("right_shoulder – neck")
    assert lines[6].startswith("left_ankle – head")
    assert "7962 persons" in printed.err
    with np.load(out) as file:
        for name in ("mean", "std", "count"):
            assert file[name].shape == (14, 14)
            np.testing.assert_allclose(file[name], getattr(load_statistics("crowdpose"), name), atol=1e-6)
    picture = cv2.imread(str(tmp_path / "stats.png"))
    assert min(picture.shape[:2]) > 500
    assert picture.std() > 20


def test_mpii_uses_head_sizes_and_its_text_form_loads(command, data_root, tmp_path):
    out = tmp_path / "mpii.json"
    assert command([str(data_root / "mpii" / "mpii_valid.h5"), "--skeleton", "mpii", "--out", str(out)]) == 0
    statistics = load_statistics(out)
    assert statistics.scale_rule == "head"
    assert list(statistics.provenance["files"]) == ["mpii_valid.h5"]
    assert load_statistics("mpii").provenance["files"] == statistics.provenance["files"]


def test_restrictions_narrow_who_counts(command, crowdpose, tmp_path):
    everybody = load_statistics("crowdpose").count
    for option, value in (("--visible", None), ("--size", "large"), ("--size", "40:50.5"), ("--crowdedness", "hard")):
        out = tmp_path / "part.npz"
        assert command([crowdpose, option, *([value] if value else []), "--out", str(out)]) == 0
        part = load_statistics(out)
        assert (part.count < everybody).all()
        assert part.provenance[option.removeprefix("--")] == (value or True)


def test_shards_give_the_whole(command, tmp_path):
    whole = content(20)
    parts = [{**whole, "annotations": whole["annotations"][cut]} for cut in (slice(0, 7), slice(7, 20))]
    paths = [tmp_path / f"part{n}.json.gz" for n in range(2)]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(gzip.compress(json.dumps(part).encode()))
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    assert command([*map(str, paths), "--out", str(tmp_path / "a.npz")]) == 0
    assert command([str(tmp_path / "whole.json"), "--out", str(tmp_path / "b.npz")]) == 0
    a, b = load_statistics(tmp_path / "a.npz"), load_statistics(tmp_path / "b.npz")
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-12)
    np.testing.assert_array_equal(a.count, b.count)
    assert list(a.provenance["files"]) == ["part0.json.gz", "part1.json.gz"]


def test_scale_rules_change_the_unit(command, tmp_path):
    (tmp_path / "file.json").write_text(json.dumps(content(area=400)))
    means = {}
    for rule in ("sqrt_area", "bbox_diagonal"):
        assert command([str(tmp_path / "file.json"), "--scale", rule, "--out", str(tmp_path / "s.npz")]) == 0
        means[rule] = load_statistics(tmp_path / "s.npz").mean
    np.testing.assert_allclose(means["bbox_diagonal"] * 50, means["sqrt_area"] * 20)


def test_pairs_never_labelled_together_are_reported(command, tmp_path, capsys):
    file = content(4)
    for record in file["annotations"]:
        record["keypoints"][2] = 0  # no nose
    (tmp_path / "file.json").write_text(json.dumps(file))
    assert command([str(tmp_path / "file.json"), "--out", str(tmp_path / "s.npz")]) == 0
    assert "16 pairs are never labelled together" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (json.dumps(content(0)), [], "file.json: no person with labelled keypoints is left"),
        ("", [], "file.json is empty"),
        (json.dumps(content(3, area=0)), [], "file.json: annotation 0 has area 0"),
        (json.dumps(content()), ["--scale", "head"], "file.json: annotation 0 has no head size"),
        (json.dumps(content()), ["--skeleton", "crowdpose"], "not the 14 of skeleton 'crowdpose'"),
        (json.dumps(content()), ["--size", "huge"], "'huge' is no band; give small, medium, large or LOW:HIGH"),
        (json.dumps(content()), ["--size", "900:1000"], "no person with labelled keypoints is left"),
        (json.dumps(content()), ["--out", "stats.txt"], "must end in .npz or .json"),
        (json.dumps(content()), ["--out", "no/such/folder/stats.npz"], "lie in a folder that exists"),
    ],
)
def test_bad_input_ends_with_one_sentence(command, tmp_path, capsys, monkeypatch, text, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.json").write_text(text)
    assert command(["file.json", *options]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not list(tmp_path.glob("stats*"))


def _peak_memory(*arguments: str) -> float:
    """Peak resident memory in bytes of a Python process."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit


@pytest.mark.slow
def test_the_command_needs_little_more_memory_than_the_parsed_file(data_root, tmp_path):
    path = str(data_root / "coco" / "annotations" / "person_keypoints_train2017.json.gz")
    code = "import gzip, json, sys; json.load(gzip.open(sys.argv[1]))"
    parse_peak = _peak_memory("-c", code, path)
    command_peak = _peak_memory(str(SCRIPT), path, "--out", str(tmp_path / "s.npz"))
    # json.load holds the text beside the parsed objects, which alone are 0.7 of its peak.
    assert command_peak <= 2.5 * 0.7 * parse_peak


def test_a_skeleton_of_two_keypoints_is_drawn_too(command, tmp_path):
    file = content(3)
    file["categories"][0] = {"id": 1, "name": "stick", "keypoints": ["head", "foot"]}
    for record in file["annotations"]:
        record["keypoints"] = record["keypoints"][:6]
    (tmp_path / "file.json").write_text(json.dumps(file))
    assert command([str(tmp_path / "file.json"), "--out", str(tmp_path / "s.json")]) == 0
    assert load_statistics(tmp_path / "s.json").keypoints == ("head", "foot")
    assert cv2.imread(str(tmp_path / "s.png")).std() > 20


@pytest.mark.slow
def test_help_and_start_without_torch():
    code = f"""
import runpy, sys
sys.modules["torch"] = None
sys.argv = ["distance_statistics.py", "--help"]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--crowdedness" in done.stdout
