"""Transforms: keypoints go where their pixels go, maps invert exactly, nothing is lost or invented on the way."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.data.colour import colour_matrix, jitter_colours
from graphpose.data.sample import Persons, Sample
from graphpose.data.transforms import (
    FILL,
    AugmentConfig,
    EvalTransform,
    TrainTransform,
    affine_scale,
    apply_affine,
    invert_affine,
    view_matrix,
    warp_persons,
    warp_sample,
)
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton

PLAIN = AugmentConfig(long_edge=None, scale=(1, 1), rotation=0, flip=0, colour=0, degrade=0)


def blob_sample(points: np.ndarray, height: int = 150, width: int = 200, sigma: float = 3.0) -> Sample:
    """Black image with a bright blob at every point, and one person whose keypoints are these points."""
    y, x = np.mgrid[:height, :width]
    bright = np.zeros((height, width))
    for px, py in points:
        bright = np.maximum(bright, np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)))
    keypoints = np.zeros((1, 17, 3), np.float32)
    keypoints[0, : len(points)] = np.concatenate([points, np.full((len(points), 1), 2)], axis=1)
    persons = Persons(
        keypoints,
        np.array([[20, 10, 80, 100]], np.float32),
        np.array([3000], np.float32),
        np.array([False]),
        np.array([1]),
    )
    image = np.repeat((255 * bright).round().astype(np.uint8)[:, :, None], 3, axis=2)
    return Sample(image, persons, np.zeros((height, width), bool), 1, "blob")


def brightest(image: np.ndarray, near: np.ndarray, radius: int) -> np.ndarray:
    """Centre of brightness around ``near``, x then y, to a fraction of a pixel."""
    x0, y0 = np.round(near).astype(int) - radius
    patch = image[y0 : y0 + 2 * radius + 1, x0 : x0 + 2 * radius + 1, 0].astype(float)
    patch[patch < 25] = 0
    y, x = np.mgrid[: patch.shape[0], : patch.shape[1]]
    return np.array([(patch * x).sum(), (patch * y).sum()]) / patch.sum() + (x0, y0)


matrices = st.builds(
    view_matrix,
    st.tuples(st.floats(-50, 700), st.floats(-50, 700)).map(np.array),
    st.floats(0.1, 4),
    st.floats(-math.pi, math.pi),
    st.booleans(),
    st.integers(1, 700),
)


@given(matrices, st.floats(-1000, 1000), st.floats(-1000, 1000))
def test_the_inverse_map_takes_every_point_back(matrix: np.ndarray, x: float, y: float) -> None:
    point = np.array([x, y])
    np.testing.assert_allclose(apply_affine(invert_affine(matrix), apply_affine(matrix, point)), point, atol=1e-8)


@given(st.floats(0.1, 4), st.floats(-math.pi, math.pi), st.booleans(), st.integers(1, 700))
def test_a_view_is_a_similarity_centred_on_what_it_looks_at(
    scale: float, angle: float, mirrored: bool, size: int
) -> None:
    centre = np.array([123.0, 45.0])
    matrix = view_matrix(centre, scale, angle, mirrored, size)
    np.testing.assert_allclose(apply_affine(matrix, centre), (size - 1) / 2)
    np.testing.assert_allclose(matrix[:, :2] @ matrix[:, :2].T, scale**2 * np.eye(2), atol=1e-9)
    assert np.linalg.det(matrix[:, :2]) < 0 if mirrored else np.linalg.det(matrix[:, :2]) > 0
    assert affine_scale(matrix) == pytest.approx(scale)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.2, 2.5), st.floats(-0.6, 0.6), st.booleans())
def test_keypoints_follow_their_pixels(scale: float, angle: float, mirrored: bool) -> None:
    point = np.array([97.3, 71.8])
    sample = blob_sample(point[None], sigma=max(3.0, 2 / scale))
    matrix = view_matrix(np.array([100.0, 75.0]), scale, angle, mirrored, 161)
    warped = warp_sample(sample, matrix, (161, 161))
    keypoint = warped.sample.persons.keypoints[0, 0, :2]
    found = brightest(warped.sample.image, keypoint, radius=min(40, round(4 * max(3 * scale, 2))))
    np.testing.assert_allclose(found, keypoint, atol=0.1)


@pytest.mark.parametrize("long_edge", [33, 50, 99, 100, 200, 321, 641])
def test_evaluation_keypoints_follow_their_pixels_at_every_size(long_edge: int) -> None:
    points = np.array([[60.5, 50.25], [140.0, 100.0]])
    sample = blob_sample(points, sigma=max(3.0, 2 * 200 / long_edge))
    warped = EvalTransform(long_edge)(sample)
    assert max(warped.sample.image.shape) == long_edge
    for keypoint in warped.sample.persons.keypoints[0, :2, :2]:
        found = brightest(warped.sample.image, keypoint, radius=max(5, round(12 * long_edge / 200)))
        np.testing.assert_allclose(found, keypoint, atol=0.1)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 700))
def test_evaluation_covers_the_image_exactly_and_inverts_exactly(height: int, width: int, long_edge: int) -> None:
    sample = Sample(
        np.zeros((height, width, 3), np.uint8), Persons.empty(17), np.zeros((height, width), bool), 1, "empty"
    )
    warped = EvalTransform(long_edge)(sample)
    h, w = warped.sample.image.shape[:2]
    assert max(h, w) == long_edge
    assert not warped.sample.ignore.any()
    edges = np.array([[-0.5, -0.5], [w - 0.5, h - 0.5]])
    np.testing.assert_allclose(
        apply_affine(warped.to_original, edges), [[-0.5, -0.5], [width - 0.5, height - 0.5]], atol=1e-9
    )


@pytest.mark.parametrize(("long_edge", "edge"), [(100, 100), (200, 200), (201, 200), (641, 200)])
def test_evaluation_that_does_not_enlarge_keeps_smaller_images_and_reduces_larger_ones(
    long_edge: int, edge: int
) -> None:
    sample = blob_sample(np.array([[20.0, 30.0]]), height=150, width=200)
    warped = EvalTransform(long_edge, enlarge=False)(sample)
    assert warped.sample.image.shape[:2] == (edge * 3 // 4, edge)
    if edge == 200:
        np.testing.assert_array_equal(warped.sample.image, sample.image)
        np.testing.assert_array_equal(warped.to_original, np.eye(2, 3))
    else:
        np.testing.assert_array_equal(warped.sample.image, EvalTransform(long_edge)(sample).sample.image)


def test_evaluation_in_a_square_that_does_not_enlarge_pads_to_the_square() -> None:
    sample = blob_sample(np.array([[20.0, 30.0]]), height=100, width=200)
    warped = EvalTransform(256, enlarge=False, square=True)(sample).sample
    assert warped.image.shape == (256, 256, 3)
    np.testing.assert_array_equal(warped.image[:100, :200], sample.image)
    np.testing.assert_array_equal(warped.ignore[:100, :200], False)
    assert warped.ignore[100:].all()
    assert warped.ignore[:, 200:].all()


def test_evaluation_at_the_original_size_changes_nothing() -> None:
    sample = blob_sample(np.array([[20.0, 30.0]]))
    warped = EvalTransform(None)(sample)
    np.testing.assert_array_equal(warped.sample.image, sample.image)
    np.testing.assert_array_equal(warped.sample.persons.keypoints, sample.persons.keypoints)
    np.testing.assert_array_equal(warped.to_original, np.eye(2, 3))
    assert warped.original_size == (150, 200)


def test_evaluation_in_a_square_pads_right_and_bottom_and_ignores_the_padding() -> None:
    sample = blob_sample(np.array([[20.0, 30.0]]), height=100, width=200)
    warped = EvalTransform(100, square=True)(sample).sample
    assert warped.image.shape == (100, 100, 3)
    np.testing.assert_array_equal(warped.ignore[:50], False)
    np.testing.assert_array_equal(warped.ignore[50:], True)
    assert (warped.image[52:] == FILL).all()
    assert not warped.image[:50].any() or warped.image[:49, :, 0].max() > 0


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, MPII], ids=lambda s: s.name)
def test_mirroring_twice_is_the_identity(skeleton) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    K = skeleton.num_keypoints
    keypoints = np.concatenate([rng.uniform(0, 99, (3, K, 2)), rng.integers(0, 3, (3, K, 1))], axis=2)
    keypoints[keypoints[:, :, 2] == 0] = 0
    persons = Persons(
        keypoints.astype(np.float32),
        np.tile(np.float32([10, 20, 30, 40]), (3, 1)),
        np.full(3, 50, np.float32),
        np.zeros(3, bool),
        np.arange(3),
    )
    image = rng.integers(0, 255, (100, 100, 3)).astype(np.uint8)
    sample = Sample(image, persons, rng.random((100, 100)) < 0.2, 1, "noise")
    mirror = view_matrix(np.array([49.5, 49.5]), 1, 0, True, 100)
    flip = np.array(skeleton.flip)
    once = warp_sample(sample, mirror, (100, 100), flip)
    np.testing.assert_array_equal(once.sample.image, image[:, ::-1])
    np.testing.assert_array_equal(once.sample.ignore, sample.ignore[:, ::-1])
    left = [k for k in range(K) if skeleton.flip[k] != k]
    assert left, "every built-in skeleton has sides"
    for k in range(K):
        np.testing.assert_array_equal(once.sample.persons.keypoints[:, k, 2], keypoints[:, skeleton.flip[k], 2])
    twice = warp_sample(once.sample, mirror, (100, 100), flip)
    np.testing.assert_array_equal(twice.sample.image, image)
    np.testing.assert_array_equal(twice.sample.ignore, sample.ignore)
    np.testing.assert_allclose(twice.sample.persons.keypoints, sample.persons.keypoints, atol=1e-4)
    np.testing.assert_allclose(twice.sample.persons.bbox, sample.persons.bbox, atol=1e-4)


def test_keypoints_outside_of_the_crop_lose_their_label_and_persons_without_any_left_go() -> None:
    keypoints = np.zeros((3, 17, 3), np.float32)
    keypoints[0, :2] = [[10, 10, 2], [90, 10, 1]]  # one inside, one outside
    keypoints[1, 0] = [80, 80, 2]  # outside
    keypoints[2, 0] = [5, 5, 2]  # inside, but a crowd
    persons = Persons(
        keypoints, np.ones((3, 4), np.float32), np.ones(3, np.float32), np.array([False, False, True]), np.arange(3)
    )
    left = warp_persons(persons, np.eye(2, 3), (50, 50))
    assert left.ids.tolist() == [0]
    assert left.keypoints[0, 0].tolist() == [10, 10, 2]
    assert left.keypoints[0, 1].tolist() == [0, 0, 0]


def test_area_and_box_scale_with_the_image_and_are_not_cut() -> None:
    sample = blob_sample(np.array([[20.0, 30.0]]))
    matrix = np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]])
    persons = warp_persons(sample.persons, matrix, (70, 70))
    assert persons.area[0] == pytest.approx(4 * 3000)
    np.testing.assert_allclose(persons.bbox[0], [40.5, 20.5, 160, 200])


def test_what_lies_outside_of_the_image_is_filled_and_ignored_and_nothing_else() -> None:
    sample = blob_sample(np.array([[100.0, 75.0]]))
    sample.image[:] = 200
    matrix = view_matrix(np.array([100.0, 75.0]), 0.5, 0.3, False, 161)
    warped = warp_sample(sample, matrix, (161, 161)).sample
    outside = (warped.image == FILL).all(axis=2)
    inside = (warped.image == 200).all(axis=2)
    assert inside.any()
    assert outside.any()
    assert (~inside & ~outside).mean() < 0.02  # the seam, where both mix
    assert warped.ignore[outside].mean() > 0.99
    assert not warped.ignore[inside].any()


def test_ignored_regions_follow_their_pixels() -> None:
    sample = blob_sample(np.array([[100.0, 75.0]]))
    sample.image[:] = 0
    sample.image[40:90, 60:120] = 255
    sample.ignore[40:90, 60:120] = True
    warped = warp_sample(sample, view_matrix(np.array([100.0, 75.0]), 1.3, 0.4, True, 81), (81, 81)).sample
    assert (warped.ignore != (warped.image[:, :, 0] > 127)).mean() < 0.02


def test_shrinking_averages_what_lies_between_the_samples() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::4] = 252
    sample = Sample(stripes, Persons.empty(17), np.zeros((400, 400), bool), 1, "stripes")
    shrunk = EvalTransform(100)(sample).sample.image
    assert abs(int(shrunk.min()) - 63) <= 1
    assert abs(int(shrunk.max()) - 63) <= 1


def test_training_views_are_square_and_repeat_with_the_same_generator() -> None:
    sample = blob_sample(np.array([[100.0, 75.0], [60.0, 40.0]]))
    transform = TrainTransform(97, COCO, AugmentConfig(long_edge=200, degrade=0.5))
    for seed in range(20):
        first, again = (transform(sample, np.random.default_rng(seed)) for _ in range(2))
        assert first.sample.image.shape == (97, 97, 3)
        assert first.sample.image.dtype == np.uint8
        assert first.sample.ignore.shape == (97, 97)
        np.testing.assert_array_equal(first.sample.image, again.sample.image)
        np.testing.assert_array_equal(first.to_original, again.to_original)


def test_training_leaves_the_original_sample_as_it_was() -> None:
    sample = blob_sample(np.array([[100.0, 75.0]]))
    image, keypoints = sample.image.copy(), sample.persons.keypoints.copy()
    TrainTransform(97, COCO)(sample, np.random.default_rng(0))
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.persons.keypoints, keypoints)


def test_training_keypoints_map_back_to_where_they_came_from_with_their_side_exchanged_by_a_flip() -> None:
    rng = np.random.default_rng(3)
    sample = blob_sample(rng.uniform((60, 40), (140, 110), (17, 2)))
    config = AugmentConfig(long_edge=None, scale=(0.8, 1.2), rotation=30)
    flips = 0
    for seed in range(30):
        warped = TrainTransform(200, COCO, config)(sample, np.random.default_rng(seed))
        mirrored = np.linalg.det(warped.to_original[:, :2]) < 0
        flips += mirrored
        source = sample.persons.keypoints[0, list(COCO.flip) if mirrored else slice(None)]
        keypoints = warped.sample.persons.keypoints[0]
        inside = keypoints[:, 2] > 0
        assert inside.any()
        back = apply_affine(warped.to_original, keypoints[inside, :2])
        np.testing.assert_allclose(back, source[inside, :2], atol=1e-3)
    assert 5 < flips < 25


def test_the_crop_shows_the_person_and_stays_inside_of_a_larger_image() -> None:
    points = np.array([[380.0, 20.0], [390.0, 40.0]])
    sample = blob_sample(points, height=300, width=400)
    for seed in range(30):
        warped = TrainTransform(100, COCO, PLAIN)(sample, np.random.default_rng(seed)).sample
        assert (warped.persons.keypoints[0, :2, 2] == 2).all()
        assert not warped.ignore.any()


def test_a_smaller_image_lies_whole_inside_of_the_crop() -> None:
    sample = blob_sample(np.array([[20.0, 20.0]]), height=60, width=80)
    for seed in range(20):
        warped = TrainTransform(100, COCO, PLAIN)(sample, np.random.default_rng(seed)).sample
        assert abs((~warped.ignore).sum() - 60 * 80) <= 150  # up to the rounding of the edge
        assert (warped.persons.keypoints[0, 0, 2]) == 2


def test_the_person_in_view_gets_a_size_whatever_the_image_had() -> None:
    config = AugmentConfig(long_edge=77, scale=(9, 9), person_size=(30, 90))
    for height in (75, 150, 1500):  # persons of 50, 100 and 1000 pixels
        factor = height / 150
        sample = blob_sample(factor * np.array([[60.0, 40.0], [160.0, 80.0]]), height=height, width=round(200 * factor))
        sample.persons.bbox *= factor
        sizes = []
        for seed in range(60):
            warped = TrainTransform(97, COCO, config)(sample, np.random.default_rng(seed))
            sizes.append(100 * factor / affine_scale(warped.to_original))
        assert 30 <= min(sizes) < 34
        assert 78 < max(sizes) <= 90 + 1e-9
        assert abs(np.median(np.log(sizes)) - np.log(30 * 90) / 2) < 0.2


def test_small_persons_and_lone_keypoints_are_enlarged_twofold_at_most() -> None:
    config = AugmentConfig(person_size=(90, 90))
    for points in (np.array([[50.0, 40.0], [60.0, 45.0]]), np.array([[50.0, 40.0]])):
        sample = blob_sample(points)
        sample.persons.bbox[:] = 0  # as where an annotation has none
        warped = TrainTransform(97, COCO, config)(sample, np.random.default_rng(0))
        assert 1 / affine_scale(warped.to_original) == pytest.approx(2)


def test_of_an_image_without_persons_the_long_edge_is_drawn() -> None:
    sample = blob_sample(np.array([[20.0, 20.0]]))
    sample.persons = Persons.empty(17)
    config = AugmentConfig(person_size=(50, 50))
    warped = TrainTransform(100, COCO, config)(sample, np.random.default_rng(0))
    assert 200 / affine_scale(warped.to_original) == pytest.approx(50)


def test_an_image_without_persons_is_cropped_too() -> None:
    sample = blob_sample(np.array([[20.0, 20.0]]))
    sample.persons = Persons.empty(17)
    warped = TrainTransform(100, COCO)(sample, np.random.default_rng(0)).sample
    assert warped.persons.keypoints.shape == (0, 17, 3)


def test_the_colour_matrix_of_no_change_is_the_identity() -> None:
    np.testing.assert_allclose(colour_matrix(1, 1, 1, 0, 120), np.eye(3, 4), atol=1e-12)


@given(st.floats(0, 2), st.floats(-1, 1), st.floats(0, 255))
def test_hue_and_saturation_leave_grey_alone(saturation: float, hue: float, grey: float) -> None:
    np.testing.assert_allclose(colour_matrix(1, 1, saturation, hue, 99) @ [grey, grey, grey, 1], grey, atol=1e-9)


def test_a_hue_turn_of_120_degrees_exchanges_the_primaries() -> None:
    turned = colour_matrix(1, 1, 1, 2 * math.pi / 3, 0) @ [1, 0, 0, 1]
    np.testing.assert_allclose(turned, [0, 1, 0], atol=1e-9)


def test_contrast_turns_around_the_mean_and_no_saturation_is_grey() -> None:
    np.testing.assert_allclose(colour_matrix(1, 1.5, 1, 0, 100) @ [100, 100, 100, 1], 100)
    np.testing.assert_allclose(colour_matrix(1, 1.5, 1, 0, 100) @ [110, 110, 110, 1], 115)
    grey = colour_matrix(1, 1, 0, 0, 100) @ [200, 30, 90, 1]
    np.testing.assert_allclose(grey, grey[0])


def test_colours_stay_as_they_are_at_strength_zero_and_moderate_at_one() -> None:
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8), (0, 0), 3)
    assert jitter_colours(image, 0, 0, np.random.default_rng(0)) is image
    changes = []
    for seed in range(50):
        changed = jitter_colours(image, 1, 0, np.random.default_rng(seed))
        changes.append(np.abs(changed.astype(float) - image).mean())
    assert 5 < np.mean(changes) < 60


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"scale": (2.0, 0.5)}, "augmentation scale"),
        ({"scale": (0.0, 1.0)}, "augmentation scale"),
        ({"rotation": -1}, "augmentation rotation -1"),
        ({"flip": 1.5}, "augmentation flip 1.5"),
        ({"colour": -0.1}, "augmentation colour"),
        ({"degrade": 2}, "augmentation degrade 2"),
        ({"long_edge": 0}, "augmentation long_edge 0"),
        ({"person_size": (90, 30)}, "augmentation person_size"),
        ({"person_size": (0, 30)}, "augmentation person_size"),
    ],
)
def test_impossible_augmentation_is_refused_by_key(setting: dict, message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        AugmentConfig(**setting)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(GraphposeError, match="crop size 0"):
        TrainTransform(0, COCO)
    with pytest.raises(GraphposeError, match="long_edge 0"):
        EvalTransform(0)
    with pytest.raises(GraphposeError, match="square"):
        EvalTransform(None, square=True)


def test_where_it_is_not_known_what_a_mirror_image_shows_there_are_none(caplog):
    names, limbs, sigmas = ("a", "b"), ((0, 1),), (0.1, 0.1)
    for pairs, flip in ((None, 0.0), ((), 0.5), (((0, 1),), 0.5)):
        assert TrainTransform(32, Skeleton("s", names, limbs, sigmas, flip_pairs=pairs)).config.flip == flip
    assert caplog.messages == [
        "no mirror images: skeleton 's' states no flip pairs and none are found in its names (a, b)"
    ]
