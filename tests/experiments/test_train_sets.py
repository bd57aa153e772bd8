"""Several training sets through the settings, the loaders and a whole run."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from experiments.configs.named import DEFAULTS, NAMED
from experiments.configs.settings import build_settings
from experiments.paper.runs import identifying
from experiments.running.build import build_datasets, build_loaders, build_network, run_statistics
from graphpose.checkpoint import load_checkpoint, load_network, save_checkpoint
from graphpose.data.config import TrainSetConfig
from graphpose.data.mix import MixedDataset
from graphpose.data.mosaic import CrowdTransform
from graphpose.errors import GraphposeError
from graphpose.fields.decode import build_decoder
from graphpose.graphs.adjacency import soft_adjacency
from graphpose.graphs.statistics import load_statistics
from graphpose.inference.predict import Predictor
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO
from tests.experiments.in_process import import_run, launch

LSP = ("R_Ankle", "L_Ankle", "R_Knee", "L_Knee", "R_Wrist", "L_Wrist")


def make_set(folder: Path, name: str, keypoints: tuple[str, ...], images: int) -> None:
    """NAME.json in COCO's format and its images, 48 × 64 pixels of noise with one person each."""
    (folder / name).mkdir()
    rng = np.random.default_rng(len(keypoints))
    records: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for number in range(1, images + 1):
        cv2.imwrite(str(folder / name / f"{number}.png"), rng.integers(255, size=(48, 64, 3), dtype=np.uint8))
        records["images"].append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
        labels = [value for _ in keypoints for value in (*rng.integers(8, 40, size=2).tolist(), 2)]
        records["annotations"].append(
            {
                "id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "keypoints": labels,
                "num_keypoints": len(keypoints), "bbox": [8, 8, 32, 32], "area": 500,
            }
        )  # fmt: skip
    limbs = COCO.limbs if keypoints == COCO.keypoints else [(0, 2), (1, 3)]
    skeleton = [[a + 1, b + 1] for a, b in limbs]
    category = {"id": 1, "name": "person", "keypoints": list(keypoints), "skeleton": skeleton}
    (folder / f"{name}.json").write_text(json.dumps(records | {"categories": [category]}))


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, Any]:
    make_set(tmp_path, "whole", COCO.keypoints, 4)
    make_set(tmp_path, "legs", LSP, 6)
    (tmp_path / "bad.json").write_text(json.dumps({"swapped": [2, 5]}))
    return {
        "data": "coco",
        "data_root": str(tmp_path),
        "train_sets": [
            {"annotations": "whole.json", "images": "whole", "weight": 2},
            {"annotations": "legs.json", "images": "legs", "complete": False, "excluded_ids": "bad.json:swapped"},
        ],
        "val_annotations": "whole.json",
        "val_images": "whole",
    }


def test_sets_are_mixed_by_weight_in_the_skeleton_of_the_evaluation_set(sets: dict[str, Any]) -> None:
    mix, val = build_datasets(build_settings(DEFAULTS | sets | {"cache": False}).data, seed=0)
    assert isinstance(mix, MixedDataset)
    assert mix.skeleton == val.skeleton
    assert (mix.names, mix.quotas.tolist(), mix.epoch_images) == (["whole", "legs"], [8, 4], 12)
    assert mix.image_ids == [1, 2, 3, 4, 1, 3, 4, 6]
    legs = mix[4]
    assert legs.known is not None
    assert {COCO.keypoints[k] for k in np.flatnonzero(legs.known[0])} == {
        f"{side}_{part}" for side in ("left", "right") for part in ("ankle", "knee", "wrist")
    }


