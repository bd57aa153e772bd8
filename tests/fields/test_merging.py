"""Poses of several sizes of an image: merged by hand-made rules, and found again in the fields of each size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import Decoder
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.fusion import View
from graphpose.fields.merging import decode_image, decode_views, merge_poses
from graphpose.fields.pose import Poses
from graphpose.fields.spec import FieldSpec
from graphpose.skeleton import COCO, Skeleton

CHAIN = Skeleton("chain", ("a", "b", "c", "d"), ((0, 1), (1, 2), (2, 3)), (0.05,) * 4)
SPEC = FieldSpec(CHAIN, 4)


def poses(*persons: tuple[list[tuple[float, float, float]], float, float]) -> Poses:
    """Poses of (keypoints, score, sqrt(area)), best first."""
    keypoints = np.array([person[0] for person in persons], np.float32).reshape(-1, 4, 3)
    scales = np.array([np.full(4, 0.05 * person[2]) for person in persons]).reshape(-1, 4) * (keypoints[:, :, 2] > 0)
    return Poses(keypoints, np.array([p[1] for p in persons], np.float32), scales.astype(np.float32), CHAIN)


LINE = [(10.0, 10, 0.8), (30, 10, 0.7), (50, 10, 0.9), (70, 10, 0.6)]


def moved(keypoints: list[tuple[float, float, float]], dx: float) -> list[tuple[float, float, float]]:
    return [(x + dx, y, c) if c else (x, y, c) for x, y, c in keypoints]


def test_of_one_person_the_better_pose_stays_and_gets_what_it_lacks() -> None:
    better = [*LINE[:3], (0.0, 0, 0)]
    worse = moved([(0.0, 0, 0), *LINE[1:]], 3)
    merged = merge_poses([poses((worse, 0.4, 100)), poses((better, 0.6, 100))])
    np.testing.assert_array_equal(merged.keypoints, np.array([[*LINE[:3], (73, 10, 0.6)]], np.float32))
    np.testing.assert_array_equal(merged.scores, np.float32([0.6]))
    np.testing.assert_allclose(merged.scales, [[5, 5, 5, 5]])


def test_other_persons_stay_best_first_and_no_more_than_asked_for() -> None:
    far, farther = moved(LINE, 100), moved(LINE, 200)
    views = [poses((LINE, 0.9, 100), (far, 0.3, 100)), poses((farther, 0.5, 100)), poses()]
    merged = merge_poses(views)
    np.testing.assert_array_equal(merged.scores, np.float32([0.9, 0.5, 0.3]))
    np.testing.assert_array_equal(merged.keypoints, np.array([LINE, farther, far], np.float32))
    np.testing.assert_array_equal(merge_poses(views, max_poses=2).scores, np.float32([0.9, 0.5]))
    assert len(merge_poses([poses(), poses()])) == 0


@pytest.mark.parametrize(("distance", "persons"), [(13, 1), (14, 2)])
def test_two_persons_are_farther_apart_than_the_tolerance(distance: float, persons: int) -> None:
    # κ = 2 · 2 · 0.05 · 50 px = 10 px: exp(−13² / 200) = 0.43, exp(−14² / 200) = 0.375, and 0.4 is the limit
    assert len(merge_poses([poses((LINE, 0.9, 50)), poses((moved(LINE, distance), 0.5, 50))])) == persons


def test_poses_of_one_view_stay_apart_and_a_pose_of_another_goes_to_the_one_it_is_most_like() -> None:
    first, second = [*LINE[:3], (0.0, 0, 0)], moved([*LINE[:3], (0.0, 0, 0)], 8)
    merged = merge_poses([poses((first, 0.9, 50), (second, 0.5, 50)), poses((moved(LINE, 7), 0.4, 50))])
    np.testing.assert_array_equal(merged.scores, np.float32([0.9, 0.5]))
    np.testing.assert_array_equal(merged.keypoints[:, 3], np.float32([[0, 0, 0], [77, 10, 0.6]]))


def test_poses_without_a_known_size_are_one_person_only_in_one_place() -> None:
    unknown = [poses((LINE, 0.9, 0)), poses((LINE, 0.5, 0)), poses((moved(LINE, 1), 0.4, 0))]
    assert len(merge_poses(unknown)) == 2


def test_poses_without_a_keypoint_in_common_are_two() -> None:
    left, right = [*LINE[:2], (0.0, 0, 0), (0.0, 0, 0)], [(0.0, 0, 0), (0.0, 0, 0), *LINE[2:]]
    assert len(merge_poses([poses((left, 0.5, 100)), poses((right, 0.4, 100))])) == 2


def view(person: list[tuple[float, float, float]], area: float, size: tuple[int, int], factor: float) -> View:
    """Perfect fields of one person in an image of ``size`` whose pixels are ``factor`` of the input's."""
    keypoints = torch.tensor([[person]]) * torch.tensor([factor, factor, 1.0])
    keypoints[..., 2] = 2
    pif, paf = perfect_fields(encode(keypoints, torch.tensor([[area * factor]]), SPEC, size))
    return View(pif, paf, (factor, factor))


