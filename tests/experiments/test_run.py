"""The Sacred experiment, as typed on the command line."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graphpose.errors import GraphposeError
from graphpose.nn.relations import read_weights
from tests.experiments.in_process import EXPERIMENTS, import_run, launch

TINY = [
    "demo_train_scenes=8", "demo_val_scenes=3", "epochs=1", "workers=0", "image_size=96", "batch_size=4",
    "contact_sheet_images=2",
]  # fmt: skip


def run(folder, *arguments, environment=None):
    return subprocess.run(
        [sys.executable, str(EXPERIMENTS / "run.py"), *arguments],
        cwd=folder, capture_output=True, text=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip


def test_a_run_leaves_a_folder_with_everything(tmp_path):
    # with threads, which `make test` leaves out; waiting passively they do not slow down the tests beside this one
    threads = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    done = run(tmp_path, "with", "adjacency=dynamic", *TINY, environment=threads)
    assert done.returncode == 0, done.stderr
    assert "AP " in done.stdout.splitlines()[-1]
    folder = tmp_path / "runs" / "1"
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.json", "run.json", "metrics.json", "cout.txt", "checkpoint.pt", "evaluation.json", "results.json",
        "contact_sheet.png", "loss_curve.png", "relations.npz",
    }  # fmt: skip
    assert list(read_weights(folder / "relations.npz")) == [0, 1]
    assert json.loads((folder / "config.json").read_text())["adjacency"] == "dynamic"
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "COMPLETED"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["val.AP"]["steps"] == [1]
    assert metrics["train.loss.total"]["values"][0] > 0
    assert set(json.loads((folder / "evaluation.json").read_text())) == {
        "AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL",
    }  # fmt: skip


@pytest.fixture
def configurations():
    return importlib.import_module("experiments.configs.settings")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adjacncy": "dynamic"}, "unknown configuration key 'adjacncy'; did you mean adjacency"),
        ({"loss": {"pif_ofset": 2}}, r"unknown configuration key 'loss\.pif_ofset'; did you mean loss\.pif_offset"),
        ({"loss": 3}, r"'loss' is a group; set loss\.<name>"),
        ({"adjacency": "dinamic"}, "choose one of none, identity, hand_crafted, full, soft, dynamic"),
        ({"adjacency": "none", "strides": [16, 8]}, r"strides \(16, 8\) with adjacency 'none'"),
        ({"data": "imagenet"}, "data='imagenet' must be one of demo, coco, crowdpose, mpii"),
        ({"evaluator": "slow"}, "evaluator='slow' must be one of pycocotools, fast"),
        ({"test_scales": [1.0, 0]}, r"test scales \[1\.0, 0\.0\] must be"),
        ({"batch_size": 0}, "batch_size=0 must be a positive whole number"),
        ({"epochs": "ten"}, "epochs=ten must be a whole number"),
        ({"epochs": 2.5}, r"epochs=2\.5 must be a whole number"),
        ({"epochs": True}, "epochs=True must be a whole number"),
        ({"learning_rate": "fast"}, "learning_rate=fast must be a number"),
        ({"non_local": 1}, "non_local=1 must be True or False"),
        ({"milestones": 5}, "milestones=5 must be a list"),
        ({"strides": ["a"]}, r"strides=\['a'\] must be a list, each of it a whole number"),
        ({"loss": {"pif_offset": "x"}}, r"loss\.pif_offset=x must be a number"),
        ({"statistics": 3}, "statistics=3 must be as in print_config"),
    ],
)
def test_a_wrong_configuration_is_refused_naming_the_key(configurations, changes, message):
    with pytest.raises(GraphposeError, match=message):
        configurations.build_settings(configurations.DEFAULTS | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"adjacency": None}, {"pretrained": "weights.pth"}, {"pretrained": True}, {"statistics": "m_d.npz"},
        {"long_edge": 641}, {"long_edge": None}, {"augment": {"long_edge": None}}, {"test_scales": 1.0},
        {"test_scales": [1]}, {"gamma": 1}, {"strides": (16, 8)}, {"image_ids": [3]}, {"seed": 7},
    ],
)  # fmt: skip
def test_values_of_every_kind_that_a_key_takes_are_taken(configurations, changes):
    config = configurations.DEFAULTS | changes
    if "augment" in changes:
        config["augment"] = configurations.DEFAULTS["augment"] | changes["augment"]
    configurations.build_settings(config)


def test_data_and_devices_that_are_not_there_are_named(configurations):
    build = importlib.import_module("experiments.running.build")
    with pytest.raises(GraphposeError, match="does not exist; set data_root, or GRAPHPOSE_DATA"):
        build.build_datasets(configurations.COCO_LOCAL | {"data_root": "/nowhere"}, seed=0)
    with pytest.raises(GraphposeError, match="data=coco needs train_annotations"):
        build.build_datasets(configurations.DEFAULTS | {"data": "coco"}, seed=0)
    with pytest.raises(GraphposeError, match="device='gpu' must be auto, cpu, cuda"):
        build.resolve_device("gpu")


@pytest.mark.parametrize("name", ["DEMO", "COCO_FULL", "COCO_LOCAL", "COCO_EIGHT"])
def test_every_named_configuration_builds(configurations, name):
    settings = configurations.build_settings(configurations.DEFAULTS | getattr(configurations, name))
    assert settings.network.adjacency == "dynamic"
    assert settings.data["data"] == ("demo" if name == "DEMO" else "coco")


@pytest.mark.parametrize(("name", "data"), [("CROWDPOSE", "crowdpose"), ("MPII", "mpii")])
def test_crowdpose_and_mpii_are_configured_as_coco_but_for_their_files(configurations, name, data):
    values = getattr(importlib.import_module("experiments.configs.datasets"), name)
    settings = configurations.build_settings(configurations.DEFAULTS | values)
    assert settings.data["data"] == data
    assert (settings.network.backbone, settings.train.epochs) == ("resnet50", 100)
    differing = {key for key in values if values[key] != configurations.COCO_FULL[key]}
    files = {"data", "train_annotations", "train_images", "val_annotations", "val_images"}
    assert differing == files | ({"decoder"} if data == "mpii" else set())


def test_mpii_and_crowdpose_photographs_train_and_are_scored_by_their_own_rules(
    monkeypatch, tmp_path, data_root, capsys
):
    """The samples at hand as training and evaluation set, with fused views."""
    tiny = [
        "epochs=1", "warmup_epochs=0", "frozen_backbone_epochs=0", "workers=0", "batch_size=2", "image_size=97",
        "long_edge=97", "backbone=regnetx_002", "pretrained=False", "stem_pool=True", "contact_sheet_images=1",
        "test_flip=True", "test_scales=[1.0,0.75]", f"data_root={data_root.resolve()}",
    ]  # fmt: skip
    for name, file, figures in (
        ("mpii", "mpii/samples/test_mpii.json", {"mAP", "PCKh", "AP_head"}),
        ("crowdpose", "crowdpose/samples/test_crowdpose.json", {"AP", "AP_easy", "AP_medium", "AP_hard"}),
    ):
        folder = str(Path(file).parent)
        files = [f"{part}_annotations={file}" for part in ("train", "val")]
        files += [f"{part}_images={folder}" for part in ("train", "val")]
        launch(import_run(monkeypatch, tmp_path), "with", name, *files, *tiny)
        [evaluation] = (tmp_path / "runs").glob("*/evaluation.json")
        assert figures <= set(json.loads(evaluation.read_text()))
        assert f"{'mAP' if name == 'mpii' else 'AP'} 0." in capsys.readouterr().out.splitlines()[-1]
        shutil.rmtree(tmp_path / "runs")


def test_the_papers_settings_are_those_of_its_implementation_details(configurations):
    settings = configurations.build_settings(configurations.DEFAULTS | configurations.COCO_FULL)
    weights = settings.loss
    assert (weights.pif_confidence, weights.pif_offset, weights.paf_confidence, weights.paf_offset) == (30, 2, 50, 3)
    assert (settings.train.epochs, settings.train.learning_rate, settings.train.optimizer) == (100, 1e-3, "sgd")
    assert (settings.data["batch_size"], settings.network.gamma, settings.network.strides) == (8, 0.5, (16,))


def test_a_refused_run_prints_one_line_and_no_traceback(tmp_path):
    done = run(tmp_path, "with", *TINY, "adjacncy=dynamic")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "did you mean adjacency" in done.stderr


def test_a_checkpoint_that_is_not_there_ends_the_process_with_one_line(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        launch(import_run(monkeypatch, tmp_path), "with", *TINY, "resume=nowhere.pt")
    # a text as exit status is what Python prints instead of a traceback, with status 1
    assert isinstance(refused.value.code, str)
    assert re.fullmatch("graphpose: checkpoint 'nowhere.pt' does not exist.*", refused.value.code)
    assert "Traceback" not in capsys.readouterr().err


def test_photographs_train_and_evaluate_through_the_experiment(tmp_path, data_root):
    done = run(
        tmp_path, "with", "coco_eight", "epochs=1", "warmup_epochs=0", "image_ids=[36,49]", "batch_size=2", "workers=0",
        "image_size=97", "long_edge=97", environment={"GRAPHPOSE_DATA": str(data_root.resolve())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 training and 2 evaluation images" in done.stdout