def test_an_epoch_may_have_any_number_of_images_and_crowds(sets: dict[str, Any]) -> None:
    changes = {"epoch_images": 30, "crowd": {"mosaic": 0.5, "paste": 0.5, "paste_size": [0.2, 0.5]}, "image_size": 33}
    settings = build_settings(DEFAULTS | sets | changes | {"cache": False, "workers": 0})
    mix, val = build_datasets(settings.data, seed=0)
    loader, _ = build_loaders(settings, mix, val, seed=0)
    assert isinstance(loader.dataset.transform, CrowdTransform)  # type: ignore[attr-defined]
    batches = list(loader)
    assert [len(batch) for batch in batches] == [8, 8, 8]  # the rest does not fill a batch
    assert {source for batch in batches for source in batch.sources} == {"whole", "legs"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_sets": [{"annotations": "a.json"}]}, r"train_sets\[0\] lacks images"),
        ({"train_sets": [{"annotations": "a.json", "images": "a", "wieght": 2}]}, r"unknown key 'wieght'; there are"),
        ({"train_sets": [{"annotations": "a.json", "images": "a", "weight": "2"}]}, "weight=2 must be a number"),
        ({"train_sets": ["a.json"]}, "train_sets=.* must be a list, each of it {annotations: …, images: …}"),
        ({"train_sets": [{"annotations": "a.json", "images": "a"}] * 2}, "two sets have the name 'a'"),
        ({"train_annotations": "a.json"}, "train_sets and train_annotations=a.json"),
        ({"data": "demo"}, "train_sets with data=demo"),
        ({"train_sets": [], "epoch_images": 5}, "epoch_images=5 without train_sets"),
        ({"crowd": {"mosaic": 2.0, "paste": 0.0, "paste_size": [0.2, 0.5]}}, "crowd mosaic 2.0"),
    ],
)
def test_impossible_sets_are_refused(sets: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        build_settings(DEFAULTS | sets | changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": "nowhere.json", "images": "legs"}, r"train_sets\[0\] annotations: .*nowhere.json' does not"),
        ({"images": "legs", "excluded_ids": "bad.json"}, "bad.json has no list of image ids"),
        ({"images": "legs", "excluded_ids": "bad.json:others"}, "bad.json has under 'others' no list of image ids"),
        ({"images": "legs", "excluded_ids": "gone.json:swapped"}, "file of image ids .*gone.json does not exist"),
        ({"images": "legs", "excluded_ids": "swapped"}, "image ids 'swapped': a file that ends in .json"),
        ({"images": "legs", "pseudo_labels": "faces.json"}, r"train_sets\[0\] pseudo_labels: .* does not exist"),
    ],
)
def test_files_that_are_not_there_are_named(sets: dict[str, Any], change: dict[str, str], message: str) -> None:
    one = {"annotations": "legs.json"} | change
    with pytest.raises(GraphposeError, match=message):
        build_datasets(build_settings(DEFAULTS | sets | {"train_sets": [one], "cache": False}).data, seed=0)


