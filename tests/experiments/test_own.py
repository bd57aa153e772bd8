"""Training on a data set of one's own: what is chosen by the data, what is refused at once, and a whole run."""

import dataclasses
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.configs import own as configuration
from experiments.configs.named import DEFAULTS
from experiments.configs.settings import build_settings
from experiments.running import own
from experiments.running.build import build_datasets
from graphpose.checkpoint import load_checkpoint, statistics_of
from graphpose.cli import main
from graphpose.data.annotations.table import Annotations, Images
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, Skeleton
from tests.data.annotations.test_damaged_files import damaged
from tests.experiments.in_process import import_run, launch
from tests.own_skeletons import KINDS, write_made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hand/, feet/ and kite/, twelve images each."""
    folder = tmp_path_factory.mktemp("made")
    for kind in KINDS:
        write_made(folder / kind, kind, 12)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with copies of the made data, which the test is in."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAPHPOSE_DATA", "/somewhere/else")
    return tmp_path


def files(kind: str, **others: Any) -> dict[str, Any]:
    return {"annotations": f"{kind}/annotations.json", "images": f"{kind}/images", "pretrained": False} | others


def edit(path: str, change: Any) -> None:
    content = json.loads(Path(path).read_text())
    change(content)
    Path(path).write_text(json.dumps(content))


def test_what_follows_from_the_data_is_chosen_and_said(here: Path) -> None:
    values, lines = own.own_configuration(files("hand"))
    assert lines[0] == (
        "hand/annotations.json: 12 images with 16 labelled persons; 2 of them, chosen by their names, are evaluated on "
        "(val_share=0.2)"
    )
    assert lines[1] == "skeleton hand: 21 keypoints, 20 limbs"
    assert values["backbone"] == configuration.FROM_SCRATCH["backbone"]
    assert values["image_size"] == values["long_edge"] == values["augment"]["long_edge"]
    assert values["image_size"] % 16 == 1
    assert (values["batch_size"], values["epochs"], values["evaluate_every"]) == (8, 300, 60)
    assert (values["cache"], values["data_root"]) == (True, "")
    train, val = build_datasets(build_settings(values).data, seed=0)
    assert (len(train), len(val)) == (10, 2)
    assert not set(train.image_ids) & set(val.image_ids)


@pytest.mark.parametrize("kind", ["hand", "feet"])
def test_fields_are_fine_whatever_those_of_the_shipped_network_are(here: Path, kind: str) -> None:
    values, lines = own.own_configuration({"annotations": f"{kind}/annotations.json", "images": f"{kind}/images"})
    assert (values["pretrained"], values["backbone"], values["upsample"]) == ("shipped", "resnet50", 4)
    assert any("those of pretrained=shipped, with whose weights it begins" in line for line in lines)


def test_what_the_command_line_sets_stays_and_the_rest_follows_it(here: Path) -> None:
    explicit = files("feet", image_size=97, epochs=3, augment={"flip": 0.25}, learning_rate=1e-5)
    values, lines = own.own_configuration(explicit)
    assert (values["image_size"], values["long_edge"], values["augment"]["long_edge"]) == (97, 97, 97)
    assert (values["epochs"], values["evaluate_every"], values["warmup_epochs"]) == (3, 1, 0.3)
    assert (values["augment"]["flip"], values["learning_rate"]) == (0.25, 1e-5)
    assert values["augment"]["rotation"] == configuration.CONFIG["augment"]["rotation"]
    assert not any(re.match(r"  .*\b(epochs=3|image_size=97|pretrained=|learning_rate=)", line) for line in lines)


FACTS = own.Facts(COCO, 1000, 640, 0.3, 0.05, 4, None, "cpu")


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, 321),  # 96 / 0.3, of which 320 = 20 · 16
        ({"limb_length": 0.03}, 385),  # 12 / 0.03 = 400, but for a CPU
        ({"limb_length": 0.03, "device": "cuda"}, 401),
        ({"limb_length": 0.01, "device": "cuda"}, 641),
        ({"person_side": 0.9}, 241),  # 12 / 0.05
        ({"person_side": 0.9, "limb_length": 0.0}, 129),  # 107 px would do
        ({"long_edge": 200, "person_side": 0.1}, 209),  # no larger than the images
        ({"long_edge": 90, "person_side": 0.1}, 129),
    ],
)
def test_images_are_as_large_as_persons_and_limbs_need(changes: dict[str, Any], size: int) -> None:
    (choice,) = own.choose_size(dataclasses.replace(FACTS, **changes), {}, {})
    assert choice.settings == {"image_size": size, "long_edge": size, "augment.long_edge": size}


def test_small_sets_are_seen_more_often_and_large_ones_less() -> None:
    found = []
    for images in (1, 5, 100, 1000, 5000):
        (_, choice) = own.choose_length(dataclasses.replace(FACTS, images=images), {}, {})
        found.append((choice.settings["epochs"], choice.settings["warmup_epochs"], choice.settings["ema_decay"]))
        assert choice.settings.keys() <= DEFAULTS.keys()
    assert found == [(300, 30.0, 0.967), (300, 30.0, 0.967), (80, 4.17, 0.99), (8, 0.4, 0.99), (8, 0.08, 0.998)]


def test_facts_are_those_of_the_labels() -> None:
    skeleton = Skeleton("stick", ("a", "b", "c"), ((0, 1), (1, 2)), (0.1,) * 3)
    keypoints = np.array([[[10, 10, 2], [40, 50, 2], [40, 60, 1]], [[0, 0, 2], [0, 0, 0], [0, 8, 2]]], float)
    table = Annotations(
        Path("x.json"), skeleton, Images(np.array([1, 2]), ["1", "2"], np.array([[50, 100], [80, 60]]),
        np.full(2, np.nan)), np.arange(2), np.array([0, 1]), keypoints, np.array([3, 2]), np.zeros((2, 4)),
        np.array([400.0, 256.0]), np.zeros(2, bool), np.full(2, np.nan), np.zeros(2, np.int64),
    )  # fmt: skip
    facts = own.facts_of(table, table, Path(), "cpu")
    assert (facts.images, facts.long_edge, facts.most_persons) == (2, 90, 1)
    # sides 50 of 100 px and sqrt(256) of 80 px; limbs (50 + 10) / 2 of 100 px, and none
    assert facts.person_side == pytest.approx(0.2 + 0.25 * 0.3)
    assert facts.limb_length == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": "hand/anotations.json"}, r"^annotations: 'hand/anotations\.json' does not exist; did you mean "
                                                  r"'hand/annotations\.json'\?$"),
        ({"images": "nowhere"}, r"^images: 'nowhere' does not exist; it was looked for from '.*' on$"),
        ({"images": "feet/images"}, r"^images: 'feet/images/hand_\d+\.png' does not exist, nor does any other "
                                    r"of the \d+ images that are trained on; name the folder"),
        ({"category": "foot"}, r"has no keypoint category 'foot'; it has 'hand' with id 1"),
        ({"annotations": "", "images": ""}, r"^own needs your data: run\.py with own annotations=FILE images=FOLDER"),
        ({"val_share": 0.0}, r"val_share=0\.0 must lie between 0 and 1"),
        ({"val_annotations": "val.json"}, r"^val_annotations: 'val\.json' does not exist"),
        ({"imgages": "hand/images"}, r"unknown configuration key 'imgages'; did you mean .*images"),
        ({"skeleton": {"flip_pairs": [["wrist", "elbow"]]}}, r"skeleton 'hand': skeleton\.flip_pairs has \['wrist', "
                                                             r"'elbow'\]; it must be a list of pairs"),
        ({"skeleton": {"flip_pairs": [["wrist", 2], [1, "thumb2"]]}}, r"'wrist' stands in two flip pairs"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_before_anything_is_made(here: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        own.own_configuration(files("hand") | change)
    assert not Path("runs").exists()


def keep(count: int) -> Any:
    def change(content: dict[str, Any]) -> None:
        content["images"] = content["images"][:count]
        ids = {image["id"] for image in content["images"]}
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids]

    return change


def few_keypoints(count: int) -> Any:
    """The first keypoints only, and no limbs."""

    def change(content: dict[str, Any]) -> None:
        category = content["categories"][0]
        category.update(keypoints=category["keypoints"][:count], skeleton=[], flip_pairs=[])
        for one in content["annotations"]:
            one.update(keypoints=one["keypoints"][: 3 * count], num_keypoints=sum(v > 0 for v in one["keypoints"][2:3 * count:3]))  # fmt: skip  # noqa: E501

    return change


def test_one_image_is_refused_and_two_are_enough(here: Path) -> None:
    edit("hand/annotations.json", keep(2))
    values, _ = own.own_configuration(files("hand"))
    assert [len(one) for one in build_datasets(build_settings(values).data, seed=0)] == [1, 1]
    edit("hand/annotations.json", keep(1))
    with pytest.raises(GraphposeError, match="cannot be divided: one image has labelled persons"):
        own.own_configuration(files("hand"))


def test_one_keypoint_is_refused_and_two_make_a_limb(here: Path) -> None:
    edit("kite/annotations.json", few_keypoints(2))
    _, lines = own.own_configuration(files("kite"))
    assert "  limbs: top–left_wing" in lines
    edit("kite/annotations.json", few_keypoints(1))
    with pytest.raises(GraphposeError, match="no person has two labelled keypoints of which one could be made"):
        own.own_configuration(files("kite"))


def test_without_flip_pairs_there_are_no_mirror_images_unless_they_are_given(here: Path) -> None:
    edit("hand/annotations.json", lambda content: content["categories"][0].pop("flip_pairs"))
    values, lines = own.own_configuration(files("hand"))
    assert (values["augment"]["flip"], values["test_flip"]) == (0.0, False)
    assert any("augment.flip=0.0 test_flip=False: no flip pairs are stated" in line for line in lines)
    for pairs in ([], [["thumb4", "pinky4"], [2, "pinky1"]]):
        values, lines = own.own_configuration(files("hand", skeleton={"flip_pairs": pairs}))
        settings = build_settings(values)
        assert values["augment"]["flip"] == 0.5
        train, val = build_datasets(settings.data, 0, settings.skeleton)
        assert train.skeleton == val.skeleton
        flip = train.skeleton.flip
        assert flip[4] == (20 if pairs else 4)
        assert flip[1] == (17 if pairs else 1)
    assert "  flip pairs: thumb1–pinky1, thumb4–pinky4 (stated)" in lines


def test_keypoints_that_are_never_labelled_together_get_another_graph(here: Path) -> None:
    def either(content: dict[str, Any]) -> None:
        for number, one in enumerate(content["annotations"]):
            one["keypoints"][:3] = [0, 0, 0] if number % 2 else one["keypoints"][:3]
            one["keypoints"][-3:] = one["keypoints"][-3:] if number % 2 else [0, 0, 0]
            one["num_keypoints"] = sum(v > 0 for v in one["keypoints"][2::3])

    edit("kite/annotations.json", either)
    values, lines = own.own_configuration(files("kite"))
    assert values["adjacency"] == "hand_crafted"
    assert any("adjacency=hand_crafted: top and tail_end are never labelled together" in line for line in lines)
    assert own.own_configuration(files("kite", adjacency="full"))[0]["adjacency"] == "full"


def test_a_second_file_is_evaluated_on(here: Path) -> None:
    shutil.copy("feet/annotations.json", "val.json")
    edit("val.json", keep(3))
    values, lines = own.own_configuration(files("feet", val_annotations="val.json"))
    assert "3 images of val.json are evaluated on" in lines[0]
    assert any("warning: 3 images are trained on and evaluated on" in line for line in lines)
    assert [len(one) for one in build_datasets(build_settings(values).data, seed=0)] == [12, 3]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_file_damaged_at_random_is_taken_or_refused_by_one_line(here: Path) -> None:
    for image_id in (1, 2):
        shutil.copy("hand/images/hand_0001.png", f"{image_id}.png")
    refusals = []
    for seed in range(60):
        Path("damaged.json").write_bytes(damaged(random.Random(seed)))
        try:
            own.own_configuration({"annotations": "damaged.json", "images": ".", "pretrained": False})
        except GraphposeError as error:
            refusals.append(str(error))
    assert 0 < len(refusals) < 60
    assert not any("\n" in message for message in refusals)


@pytest.mark.slow
def test_a_run_is_used_for_evaluation_and_to_begin_from_with_another_skeleton(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The network of a kite for a body; a checkpoint brings the statistics that its poses are joined with."""
    run = import_run(monkeypatch, here)
    tiny = ["backbone=test_resnet", "image_size=65", "contact_sheet_images=1", "seed=1"]
    given = [f"{key}={value}" for key, value in files("kite").items()]
    launch(run, "with", "own", *given, *tiny, "epochs=1")
    printed = capsys.readouterr().out
    assert "settings that follow from the data:" in printed
    assert "10 training and 2 evaluation images" in printed
    content = load_checkpoint(here / "runs/1")
    assert content["training"]["configuration"]["annotations"] == "kite/annotations.json"
    statistics = statistics_of(content)
    assert statistics is not None
    assert (statistics.skeleton_name, statistics.provenance["images"]) == ("kite", 10)
    images = ["--images", "kite/images"]
    figures = json.loads((here / "runs/1/evaluation.json").read_text())
    assert main(["evaluate", "--checkpoint", "runs/1", "--annotations", "runs/1/val_annotations.json", *images]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["AP", f"{figures['AP']:.4f}"]
    trained_on = json.loads((here / "runs/1/train_annotations.json").read_text())
    assert len(trained_on["images"]) == 10
    assert trained_on["categories"][0] | {"flip_pairs": []} == {
        "id": 3, "name": "kite", "supercategory": "person", "sigmas": [0.061] * 7, "flip_pairs": []
    } | {key: KINDS["kite"]().category[key] for key in ("keypoints", "skeleton")}  # fmt: skip
    main(["pack", "runs/1", "kite.safetensors"])
    assert statistics_of(load_checkpoint(here / "kite.safetensors")).to_dict() == statistics.to_dict()
    given = [f"{key}={value}" for key, value in files("feet", pretrained="kite.safetensors").items()]
    capsys.readouterr()
    launch(run, "with", "own", *given, *tiny[1:], "epochs=1")
    printed = capsys.readouterr().out
    assert "backbone=test_resnet" in printed
    assert "pretrained=kite.safetensors: the trunk, 0 of 26 keypoints and 0 of 25 limbs of skeleton 'kite'" in printed
    launch(run, "with", "resume=2")
    assert "settings that follow" not in capsys.readouterr().out
    assert json.loads((here / "runs/3/run.json").read_text())["status"] == "COMPLETED"
