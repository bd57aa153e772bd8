"""Runs that train on a frozen trunk's features."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from experiments.configs.named import DEFAULTS, NAMED
from experiments.configs.settings import build_settings
from experiments.paper.runs import identifying
from experiments.running.features import FeatureStores
from graphpose.errors import GraphposeError
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import trunk
from graphpose.skeleton import COCO
from tests.experiments.in_process import import_run, launch
from tests.experiments.test_train_sets import make_set

FROZEN = {
    "data": "coco", "given_features": True, "stem_pool": True, "backbone": "regnetx_002", "pretrained": True,
    "image_size": 64, "long_edge": 64, "test_flip": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 65}, "image_size=65: a multiple of the stride 16"),
        ({"long_edge": None}, "long_edge=None: a multiple of the stride 16"),
        ({"test_flip": True}, "test_flip or test_scales"),
        ({"data": "demo"}, "data=demo"),
        ({"pretrained": False}, "pretrained=False: the frozen trunk needs weights"),
    ],
)
def test_settings_that_features_cannot_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        FeatureStores(build_settings(DEFAULTS | FROZEN | changes))


def test_features_of_several_strides_are_refused() -> None:
    with pytest.raises(GraphposeError, match=r"given_features=True with strides \(16, 8\)"):
        build_settings(DEFAULTS | FROZEN | {"strides": [16, 8]})


def test_runs_on_images_are_known_as_before_and_a_folder_makes_no_other_run() -> None:
    keys = {"given_features", "feature_passes", "features", "graph_layer"}
    assert not keys & identifying(DEFAULTS | NAMED["photographs"]).keys()
    assert keys & identifying(DEFAULTS | NAMED["frozen"]).keys() == {"given_features"}


@pytest.mark.slow
def test_a_second_run_trains_on_the_features_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set(tmp_path, "whole", COCO.keypoints, 20)
    weights = trunk(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True)).features.model.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "weights.safetensors")
    settings = FROZEN | {
        "data_root": tmp_path, "pretrained": tmp_path / "weights.safetensors", "epochs": 3, "batch_size": 8,
        "evaluate_every": 3, "workers": 0, "cache": False, "feature_passes": 2, "contact_sheet_images": 0,
        "train_annotations": "whole.json", "train_images": "whole", "val_annotations": "whole.json",
        "val_images": "whole", "augment.long_edge": 64,
    }  # fmt: skip
    run = import_run(monkeypatch, tmp_path)
    for adjacency in ("none", "dynamic"):
        launch(run, "with", "seed=1", f"adjacency={adjacency}", *(f"{key}={value}" for key, value in settings.items()))
        printed = capsys.readouterr().out
        assert ("features of 40 of 40 views" in printed) == (adjacency == "none")
        assert "epoch 3/3" in printed
    content = torch.load(tmp_path / "runs" / "2" / "checkpoint.pt", weights_only=True)
    assert not any(name.startswith("backbone.") for name in content["network"])
    assert json.loads((tmp_path / "runs" / "2" / "evaluation.json").read_text())["AP"] >= 0
    (folder,) = (tmp_path / "runs" / "features").glob("train-*")
    assert json.loads((folder / "features.json").read_text())["made_from"]["image_size"] == 64
