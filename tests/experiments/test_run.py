"""The Sacred experiment, as typed on the command line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.configs import coco, crowdpose, mpii
from experiments.configs.explanations import EXPLANATIONS, PURPOSES
from experiments.configs.named import DEFAULTS, NAMED
from experiments.configs.settings import ANNOTATIONS, build_settings, flatten
from experiments.running import build
from graphpose.cli import main
from graphpose.data.image import read_image
from graphpose.errors import GraphposeError
from graphpose.nn.relations import read_weights
from graphpose.skeleton import COCO
from tests.experiments.in_process import EXPERIMENTS, import_run, launch
from tests.metrics.test_coco import persons, truth_of

TINY = [
    "demo_train_scenes=8", "demo_val_scenes=3", "epochs=1", "workers=0", "image_size=96", "batch_size=4",
    "contact_sheet_images=2",
]  # fmt: skip


def run(folder, *arguments, environment=None):
    return subprocess.run(
        [sys.executable, str(EXPERIMENTS / "run.py"), *arguments],
        cwd=folder, capture_output=True, text=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adjacncy": "dynamic"}, "unknown configuration key 'adjacncy'; did you mean adjacency"),
        ({"loss": {"pif_ofset": 2}}, r"unknown configuration key 'loss\.pif_ofset'; did you mean loss\.pif_offset"),
        ({"loss": 3}, r"'loss' is a group; set loss\.<name>"),
        (
            {"adjacency": "dinamic"},
            "adjacency 'dinamic' is unknown; choose one of none, .*full, soft, dynamic, soft_modes, modes, a file",
        ),
        ({"adjacency": "none", "strides": [16, 8]}, r"strides \(16, 8\) with adjacency 'none'"),
        ({"data": "imagenet"}, "data=imagenet must be one of demo, coco, crowdpose, mpii"),
        ({"evaluator": "slow"}, "evaluator=slow must be one of pycocotools, fast"),
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
        ({"adjacency": 3}, "adjacency=3 must be one of none, .*, modes or a text or None"),
        (
            {"graph_layer": "GCNConv"},
            "graph_layer 'GCNConv' is unknown; choose one of dgcn, .*DenseGATConv or pack",
        ),
        ({"sample": True}, "sample=True with adjacency 'dynamic': it is for a file or function"),
        ({"adjacency": "a.csv", "per_sample": True}, "only dynamic graphs are drawn, and with sample=True those of"),
        ({"adjacency": "none", "graph_layer": "DenseGATConv"}, "graph_layer 'DenseGATConv' with adjacency 'none'"),
        ({"absent_edges": "masked", "graph_layer": "DenseGATConv"}, "'DenseGATConv' with absent_edges 'masked'"),
        ({"statistics": 3}, "statistics=3 must be a text or None"),
        ({"pretrained": 1}, "pretrained=1 must be True or False or a text"),
        ({"augment": {"scale": [1.0]}}, r"augment\.scale=\[1\.0\] must be a list of 2, each of it a number"),
        ({"workers": -1}, "workers=-1 must not be negative"),
        ({"join_fragments": False}, r"'join_fragments'; did you mean decoder\.join_fragments\?"),
        ({"decoder": {"rotation": 5}}, r"'decoder\.rotation'; did you mean augment\.rotation\?"),
        ({"loss": {"epochs": 5}}, r"'loss\.epochs'; did you mean epochs\?"),
        ({"pif_ofset": 5}, r"'pif_ofset'; did you mean loss\.pif_offset"),
        ({"flip_pairs": []}, r"'flip_pairs'; did you mean skeleton\.flip_pairs\?"),
        (
            {"skeleton": {"flip_pairs": [["a"]]}},
            r"skeleton\.flip_pairs=\[\['a'\]\] must be a list, each of it a list of 2",
        ),
        ({"skeleton": {"flip_pairs": [["a", "a"]]}}, r"skeleton\.flip_pairs pairs 'a' with itself"),
        ({"skeleton": {"flip_pairs": [["a", "b"], [3, "b"]]}}, r"skeleton\.flip_pairs has 'b' in two pairs"),
        ({"val_share": 1}, r"val_share=1 must lie between 0 and 1"),
        ({"annotations": "a.json", "images": "a"}, r"annotations with data=demo; rendered scenes are no file, use run"),
        ({"data": "coco", "annotations": "a.json"}, r"annotations=a\.json without images; both are needed"),
        (
            {"data": "coco", "annotations": "a", "images": "a", "train_images": "b"},
            r"annotations and train_images; give",
        ),
        ({"zzz": 5}, r"'zzz'; `run\.py print_config` shows every key"),
    ],
)
def test_a_wrong_configuration_is_refused_naming_the_key(changes, message):
    with pytest.raises(GraphposeError, match=message):
        build_settings(DEFAULTS | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"adjacency": None}, {"pretrained": "weights.pth"}, {"pretrained": True}, {"statistics": "m_d.npz"},
        {"long_edge": 641}, {"long_edge": None}, {"augment": {"long_edge": None}}, {"test_scales": 1.0},
        {"test_scales": [1]},
        {"adjacency": "mine/graph.csv", "sample": True, "evaluation_graph": "expectation"},
        {"adjacency": "modes", "modes": 3}, {"adjacency": "soft_modes", "statistics": "kinds"},
        {"adjacency": "package.module:function"}, {"graph_layer": "DenseGATConv"}, {"graph_layer": "package:Layer"},
        {"gamma": 1}, {"strides": (16, 8)}, {"image_ids": [3]}, {"seed": 7},
    ],
)  # fmt: skip
def test_values_of_every_kind_that_a_key_takes_are_taken(changes):
    config = DEFAULTS | changes
    if "augment" in changes:
        config["augment"] = DEFAULTS["augment"] | changes["augment"]
    build_settings(config)


def test_graphpose_demo_writes_the_scenes_that_runs_are_evaluated_on(tmp_path):
    assert main(["demo", str(tmp_path), "--scenes", "2"]) == 0
    _, evaluated = build.build_datasets(build_settings(DEFAULTS | NAMED["demo"] | {"demo_val_scenes": 2}).data, seed=5)
    assert json.loads((tmp_path / "annotations.json").read_text()) == evaluated.ground_truth()
    written = read_image(tmp_path / "images" / evaluated[1].file_name)
    assert np.array_equal(written, evaluated[1].image)


def test_data_and_devices_that_are_not_there_are_named():
    with pytest.raises(GraphposeError, match="does not exist; set data_root, or GRAPHPOSE_DATA"):
        build.build_datasets(build_settings(NAMED["coco_local"] | {"data_root": "/nowhere"}).data, seed=0)
    with pytest.raises(GraphposeError, match="data=coco needs train_annotations"):
        build.build_datasets(build_settings(DEFAULTS | {"data": "coco"}).data, seed=0)


@pytest.mark.parametrize(
    ("data", "change", "message"),
    [
        ("coco", {}, None),
        ("coco", {"iscrowd": 1}, r"data=coco, .*val\.json: nobody to score"),
        ("coco", {"category_id": 7}, r"val\.json: annotation 1 has category_id 7, which the file does not list"),
        ("mpii", {}, r"data=mpii, .*val\.json: mpii's rules, which were asked for, are of MPII's own keypoints"),
        ("crowdpose", {}, r"data=crowdpose, .*val\.json: .* need a crowdIndex of every image; image 1 has none"),
    ],
)
def test_what_the_first_evaluation_would_refuse_is_refused_before_training(tmp_path, data, change, message):
    truth = truth_of(persons(2), COCO)
    (tmp_path / "train.json").write_text(json.dumps(truth))
    for annotation in truth["annotations"]:
        annotation |= change
    (tmp_path / "val.json").write_text(json.dumps(truth))
    keys = {"train_annotations": "train.json", "val_annotations": "val.json", "train_images": ".", "val_images": "."}
    settings = build_settings(DEFAULTS | keys | {"data": data, "data_root": str(tmp_path)})
    if message is None:
        assert [len(one) for one in build.build_datasets(settings.data, seed=0)] == [2, 2]
        return
    with pytest.raises(GraphposeError, match=message):
        build.build_datasets(settings.data, seed=0)


@pytest.mark.parametrize("name", ["demo", "own", "coco", "coco_from_pifpaf", "coco_local", "coco_eight", "photographs"])
def test_every_named_configuration_builds(name):
    settings = build_settings(DEFAULTS | NAMED[name])
    assert settings.network.adjacency == "dynamic"
    assert settings.data.data == ("demo" if name == "demo" else "coco")


@pytest.mark.parametrize("module", [crowdpose, mpii])
def test_crowdpose_and_mpii_are_configured_as_coco_but_for_their_files(module):
    data, values = module.__name__.rpartition(".")[2], module.CONFIG
    settings = build_settings(DEFAULTS | values)
    assert settings.data.data == data
    assert (settings.network.backbone, settings.train.epochs) == ("resnet50", 100)
    differing = {key for key in values if values[key] != coco.CONFIG[key]}
    files = {"data", "train_annotations", "train_images", "val_annotations", "val_images"}
    assert differing == files | ({"decoder"} if data == "mpii" else set())


@pytest.mark.slow
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


def test_every_key_and_every_named_configuration_is_explained_in_one_line():
    assert {key for key, _ in flatten(DEFAULTS)} == ANNOTATIONS.keys()
    assert ANNOTATIONS.keys() <= EXPLANATIONS.keys()
    assert list(PURPOSES) == list(NAMED) == [
        "demo", "own", "coco", "coco_local", "coco_eight", "coco_from_pifpaf", "photographs", "frozen", "frozen_lite0",
        "endtoend", "crowdpose", "mpii",
    ]  # fmt: skip
    lines = [*EXPLANATIONS.values(), *PURPOSES.values()]
    assert all(line and "\n" not in line and "``" not in line and ":class:" not in line for line in lines)
    assert EXPLANATIONS["gamma"] == "γ of Eq. 6"  # the dot of an abbreviation ends no sentence
    assert EXPLANATIONS["stem_pool"] == "keep the stem's max-pool"  # the first sentence of two


@pytest.mark.slow
def test_print_config_shows_what_a_key_does_beside_its_value(monkeypatch, tmp_path, capsys):
    launch(import_run(monkeypatch, tmp_path), "print_config", "with", "epochs=3")
    lines = capsys.readouterr().out.splitlines()
    (changed,) = [line for line in lines if "epochs = 3" in line]
    assert "# passes over the training set" in changed
    assert changed.startswith("\x1b[34m")  # Sacred's colour of a value that was changed
    (kept,) = [line for line in lines if " gamma = 0.5 " in line]
    assert "# γ of Eq. 6" in kept
    assert not kept.startswith("\x1b")


@pytest.mark.slow
def test_help_names_every_configuration_and_refuses_a_command_that_is_none(monkeypatch, tmp_path, capsys):
    run = import_run(monkeypatch, tmp_path)
    with pytest.raises(SystemExit):
        launch(run, "help")
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown and purpose in shown for name, purpose in PURPOSES.items())
    for command in run.experiment.commands:
        with pytest.raises(SystemExit) as ended:
            launch(run, "help", command)
        assert not ended.value.code
        assert command in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"there is no command .train.; without a command"):
        launch(run, "help", "train")


def test_the_papers_settings_are_those_of_its_implementation_details():
    settings = build_settings(DEFAULTS | coco.CONFIG)
    weights = settings.loss
    assert (weights.pif_confidence, weights.pif_offset, weights.paf_confidence, weights.paf_offset) == (30, 2, 50, 3)
    assert (settings.train.epochs, settings.train.learning_rate, settings.train.optimizer) == (100, 1e-3, "sgd")
    assert (settings.data.batch_size, settings.network.gamma, settings.network.strides) == (8, 0.5, (16,))


@pytest.mark.slow
def test_a_refused_run_prints_one_line_and_no_traceback(tmp_path):
    done = run(tmp_path, "with", *TINY, "adjacncy=dynamic")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "did you mean adjacency" in done.stderr


@pytest.mark.slow
def test_a_checkpoint_that_is_not_there_ends_the_process_with_one_line(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        launch(import_run(monkeypatch, tmp_path), "with", *TINY, "resume=nowhere.pt")
    # a text as exit status is what Python prints instead of a traceback, with status 1
    assert isinstance(refused.value.code, str)
    assert re.fullmatch("graphpose: checkpoint 'nowhere.pt' does not exist.*", refused.value.code)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_photographs_train_and_evaluate_through_the_experiment(tmp_path, data_root):
    done = run(
        tmp_path, "with", "coco_eight", "epochs=1", "warmup_epochs=0", "image_ids=[36,49]", "batch_size=2", "workers=0",
        "image_size=97", "long_edge=97", environment={"GRAPHPOSE_DATA": str(data_root.resolve())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 training and 2 evaluation images" in done.stdout


@pytest.mark.parametrize(
    ("workers", "device", "cores", "ranks", "expected"),
    [
        (3, "cuda", 64, 1, 3), (0, "cuda", 64, 1, 0), (None, "cpu", 64, 1, 2), (None, "cuda", 8, 1, 7),
        (None, "cuda", 64, 1, 16), (None, "cuda", 32, 4, 7), (None, "cuda", 1, 1, 2),
    ],
)  # fmt: skip
def test_loader_processes_follow_the_cores_that_a_rank_has(monkeypatch, workers, device, cores, ranks, expected):
    monkeypatch.setattr(build.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert build.loader_workers(workers, torch.device(device)) == expected
