"""Thresholds of the decoder: chosen on fields of a network, written, and read by the command line."""

from __future__ import annotations

import dataclasses
import json

import cv2
import pytest
import torch

from graphpose.checkpoint import save_checkpoint
from graphpose.cli import main
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import build_decoder
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.fusion import View
from graphpose.fields.spec import FieldSpec
from graphpose.inference.evaluate import evaluate
from graphpose.inference.tune import GRID, choose_thresholds, collect_fields, coordinate_ascent
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO, Skeleton
from tests.oracle import Oracle

STICK = FieldSpec(Skeleton("stick", ("a", "b"), ((0, 1),), (0.05, 0.05)), 8)
SMALL_GRID = {"keypoint_threshold limb_threshold": (0.1, 0.2), "peak_threshold": (0.05, 0.1)}


def faint_fields():
    keypoints = torch.tensor([[[[40.0, 40, 2], [100, 40, 2]]]])
    pif, paf = perfect_fields(encode(keypoints, torch.tensor([[100.0]]), STICK, (81, 161)))
    pif[:, :, 0] *= 0.25
    paf[:, :, 0] *= 0.25
    return [([View(pif[0], paf[0])],)]


def test_faint_fields_ask_for_lower_thresholds():
    config, score, trials = coordinate_ascent(
        faint_fields(), lambda poses: float((poses[0].keypoints[:, :, 2] > 0).sum()), STICK
    )
    assert score == 2
    assert config.keypoint_threshold < 0.25
    assert len(trials) > 10


def test_the_start_is_kept_where_nothing_is_better():
    start = DecoderConfig(radius=1.3)
    config, score, _ = coordinate_ascent(faint_fields(), lambda poses: 0.0, STICK, config=start)
    assert config == start
    assert score == 0


def test_every_setting_of_the_grid_exists_and_others_are_refused():
    assert set(" ".join(GRID).split()) <= set(DecoderConfig.__dataclass_fields__)
    with pytest.raises(GraphposeError, match="'radios' is no setting"):
        coordinate_ascent(faint_fields(), lambda poses: 0.0, STICK, grid={"radios": (1.0,)})
    with pytest.raises(GraphposeError, match="at least one image"):
        coordinate_ascent([], lambda poses: 0.0, STICK)


@pytest.fixture(scope="module")
def faint():
    """The dataset, the network, a function that makes its loader."""
    dataset = DemoDataset(6, seed=2, size=160)
    network = Oracle(FieldSpec(COCO, 4), certainty=0.25)  # unsure of every person
    return dataset, network, lambda: network.watch(make_loader(dataset, EvalTransform(None), 4, shuffle=False))


def test_a_faint_network_gets_lower_thresholds_and_evaluation_confirms_the_score(faint):
    dataset, network, loader = faint
    fields = collect_fields(network, loader())
    assert [image.image_id for image in fields] == list(dataset.image_ids)
    choice = choose_thresholds(network, fields, dataset.ground_truth(), grid=SMALL_GRID)
    assert choice.before == 0
    assert choice.score > 0.8
    assert choice.config.keypoint_threshold < 0.25
    assert choice.config.limb_threshold < 0.25
    assert choice.gains[-1][1].score == choice.score
    assert choice.lines()[-1].startswith(f"0.0000 → {choice.score:.4f} on 6 images")
    found = evaluate(network, build_decoder(network.spec, choice.config), loader(), dataset.ground_truth())
    assert found.metrics["AP"] == pytest.approx(choice.score, abs=1e-9)


def test_a_category_of_another_id_is_tuned_and_evaluated_alike(faint):
    dataset, network, loader = faint
    truth = dataset.ground_truth()
    for record in truth["annotations"]:
        record["category_id"] = 7
    truth["categories"][0]["id"] = 7
    fields = collect_fields(network, loader())
    choice, expected = (choose_thresholds(network, fields, of, grid=GRID) for of in (truth, dataset.ground_truth()))
    assert choice == expected
    found = evaluate(network, build_decoder(network.spec, choice.config), loader(), truth)
    assert found.metrics["AP"] == pytest.approx(choice.score, abs=1e-9)
    assert {result["category_id"] for result in found.results} == {7}