def test_a_set_that_loses_all_its_images_is_named(sets: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text("[1, 2, 3, 4, 5, 6]")
    one = {"annotations": "legs.json", "images": "legs", "excluded_ids": "all.json"}
    with pytest.raises(GraphposeError, match=r"'legs': all\.json leaves no image"):
        build_datasets(build_settings(DEFAULTS | sets | {"train_sets": [one], "cache": False}).data, seed=0)


def test_runs_of_one_set_are_known_as_before() -> None:
    assert not {"train_sets", "epoch_images", "crowd"} & identifying(DEFAULTS | NAMED["coco"]).keys()
    assert {"train_sets"} < identifying(DEFAULTS | NAMED["photographs"]).keys()


def test_the_photographs_are_read_with_what_each_set_knows(data_root: Path) -> None:
    changes = {"data_root": str(data_root), "cache": False, "epoch_images": 0}
    settings = build_settings(DEFAULTS | NAMED["photographs"] | changes)
    assert all(isinstance(one, TrainSetConfig) for one in settings.data.train_sets)
    mix, val = build_datasets(settings.data, seed=0)
    assert isinstance(mix, MixedDataset)
    coco, lspet = mix.datasets
    assert (len(val), len(coco), mix.quotas[0]) == (101, 280, 8 * 280)
    assert 5000 < len(lspet) < 5600
    assert len(mix.lines()) >= 4


@pytest.mark.slow
def test_a_mix_trains_logs_each_set_and_is_resumed(
    sets: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = [
        "workers=0", "image_size=33", "long_edge=33", "batch_size=4", "cache=True", "test_flip=False", "seed=3",
        "contact_sheet_images=1", "adjacency=none", "evaluate_every=2", "warmup_epochs=0",
        "schedule=constant",
    ]  # fmt: skip
    values = [f"{key}={value}" for key, value in sets.items()]
    run = import_run(monkeypatch, tmp_path)
    launch(run, "-F", "straight", "with", *values, *tiny, "epochs=2")
    assert "whole: 4 images, weight 2, 8 views an epoch" in capsys.readouterr().out
    launch(run, "-F", "pieces", "with", *values, *tiny, "epochs=1")
    launch(run, "-F", "pieces", "with", "resume=pieces/1", "epochs=2")
    straight, resumed = (
        json.loads((tmp_path / folder / "info.json").read_text())["history"] for folder in ("straight/1", "pieces/2")
    )
    for first, second in zip(straight, resumed, strict=True):
        assert (first["whole.images"], first["legs.images"]) == (8, 4)
        assert first["whole.loss"] == second["whole.loss"]
        assert first["legs.loss"] == second["legs.loss"] > 0


@pytest.mark.parametrize(
    ("changes", "travelling"),
    [
        ({}, True),  # nothing is shipped for six keypoints of legs
        ({"statistics": "train"}, True),
        ({"train_annotations": "whole.json", "train_images": "whole"}, False),
        ({"train_annotations": "whole.json", "train_images": "whole", "statistics": "train"}, True),
        ({"train_annotations": "whole.json", "train_images": "whole", "statistics": "shipped"}, False),
    ],
)
def test_a_run_computes_the_statistics_that_it_is_asked_for_or_that_are_not_shipped(tmp_path, changes, travelling):
    make_set(tmp_path, "whole", COCO.keypoints, 4)
    make_set(tmp_path, "legs", LSP, 6)
    keys = {"data": "coco", "data_root": str(tmp_path), "train_annotations": "legs.json", "train_images": "legs"}
    keys = DEFAULTS | keys | {"val_annotations": "legs.json", "val_images": "legs"} | changes
    if "train_annotations" in changes:
        keys |= {"val_annotations": "whole.json", "val_images": "whole"}
    train, _ = build_datasets(build_settings(keys).data, seed=0)
    settings = build_settings(keys | {"backbone": "test_resnet"}, train.skeleton)
    statistics = run_statistics(settings.network, train)
    assert (statistics is not None) == travelling
    network = build_network(settings.network, statistics=statistics)
    assert network.pose_statistics is statistics
    assert build_decoder(network.spec, settings.decoder, network.pose_statistics).statistics is not None


def test_a_run_that_goes_on_from_another_network_gives_it_the_statistics_of_its_own_data(tmp_path):
    make_set(tmp_path, "whole", COCO.keypoints, 40)
    files = {"train_annotations": "whole.json", "train_images": "whole"}
    files |= {"val_annotations": "whole.json", "val_images": "whole", "pretrained": str(tmp_path / "first.pt")}
    keys = DEFAULTS | {"data": "coco", "data_root": str(tmp_path), "backbone": "test_resnet"} | files
    asks, silent = (build_settings(keys | {"statistics": name}) for name in ("train", None))
    train, _ = build_datasets(asks.data, seed=0)
    statistics = run_statistics(asks.network, train)
    assert statistics is not None
    for adjacency in ("dynamic", "none"):
        config = dataclasses.replace(silent.network, pretrained=False, adjacency=adjacency)
        save_checkpoint(tmp_path / "first.pt", PoseNetwork(config), config)
        content = load_checkpoint(tmp_path / "first.pt")
        network = build_network(asks.network, pretrained=content, statistics=statistics)
        assert network.config.statistics == "train"
        torch.testing.assert_close(network.keypoint_graph.matrix, soft_adjacency(statistics).float())
        assert build_network(silent.network, pretrained=content).pose_statistics is None


@pytest.mark.slow
def test_statistics_of_the_training_set_are_kept_with_a_run_and_need_its_file_no_more(monkeypatch, tmp_path):
    make_set(tmp_path, "legs", LSP, 6)
    run = import_run(monkeypatch, tmp_path)
    launch(
        run, "with", "data=coco", f"data_root={tmp_path}", "train_annotations=legs.json", "train_images=legs",
        "val_annotations=legs.json", "val_images=legs", "statistics=train", "epochs=1", "image_size=64", "long_edge=64",
        "workers=0", "batch_size=2", "backbone=test_resnet", "contact_sheet_images=0",
    )  # fmt: skip
    (tmp_path / "legs.json").unlink()
    network = load_network(tmp_path / "runs" / "1")
    kept = load_statistics(tmp_path / "runs" / "1" / "statistics.json")
    np.testing.assert_array_equal(network.statistics().mean, kept.mean)
    assert Predictor.from_checkpoint(tmp_path / "runs" / "1").decoder.statistics is not None