def test_persons_that_one_size_alone_shows_are_found_where_they_are() -> None:
    near, far = moved(LINE, 5), [(x, y + 100, c) for x, y, c in LINE]
    views = [view(near, 60, (161, 161), 1.0), view(far, 60, (81, 81), 0.5)]
    (found,) = decode_views(Decoder(SPEC), views, [(161, 161)])
    assert len(found) == 2
    for person in (near, far):
        expected = np.array(person)[:, :2]
        assert min(np.abs(one[:, :2] - expected).max() for one in found.keypoints) < 1e-3
    np.testing.assert_allclose(found.scales, 0.05 * 60, rtol=1e-4)  # in pixels of the input, whatever the size


def test_the_same_person_in_two_sizes_is_one() -> None:
    views = [view(LINE, 60, (161, 161), 1.0), view(LINE, 60, (81, 81), 0.5)]
    (found,) = decode_views(Decoder(SPEC), views, [(161, 161)])
    assert len(found) == 1


def test_places_outside_of_the_image_are_drawn_to_its_edge_in_every_size() -> None:
    outside = moved(LINE, 65)  # its last keypoint is at 135
    for views in (
        [view(outside, 60, (161, 161), 1.0)],
        [view(LINE, 60, (161, 161), 1.0), view(outside, 60, (81, 81), 0.5)],
    ):
        (found,) = decode_views(Decoder(SPEC), views, [(100, 130)])
        assert len(found) == len(views)
        assert found.keypoints[:, :, 0].max() == pytest.approx(129, abs=1)
        assert found.keypoints[:, :, 0].max() <= 129


def test_several_views_need_a_size_for_each_image() -> None:
    views = [view(LINE, 60, (161, 161), 1.0), view(LINE, 60, (81, 81), 0.5)]
    with pytest.raises(GraphposeError, match="2 image sizes for 1 images"):
        decode_views(Decoder(SPEC), views, [(161, 161)] * 2)
    with pytest.raises(GraphposeError, match="height and width are needed"):
        decode_image(Decoder(SPEC), [View(v.pif[0], v.paf[0], v.factors) for v in views])


def test_one_view_is_decoded_as_without_merging() -> None:
    rng = np.random.default_rng(3)
    keypoints = torch.from_numpy(np.concatenate([rng.uniform(10, 150, (2, 3, 17, 2)), np.full((2, 3, 17, 1), 2)], 3))
    spec = FieldSpec(COCO, 4)
    fields = perfect_fields(encode(keypoints.float(), torch.full((2, 3), 40.0), spec, (161, 161)))
    decoder, sizes = Decoder(spec, DecoderConfig(keypoint_threshold=0.1)), [(161, 161), (120, 161)]
    for expected, found in zip(
        decoder.decode_batch(*fields, image_sizes=sizes), decode_views(decoder, [View(*fields)], sizes), strict=True
    ):
        np.testing.assert_array_equal(expected.keypoints, found.keypoints)
    alone = decode_image(decoder, [View(fields[0][0], fields[1][0])])
    np.testing.assert_array_equal(alone.keypoints, decoder(fields[0][0], fields[1][0]).keypoints)
