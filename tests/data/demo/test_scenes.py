"""The demo data set: bodies that could be people, pictures that show them, annotations that tell the truth."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.data.demo.body import Proportions, pose_body
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.demo.figure import dress
from graphpose.data.demo.outfit import Outfit
from graphpose.data.demo.palette import palette
from graphpose.data.demo.render import (
    OBJECT_LABEL,
    Placed,
    keypoint_visibility,
    paint_colours,
    paint_labels,
    person_mask,
    place,
    project,
)
from graphpose.data.demo.scene import Obstacle, Scene, compose, settle
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO
from tests.data.demo.bodies import SEEDS, angles_of

LIGHT = np.array((-0.6, -0.8))


def standing(x: float, y: float, yaw: float = 0.0, scale: float = 100.0, outfit: Outfit | None = None) -> Placed:
    angles = angles_of(left_shoulder_abduct=15, right_shoulder_abduct=15)
    body = pose_body(angles, Proportions(), yaw)
    return place(project(dress(body, outfit or Outfit())), scale, np.array((x, y)), LIGHT)


def visibility(scene: Scene, person: int) -> dict[str, int]:
    return dict(zip(COCO.keypoints, scene.keypoints[person, :, 2].astype(int).tolist(), strict=True))


def digest(dataset: DemoDataset, indices: list[int]) -> str:
    state = hashlib.sha256()
    for sample in map(dataset.__getitem__, indices):
        for array in (sample.image, sample.persons.keypoints, sample.persons.area, sample.persons.bbox):
            state.update(array.tobytes())
    return state.hexdigest()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [compose(np.random.default_rng(index), 160, 6) for index in range(120)]


# --- the body


def test_everything_but_the_back_is_visible_on_somebody_who_faces_the_camera():
    seen = visibility(settle(160, [standing(80, 80)], []), 0)
    assert set(seen.values()) == {2}


def test_the_face_is_unlabelled_on_somebody_who_looks_away():
    seen = visibility(settle(160, [standing(80, 80, yaw=180)], []), 0)
    assert [seen[name] for name in ("nose", "left_eye", "right_eye")] == [0, 0, 0]
    assert all(seen[name] == 2 for name in COCO.keypoints[3:])


def test_long_hair_hides_the_ears():
    seen = visibility(settle(160, [standing(80, 80, yaw=180, outfit=Outfit(hair="long"))], []), 0)
    assert seen["left_ear"] == seen["right_ear"] == 1


def test_the_trunk_hides_the_far_shoulder_of_somebody_seen_from_the_side():
    # Looks right, so that the left side is far; the near arm is raised to the front, where it hides no hip.
    body = pose_body(angles_of(right_shoulder_flex=80), Proportions(), 90)
    seen = visibility(settle(160, [place(project(dress(body, Outfit())), 100, np.array((80.0, 80.0)), LIGHT)], []), 0)
    assert seen["left_shoulder"] == seen["left_hip"] == 1
    assert seen["left_eye"] == seen["left_ear"] == 0  # on the far side of the head: unlabelled, as in COCO
    assert seen["right_shoulder"] == seen["right_hip"] == seen["right_eye"] == seen["right_ear"] == 2
    assert seen["nose"] == 2


def test_who_stands_before_somebody_hides_what_they_cover_and_nothing_else():
    behind, before = standing(70, 80), standing(88, 84, scale=104)
    labels = np.zeros((160, 160), np.uint8)
    paint_labels(labels, before, 0)
    covers = person_mask(labels, 0) > 0
    scene = settle(160, [behind, before], [])
    assert len(scene.persons) == 2
    cells = np.rint(behind.keypoints).astype(int)
    covered = covers[cells[:, 1], cells[:, 0]]
    assert 3 <= covered.sum() <= 10
    np.testing.assert_array_equal(scene.keypoints[0, :, 2], np.where(covered, 1, 2))
    assert (scene.keypoints[1, :, 2] == 2).all()


def test_an_obstacle_hides_the_keypoints_under_it():
    person = standing(80, 80)
    knees = person.keypoints[[13, 14]]
    rail = Obstacle(np.array((-5.0, knees[0, 1])), np.array((165.0, knees[1, 1])), radius=4.0)
    scene = settle(160, [person], [rail])
    seen = visibility(scene, 0)
    assert seen["left_knee"] == seen["right_knee"] == 1
    assert sum(value == 1 for value in seen.values()) == 2
    assert scene.areas[0] < settle(160, [person], []).areas[0]


def test_a_hand_before_the_chest_hides_nothing_but_what_is_under_it():
    angles = angles_of(left_shoulder_flex=30, left_shoulder_rotate=75, left_elbow=120, right_shoulder_abduct=15)
    person = place(project(dress(pose_body(angles, Proportions(), 0), Outfit())), 100, np.array((80.0, 80.0)), LIGHT)
    seen = visibility(settle(160, [person], []), 0)
    assert seen["left_wrist"] == seen["left_elbow"] == 2
    back = place(project(dress(pose_body(angles, Proportions(), 180), Outfit())), 100, np.array((80.0, 80.0)), LIGHT)
    assert visibility(settle(160, [back], []), 0)["left_wrist"] == 1  # the trunk is before it now


def test_keypoints_beyond_the_border_are_not_labelled():
    person = standing(80, 139)  # the legs are below the picture
    keypoints = settle(160, [person], []).keypoints[0]
    below = person.keypoints[:, 1] > 159
    assert below[13:].all()
    assert (keypoints[below] == 0).all()
    assert (keypoints[~below, 2] > 0).all()


def test_somebody_nearly_hidden_leaves_the_scene():
    scene = settle(160, [standing(80, 80), standing(81, 80, scale=110)], [])
    assert len(scene.persons) == 1
    assert scene.persons[0].scale == 110


# --- scenes


def test_labelled_keypoints_are_inside_and_the_others_are_zero(scenes: list[Scene]):
    for scene in scenes:
        xy, v = scene.keypoints[..., :2], scene.keypoints[..., 2]
        assert set(np.unique(v)) <= {0, 1, 2}
        assert (xy[v > 0] >= 0).all()
        assert (xy[v > 0] <= scene.size - 1).all()
        assert (xy[v == 0] == 0).all()


def test_area_and_box_are_those_of_the_pixels_that_show_the_person(scenes: list[Scene]):
    for scene in scenes:
        owner = np.where((scene.labels == 0) | (scene.labels == OBJECT_LABEL), -1, scene.labels.astype(int) // 16)
        for person in range(len(scene.persons)):
            rows, columns = np.nonzero(owner == person)
            assert scene.areas[person] == len(rows) > 0
            x, y, w, h = scene.boxes[person]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + w - 1, y + h - 1) == (columns.max(), rows.max())


def test_visible_keypoints_lie_on_the_person(scenes: list[Scene]):
    for scene in scenes:
        for person, keypoints in enumerate(scene.keypoints):
            visible = np.rint(keypoints[keypoints[:, 2] == 2, :2]).astype(int)
            assert (person_mask(scene.labels, person)[visible[:, 1], visible[:, 0]] == 255).all()


def test_nobody_among_others_is_nearly_hidden(scenes: list[Scene]):
    for scene in scenes:
        if len(scene.persons) > 1:
            assert ((scene.keypoints[..., 2] == 2).sum(axis=1) >= 6).all()


def test_scenes_have_one_to_six_persons_and_few_more_often_than_many():
    counts = Counter(len(compose(np.random.default_rng(i), 64, 6).persons) for i in range(400))
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    assert counts[1] > counts[2] > counts[3] > counts[5] + counts[6]


def test_scenes_hold_occlusion_truncation_and_every_side_of_the_body(scenes: list[Scene]):
    keypoints = np.concatenate([scene.keypoints for scene in scenes])
    visible = keypoints[..., 2]
    assert 0.6 < (visible == 2).mean() < 0.85
    assert 0.01 < (visible == 0).mean() < 0.12
    shoulders = (keypoints[:, 5, 0] - keypoints[:, 6, 0])[(visible[:, 5] > 0) & (visible[:, 6] > 0)]
    assert 0.4 < (shoulders > 3).mean() < 0.75  # seen from the front
    assert 0.15 < (shoulders < -3).mean() < 0.45  # seen from the back


# --- the picture


def test_the_picture_shows_the_figure_where_the_mask_says():
    rng = np.random.default_rng(3)
    person = standing(80, 80)
    image = np.full((160, 160, 3), 128, np.uint8)
    paint_colours(image, person, palette(rng, (128.0, 128.0, 128.0)))
    labels = np.zeros((160, 160), np.uint8)
    paint_labels(labels, person, 0)
    changed, mask = np.abs(image.astype(int) - 128).sum(axis=2) > 30, person_mask(labels, 0) > 0
    assert (changed & mask).sum() / (changed | mask).sum() > 0.93


def test_the_face_tells_front_from_back():
    images = []
    for yaw in (0, 180):
        image = np.full((160, 160, 3), 128, np.uint8)
        person = standing(80, 80, yaw=yaw, outfit=Outfit(front="print"))
        paint_colours(image, person, palette(np.random.default_rng(3), (128.0, 128.0, 128.0)))
        images.append(image)
    front, back = images
    assert (np.abs(front.astype(int) - back).sum(axis=2) > 60).sum() > 0.05 * (front != 128).any(axis=2).sum()


@given(st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_keypoints_move_with_the_figure_to_a_fraction_of_a_pixel(dx: float, dy: float):
    here, there = standing(80, 80), standing(80 + dx, 80 + dy)
    np.testing.assert_allclose(there.keypoints - here.keypoints, np.tile((dx, dy), (17, 1)), atol=1e-9)
    centre = []
    for person in (here, there):
        corners = np.concatenate([outline.reshape(-1, 2) for outline in person.outlines]) / 16
        centre.append((corners.min(axis=0) + corners.max(axis=0)) / 2)
    np.testing.assert_allclose(centre[1] - centre[0], (dx, dy), atol=0.1)


@given(SEEDS, st.tuples(*[st.floats(30, 220)] * 3))
@settings(max_examples=60, deadline=None)
def test_colours_are_valid_and_the_same_for_the_same_generator(seed: int, background: tuple[float, float, float]):
    first = palette(np.random.default_rng(seed), background)
    assert first.shape[1] == 3
    assert (first >= 8).all()
    assert (first <= 250).all()
    np.testing.assert_array_equal(first, palette(np.random.default_rng(seed), background))


def test_shirts_stand_off_from_the_background():
    rng = np.random.default_rng(0)
    background = np.array((120.0, 125.0, 110.0))
    distance = [np.abs(palette(rng, background.tolist())[2] - background).sum() for _ in range(200)]
    assert np.mean(np.array(distance) > 60) > 0.9


@pytest.mark.parametrize("size", [64, 100, 160, 321, 512])
def test_scenes_are_drawn_at_every_size(size: int):
    sample = DemoDataset(3, seed=5, size=size)[2]
    assert sample.image.shape == (size, size, 3)
    assert sample.image.dtype == np.uint8
    assert sample.image.std() > 10
    assert sample.ignore.shape == (size, size)
    assert not sample.ignore.any()
    assert len(sample.persons) >= 1


# --- the data set


def test_the_same_scene_comes_out_in_any_instance_and_any_order():
    indices = list(range(12))
    straight = digest(DemoDataset(12, seed=4), indices)
    other = DemoDataset(50, seed=4)
    for index in reversed(indices):
        other[index]
    assert digest(other, indices) == straight
    assert digest(pickle.loads(pickle.dumps(other)), indices) == straight


@pytest.mark.slow
def test_the_same_scene_comes_out_in_another_process():
    code = "from graphpose.data.demo.dataset import DemoDataset as D; import hashlib; s = D(9, seed=4)[7]; "
    code += "print(hashlib.sha256(s.image.tobytes() + s.persons.keypoints.tobytes()).hexdigest())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    sample = DemoDataset(9, seed=4)[7]
    assert hashlib.sha256(sample.image.tobytes() + sample.persons.keypoints.tobytes()).hexdigest() == there


def test_seeds_and_indices_give_different_scenes():
    images = [DemoDataset(4, seed=seed)[index].image.tobytes() for seed in range(3) for index in range(4)]
    assert len(set(images)) == len(images)


def test_samples_keep_the_contract_of_persons():
    dataset = DemoDataset(20, seed=1)
    for index in range(len(dataset)):
        sample = dataset[index]
        persons = sample.persons
        P = len(persons)
        assert sample.image_id == dataset.image_ids[index] == index + 1
        assert persons.keypoints.shape == (P, 17, 3)
        assert (persons.keypoints.dtype, persons.bbox.dtype, persons.area.dtype) == (np.float32,) * 3
        assert persons.bbox.shape == (P, 4)
        assert persons.area.shape == persons.iscrowd.shape == persons.ids.shape == (P,)
        assert not persons.iscrowd.any()


@pytest.mark.parametrize("seen_before", [False, True])
def test_ground_truth_agrees_with_the_samples(seen_before: bool):
    dataset = DemoDataset(15, seed=2)
    if seen_before:
        for index in range(0, 15, 2):
            dataset[index]
    truth = dataset.ground_truth()
    assert [image["id"] for image in truth["images"]] == dataset.image_ids
    by_image: dict[int, list[dict]] = {}
    for annotation in truth["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    fresh = DemoDataset(15, seed=2)
    for index in range(15):
        sample, annotations = fresh[index], by_image[index + 1]
        persons = sample.persons
        np.testing.assert_array_equal([a["keypoints"] for a in annotations], persons.keypoints.reshape(-1, 51))
        np.testing.assert_array_equal([a["bbox"] for a in annotations], persons.bbox)
        np.testing.assert_array_equal([a["area"] for a in annotations], persons.area)
        np.testing.assert_array_equal([a["id"] for a in annotations], persons.ids)
        assert [a["num_keypoints"] for a in annotations] == (persons.keypoints[:, :, 2] > 0).sum(axis=1).tolist()
    ids = [annotation["id"] for annotation in truth["annotations"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0


def test_the_ground_truth_as_detections_scores_full_marks_in_pycocotools():
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = DemoDataset(10, seed=6).ground_truth()
        truth.createIndex()
        results = [
            {key: a[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 0.9}
            for a in truth.dataset["annotations"]
        ]
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_a_negative_index_counts_from_the_end_and_beyond_is_an_index_error():
    dataset = DemoDataset(3)
    assert dataset[-1].image_id == 3
    assert dataset[-1].image.tobytes() == dataset[2].image.tobytes()
    for index in (3, -4):
        with pytest.raises(IndexError, match="3 scenes"):
            dataset[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length is 0"),
        ({"length": 5, "size": 63}, "size is 63"),
        ({"length": 5, "size": 5000}, "size is 5000"),
        ({"length": 5, "max_persons": 0}, "max_persons is 0"),
        ({"length": 5, "max_persons": 16}, "max_persons is 16"),
        ({"length": 5, "seed": -1}, "seed is -1"),
        ({"length": 5, "seed": 2**32}, "seed is 4294967296"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict, message: str):
    with pytest.raises(GraphposeError, match=message):
        DemoDataset(**arguments)


def test_max_persons_bounds_the_scene():
    assert all(len(DemoDataset(20, seed=8, max_persons=1)[i].persons) == 1 for i in range(20))
    assert max(len(DemoDataset(60, seed=8, size=64, max_persons=10)[i].persons) for i in range(60)) <= 10


def test_a_scene_is_rendered_faster_than_a_network_can_use_it():
    dataset = DemoDataset(41, seed=3)
    dataset[40]  # the grain is made once
    seconds = []
    for index in range(40):
        start = time.process_time()
        dataset[index]
        seconds.append(time.process_time() - start)
    assert np.median(seconds) < 0.03  # about 0.003 on an idle core; the margin is for a busy machine


def test_keypoint_visibility_does_not_take_another_persons_limb_for_its_own():
    labels = np.zeros((160, 160), np.uint8)
    person = standing(80, 80)
    paint_labels(labels, person, 1)
    assert (keypoint_visibility(labels, person, 1)[:, 2] == 2).all()
    assert (keypoint_visibility(labels, person, 0)[:, 2] == 1).all()
