"""The Sacred experiment, as typed on the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "experiments" / "run.py"
TINY = [
    "demo_train_scenes=8", "demo_val_scenes=3", "epochs=1", "workers=0", "image_size=96", "batch_size=4",
    "contact_sheet_images=2",
]  # fmt: skip


def run(folder, *arguments, environment=None):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=folder, capture_output=True, text=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip


def test_a_run_leaves_a_folder_with_everything(tmp_path):
    done = run(tmp_path, "with", "adjacency=dynamic", *TINY)
    assert done.returncode == 0, done.stderr
    assert "AP " in done.stdout.splitlines()[-1]
    folder = tmp_path / "runs" / "1"
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.json", "run.json", "metrics.json", "cout.txt", "checkpoint.pt", "evaluation.json", "results.json",
        "contact_sheet.png", "loss_curve.png",
    }  # fmt: skip
    assert json.loads((folder / "config.json").read_text())["adjacency"] == "dynamic"
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "COMPLETED"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["val.AP"]["steps"] == [1]
    assert metrics["train.loss.total"]["values"][0] > 0
    assert set(json.loads((folder / "evaluation.json").read_text())) == {
        "AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL",
    }  # fmt: skip


def test_resuming_takes_up_where_the_checkpoint_was(tmp_path):
    tiny = [argument for argument in TINY if not argument.startswith("epochs")]
    assert run(tmp_path, "with", *tiny, "epochs=1", "seed=1").returncode == 0
    again = run(tmp_path, "with", *tiny, "epochs=2", "seed=1", "resume=runs/1/checkpoint.pt")
    assert again.returncode == 0, again.stderr
    assert "epoch 2/2" in again.stdout
    assert "epoch 1/2" not in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adjacncy=dynamic"], "unknown configuration key 'adjacncy'; did you mean adjacency"),
        (["loss.pif_ofset=2"], "unknown configuration key 'loss.pif_ofset'; did you mean loss.pif_offset"),
        (["adjacency=dinamic"], "choose one of none, identity, hand_crafted, soft, dynamic"),
        (["adjacency=none", "strides=[16,8]"], r"strides \(16, 8\) with adjacency 'none'"),
        (["data=imagenet"], "data='imagenet' must be demo or coco"),
        (["batch_size=0"], "batch_size=0 must be a positive whole number"),
        (["coco_local", "data_root=/nowhere"], "does not exist; set data_root, or GRAPHPOSE_DATA"),
        ([*TINY, "device=cuda:7"], "device='cuda:7'"),
        ([*TINY, "resume=nowhere.pt"], "checkpoint 'nowhere.pt' does not exist"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line_naming_the_key(tmp_path, arguments, message):
    done = run(tmp_path, "with", *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert re.search(message, done.stderr), done.stderr


@pytest.mark.parametrize("name", ["demo", "coco", "coco_local", "coco_eight"])
def test_every_named_configuration_prints_its_keys(tmp_path, name):
    done = run(tmp_path, "print_config", "with", name)
    assert done.returncode == 0, done.stderr
    assert "adjacency" in done.stdout
