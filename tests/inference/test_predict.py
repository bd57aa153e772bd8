"""Prediction on files, and the command line around it."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from graphpose.checkpoint import save_checkpoint
from graphpose.cli import main
from graphpose.data.annotations.table import coco_category
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.image import read_image
from graphpose.errors import GraphposeError
from graphpose.inference.predict import Predictor
from graphpose.inference.sources import IMAGE_SUFFIXES, find_sources
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import CROWDPOSE


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency="identity"))
    with torch.no_grad():  # fires everywhere, so that there are poses to write
        network.pif_head.conv.bias.view(17, 5, -1)[:, 0] += 8
        network.paf_head.conv.bias.view(19, 7, -1)[:, 0] += 8
    path = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    save_checkpoint(path, network, network.config, decoder={"min_score": 0.0, "peak_threshold": 0.01, "max_poses": 5})
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index, sample in enumerate(DemoDataset(2, size=96)[i] for i in range(2)):
        cv2.imwrite(str(folder / f"photo{index}.png"), sample.image[..., ::-1])
    return folder


def test_the_checkpoints_own_decoder_settings_are_used(checkpoint):
    assert Predictor.from_checkpoint(checkpoint).decoder.config.max_poses == 5


def test_poses_lie_in_the_image_and_are_the_same_every_time(checkpoint):
    predictor = Predictor.from_checkpoint(checkpoint, long_edge=0)
    image = DemoDataset(1, size=96)[0].image
    first, second = predictor(image), predictor(image)
    assert 0 < len(first) <= 5
    assert np.array_equal(first.keypoints, second.keypoints)
    found = first.keypoints[..., 2] > 0
    assert first.keypoints[found][:, :2].min() >= -0.5
    assert first.keypoints[found][:, :2].max() <= 95.5


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_an_array_that_is_no_image_is_refused(checkpoint, image):
    with pytest.raises(GraphposeError, match="uint8 array in RGB"):
        Predictor.from_checkpoint(checkpoint)(image)


def test_predict_writes_drawings_and_coco_results(checkpoint, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["predict", str(images), "--checkpoint", str(checkpoint), "--out", str(out), "--long-edge", "96"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "images.json", "photo0.png.poses.png", "photo1.png.poses.png", "results.json",
    ]  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    assert {len(result["keypoints"]) for result in results} == {51}
    assert {image["file_name"] for image in json.loads((out / "images.json").read_text())} == {
        "photo0.png",
        "photo1.png",
    }
    assert cv2.imread(str(out / "photo0.png.poses.png")) is not None
    assert "photo1.png: 5 persons" in capsys.readouterr().out


def test_an_unreadable_image_is_named_and_the_others_are_predicted(checkpoint, images, tmp_path, capsys):
    whole = (images / "photo0.png").read_bytes()
    (images / "photo0.png").write_bytes(whole[: len(whole) // 2])
    status = main(
        ["predict", str(images), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "o"), "--no-drawings"]
    )
    captured = capsys.readouterr()
    assert status == 1
    assert "photo0.png" in captured.err
    assert "photo1.png: 5 persons" in captured.out


def test_a_list_gives_what_its_images_give_alone_in_any_batches(checkpoint, images):
    predictor = Predictor.from_checkpoint(checkpoint, long_edge=0)
    wide = np.ascontiguousarray(DemoDataset(1, size=96)[0].image[:80])
    pictures = [wide, images / "photo0.png", str(images / "photo1.png"), wide]
    alone = [predictor(picture) for picture in pictures]
    for size in (1, 2, 3):
        together = predictor(pictures, batch_size=size)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.01)
    assert predictor([]) == []


def failing(graph, inputs):
    raise FileNotFoundError("no C++ compiler\nand a long story")


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_poses_and_one_line_where_there_is_no_compiler(
    checkpoint, images, monkeypatch, tmp_path, capsys
):
    plain = Predictor.from_checkpoint(checkpoint, long_edge=0)
    image, expected = plain.predict_file(images / "photo0.png")
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend="eager"))
    found = Predictor.from_checkpoint(checkpoint, long_edge=0, compile=True)(image)
    assert np.array_equal(found.keypoints, expected.keypoints)
    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend=failing))
    command = ["predict", str(images), f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}", "--compile"]
    assert main(command) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("graphpose: torch.compile has failed (")
    assert "no C++ compiler); it needs a C++ compiler such as g++" in line
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []


def test_a_list_names_the_file_or_the_image_that_is_none(checkpoint, tmp_path):
    predictor = Predictor.from_checkpoint(checkpoint)
    with pytest.raises(GraphposeError, match=r"nothing\.jpg does not exist"):
        predictor([tmp_path / "nothing.jpg"])
    with pytest.raises(GraphposeError, match="image 1 of the list must be"):
        predictor([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)])


def test_folders_give_every_kind_of_image_no_hidden_file_and_a_line_on_the_others(tmp_path):
    names = [f"a{suffix}" for suffix in IMAGE_SUFFIXES] + ["B.JPG", "c.jfif", "d.TIFF", "f.avif"]
    for name in [*names, ".hidden.jpg", "._a.jpg", "notes.md", "g.heic", "README"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    sources = find_sources([tmp_path])
    assert [source.name for source in sources.items] == sorted(names)
    assert ".heic" in "\n".join(sources.lines())
    [hidden] = find_sources([tmp_path / ".hidden.jpg"]).items  # named, it is taken
    assert hidden.name == ".hidden.jpg"


@pytest.mark.parametrize("suffix", [suffix for suffix in IMAGE_SUFFIXES if suffix not in (".pbm", ".pgm")])
def test_every_kind_of_image_can_be_read(tmp_path, suffix):
    data = cv2.imencode({".jfif": ".jpg"}.get(suffix, suffix), np.full((200, 300, 3), 255, np.uint8))[1]
    (tmp_path / f"a{suffix}").write_bytes(data.tobytes())
    assert read_image(tmp_path / f"a{suffix}").min() >= 250


def test_a_missing_checkpoint_is_one_line_and_status_2(images, capsys):
    assert main(["predict", str(images), "--checkpoint", "nowhere.pt"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "graphpose: checkpoint 'nowhere.pt' does not exist"


def test_info_tells_what_a_checkpoint_holds(checkpoint, capsys):
    assert main(["info", str(checkpoint)]) == 0
    out = capsys.readouterr().out
    assert "skeleton coco: 17 keypoints, 19 limbs" in out
    assert "adjacency: identity" in out


def test_evaluate_prints_the_ten_figures(checkpoint, images, tmp_path, capsys):
    truth = DemoDataset(2, size=96).ground_truth()
    for index, image in enumerate(truth["images"]):
        image["file_name"] = f"photo{index}.png"
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    arguments = ["--annotations", str(tmp_path / "truth.json"), "--images", str(images), "--long-edge", "0"]
    assert main(["evaluate", "--checkpoint", str(checkpoint), *arguments]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL",
    ]  # fmt: skip


@pytest.fixture
def truth(images, tmp_path):
    """The annotations of the two images, and a function that writes them and gives the arguments to evaluate them."""
    truth = DemoDataset(2, size=96).ground_truth()
    for index, image in enumerate(truth["images"]):
        image["file_name"] = f"photo{index}.png"

    def arguments(checkpoint):
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        return [
            "evaluate", "--checkpoint", str(checkpoint), "--annotations", str(tmp_path / "truth.json"), "--images",
            str(images), "--long-edge", "0",
        ]  # fmt: skip

    return truth, arguments


def test_a_size_that_nobody_has_is_a_dash(checkpoint, truth, capsys):
    _, arguments = truth
    assert main(arguments(checkpoint)) == 0
    assert "APL  –" in capsys.readouterr().out


def test_the_number_of_detections_that_count_can_be_set(checkpoint, truth, capsys):
    _, arguments = truth
    figures = []
    for count in ("1", "20"):
        assert main([*arguments(checkpoint), "--max-detections", count]) == 0
        figures.append(capsys.readouterr().out)
    assert main([*arguments(checkpoint), "--max-detections", "0"]) == 2
    assert "--max-detections 0 must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"num_keypoints": 0, "keypoints": [0] * 51}, {"iscrowd": 1}, None])
def test_nobody_to_score_is_said_before_the_work_and_no_figure_is_printed(checkpoint, truth, change, capsys):
    content, arguments = truth
    for annotation in content["annotations"]:
        annotation.update(change or {})
    if change is None:
        content["annotations"].clear()
    for command in ("evaluate", "tune"):
        words = [command, *arguments(checkpoint)[1:]]
        assert main(words) == 2
        captured = capsys.readouterr()
        assert "nobody to score" in captured.err
        assert "AP" not in captured.out


def test_a_test_set_without_annotations_gives_the_servers_file_and_no_figure(checkpoint, truth, tmp_path, capsys):
    content, arguments = truth
    content["annotations"].clear()
    assert main([*arguments(checkpoint), "--out", str(tmp_path / "results.json")]) == 0
    out = capsys.readouterr().out
    assert "nobody to score" in out
    assert "AP" not in out
    assert json.loads((tmp_path / "results.json").read_text())


def test_one_image_without_a_crowd_index_is_named_and_changes_no_rules(checkpoint, truth, capsys):
    content, arguments = truth
    content["categories"][0] = coco_category(CROWDPOSE)
    content["images"][0]["crowdIndex"] = 0.5
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][: 3 * 14]
    assert main(arguments(checkpoint)) == 2
    assert f"image {content['images'][1]['id']} has none" in capsys.readouterr().err


def test_evaluate_writes_what_the_server_takes_and_fuses_views(checkpoint, images, tmp_path, capsys):
    truth = DemoDataset(2, size=96).ground_truth()
    for index, image in enumerate(truth["images"]):
        image["file_name"] = f"photo{index}.png"
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    arguments = ["evaluate", "--checkpoint", str(checkpoint), "--annotations", str(tmp_path / "truth.json")]
    arguments += ["--images", str(images), "--long-edge", "0", "--dataset", "coco", "--evaluator", "fast"]
    arguments += ["--flip", "--scales", "1", "0.75", "--out"]
    assert main([*arguments, str(tmp_path / "results.json")]) == 0
    assert f"poses written to {tmp_path / 'results.json'}" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert {result["image_id"] for result in results} == {image["id"] for image in truth["images"]}
    assert main([*arguments, str(tmp_path / "pred.mat")]) == 2
    assert "a .mat is MPII's" in capsys.readouterr().err
    assert main([*arguments[:-2], "0", "--out", str(tmp_path / "results.json")]) == 2
    assert "test scales" in capsys.readouterr().err


def test_predict_fuses_views_where_asked_to(checkpoint):
    image = DemoDataset(1, size=96)[0].image
    alone = Predictor.from_checkpoint(checkpoint, long_edge=0)(image)
    fused = Predictor.from_checkpoint(checkpoint, long_edge=0, flip=True)(image)
    assert len(fused) > 0
    assert not np.array_equal(alone.keypoints, fused.keypoints)
    mirrored = Predictor.from_checkpoint(checkpoint, long_edge=0, flip=True)(np.ascontiguousarray(image[:, ::-1]))
    assert len(mirrored) > 0


def test_check_names_a_missing_image(images, tmp_path, capsys):
    truth = DemoDataset(2, size=96).ground_truth()
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    report = tmp_path / "report.json"
    assert main(["check", str(tmp_path / "truth.json"), "--images", str(images), "--report", str(report)]) == 1
    assert truth["images"][0]["file_name"] in capsys.readouterr().out
    assert json.loads(report.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("command", [[], ["predict"], ["evaluate"], ["check"], ["export"], ["info"], ["import"]])
def test_every_command_has_help(command):
    run = subprocess.run([sys.executable, "-m", "graphpose", *command, "--help"], capture_output=True, text=True)
    assert run.returncode == 0
    assert "usage: graphpose" in run.stdout