def test_the_settings_are_written_before_anything_is_printed(trained, tmp_path, monkeypatch):
    def fail(*texts, **_):
        if "→" in str(texts):
            raise UnicodeEncodeError("cp1252", "→", 0, 1, "no such letter")

    monkeypatch.setattr("builtins.print", fail)
    with pytest.raises(UnicodeEncodeError):
        main(["tune", *trained, "--rounds", "1", "--out", str(tmp_path / "decoder.json")])
    assert DecoderConfig.read(tmp_path / "decoder.json")


def test_only_the_images_whose_fields_are_given_count(faint):
    dataset, network, loader = faint
    choice = choose_thresholds(network, collect_fields(network, loader())[:2], dataset.ground_truth(), grid=SMALL_GRID)
    assert choice.images == 2
    assert choice.score > 0.8


def test_a_metric_that_the_protocol_does_not_have_is_refused(faint):
    dataset, network, loader = faint
    with pytest.raises(GraphposeError, match="no metric 'PCK'; it has AP,"):
        choose_thresholds(
            network, collect_fields(network, loader()), dataset.ground_truth(), metric="PCK", grid=SMALL_GRID
        )


@pytest.fixture
def trained(tmp_path):
    """Arguments that name a checkpoint, an annotation file and its folder of two images."""
    torch.manual_seed(0)
    network = PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency="identity"))
    with torch.no_grad():  # fires everywhere, so that there are poses
        network.pif_head.conv.bias.view(17, 5, -1)[:, 0] += 8
        network.paf_head.conv.bias.view(19, 7, -1)[:, 0] += 8
    save_checkpoint(tmp_path / "checkpoint.pt", network, network.config, decoder={"min_score": 0.0, "max_poses": 5})
    dataset = DemoDataset(2, size=96)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(dataset.ground_truth()["images"]):
        cv2.imwrite(str(tmp_path / "images" / image["file_name"]), dataset[i].image[..., ::-1])
    (tmp_path / "truth.json").write_text(json.dumps(dataset.ground_truth()))
    return ["--checkpoint", str(tmp_path / "checkpoint.pt"), "--annotations", str(tmp_path / "truth.json"),
            "--images", str(tmp_path / "images"), "--long-edge", "96"]  # fmt: skip


def test_tune_writes_settings_that_evaluate_and_predict_read(trained, tmp_path, capsys):
    out = tmp_path / "decoder.json"
    assert main(["tune", *trained, "--out", str(out), "--limit", "1", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "on 1 images" in printed
    assert f"written to {out}" in printed
    assert DecoderConfig.read(out).max_poses == 5  # as the checkpoint has it

    dataclasses.replace(DecoderConfig.read(out), max_poses=3, peak_threshold=0.01).write(out)
    assert main(["evaluate", *trained, "--decoder", str(out), "--out", str(tmp_path / "results.json")]) == 0
    assert len(json.loads((tmp_path / "results.json").read_text())) == 6
    predict = ["predict", str(tmp_path / "images"), *trained[:2], "--long-edge", "96", "--no-drawings"]
    assert main([*predict, "--decoder", str(out), "--out", str(tmp_path / "o")]) == 0
    assert "3 persons" in capsys.readouterr().out


def test_the_command_line_names_a_wrong_decoder_file(trained, tmp_path, capsys):
    (tmp_path / "own.json").write_text('{"raduis": 2}')
    assert main(["evaluate", *trained, "--decoder", str(tmp_path / "own.json")]) == 2
    assert "unknown decoder setting 'raduis'" in capsys.readouterr().err
    assert main(["tune", *trained, "--limit", "0"]) == 2
    assert "--limit 0 must be at least 1" in capsys.readouterr().err
