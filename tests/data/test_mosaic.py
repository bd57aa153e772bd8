"""Crowds: keypoints stay on their pixels through every view, what is covered or not known has no target."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.data.config import AugmentConfig, CrowdConfig
from graphpose.data.loader import collate, make_loader
from graphpose.data.mosaic import CrowdTransform, View, compose, draw_tiles
from graphpose.data.sample import Persons, Sample
from graphpose.data.transforms import TrainTransform, Warped
from graphpose.errors import GraphposeError
from graphpose.fields.encode import encode
from graphpose.fields.spec import FieldSpec
from graphpose.skeleton import COCO, Skeleton

BODY = Skeleton("body", ("nose", "left_knee", "right_knee"), ((0, 1), (0, 2)), (0.05,) * 3)
PLAIN = AugmentConfig(long_edge=None, scale=(1, 1), rotation=0, flip=0, colour=0, degrade=0)
IDENTITY = np.eye(2, 3)


class Marked:
    """Images of 90 × 120 pixels of a value of their own, one person each whose three keypoints are the centres of
    bright squares: red the nose, green the left knee, blue the right."""

    skeleton = BODY
    POINTS = np.array([(60, 20), (40, 70), (80, 60)], np.float32)

    def __init__(self, length: int = 6, broken: tuple[int, ...] = ()) -> None:
        self.image_ids = list(range(length))
        self.broken = broken

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise GraphposeError(f"image marked{index} is truncated")
        image = np.full((90, 120, 3), 20 + 5 * index, np.uint8)
        for channel, (x, y) in enumerate(self.POINTS.astype(int)):
            image[y - 4 : y + 5, x - 4 : x + 5, channel] = 255
        keypoints = np.concatenate([self.POINTS, np.full((3, 1), 2, np.float32)], axis=1)[None]
        persons = Persons(
            keypoints, np.array([[30, 10, 60, 70]], np.float32), np.array([2000.0], np.float32), np.zeros(1, bool),
            np.array([index]),
        )  # fmt: skip
        known = None if index % 2 else np.array([[0, 1, 1]], np.float32)
        if known is not None:
            keypoints[:, 0] = 0
        return Sample(image, persons, np.zeros((90, 120), bool), index, f"marked{index}", known, source=f"s{index % 2}")

    def ground_truth(self) -> dict[str, Any]:
        return {"images": [], "annotations": [], "categories": []}


def crowd(mosaic: float = 1.0, paste: float = 0.0, augment: AugmentConfig | None = None, size: int = 128):
    augment = augment or AugmentConfig(long_edge=128, scale=(0.8, 1.6), rotation=20, flip=0, colour=0, degrade=0)
    return CrowdTransform(TrainTransform(size, BODY, augment), Marked(), CrowdConfig(mosaic, paste))


def assert_keypoints_lie_on_their_colours(warped: Warped) -> int:
    """Each labelled keypoint at whose pixel nothing is ignored has its own colour; returns how many were looked at."""
    image = warped.sample.image.astype(int)
    looked = 0
    for person in warped.sample.persons.keypoints:
        for channel, (x, y, visibility) in enumerate(person):
            row, column = round(float(y)), round(float(x))
            if visibility > 0 and not warped.sample.ignore[row, column]:
                others = [c for c in range(3) if c != channel]
                assert image[row, column, channel] > image[row, column, others].max() + 60
                looked += 1
    return looked


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]))
def test_keypoints_lie_on_their_pixels_in_every_composition(seed: int, shares: tuple[float, float]) -> None:
    warped = crowd(*shares)(Marked()[1], np.random.default_rng(seed))
    assert_keypoints_lie_on_their_colours(warped)
    assert (warped.sample.persons.keypoints[:, :, 2] > 0).any(axis=1).all()


def test_most_compositions_hold_several_persons() -> None:
    rng = np.random.default_rng(0)
    made = [crowd()(Marked()[1], rng) for _ in range(100)]
    assert sum(map(assert_keypoints_lie_on_their_colours, made)) > 300
    assert sum(len(warped.sample.persons) >= 2 for warped in made) > 80
    assert max(len(warped.sample.persons) for warped in made) == 4


@settings(max_examples=80, deadline=None)
@given(st.integers(24, 400), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_tiles_fill_the_square_once(size: int, side: int, seed: int) -> None:
    tiles = draw_tiles(size, np.random.default_rng(seed), side)
    columns, rows = (len({(tile[first], tile[first + 2]) for tile in tiles}) for first in (0, 1))
    assert len(tiles) == columns * rows
    assert max(columns, rows) in range(2, side + 1)
    assert abs(columns - rows) <= 1
    covered = np.zeros((size, size), int)
    for left, top, right, bottom in tiles:
        covered[top:bottom, left:right] += 1
        # both cuts of a tile may be off by 0.4 of an even tile
        assert 0.19 * size / columns - 1 <= right - left <= 1.81 * size / columns + 1
        assert 0.19 * size / rows - 1 <= bottom - top <= 1.81 * size / rows + 1
    assert (covered == 1).all()


def test_every_grid_of_a_side_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {len(draw_tiles(100, rng)) for _ in range(50)} == {2, 4}
    assert {len(draw_tiles(100, rng, 3)) for _ in range(100)} == {2, 4, 6, 9}


def test_a_tile_moves_keypoints_and_box_by_its_corner_and_cuts_what_lies_outside() -> None:
    dataset = Marked()
    shifted = IDENTITY.copy()
    shifted[:, 2] = 60, -10  # image pixel (0, 10) comes to lie at (60, 0)
    warped = compose(
        [View(dataset[1], IDENTITY, None, (0, 0, 60, 128)), View(dataset[3], shifted, None, (60, 0, 128, 128))], 128
    )
    first, second = warped.sample.persons.keypoints
    assert first.tolist() == [[0, 0, 0], [40, 70, 2], [0, 0, 0]]  # 60 and 80 lie in the other tile
    assert second.tolist() == [[120, 10, 2], [100, 60, 2], [0, 0, 0]]  # 140 lies outside of the input
    assert warped.sample.persons.bbox[1].tolist() == [90, 0, 60, 70]
    assert warped.sample.persons.ids.tolist() == [1, 3]
    assert (warped.sample.image_id, warped.sample.source, warped.original_size) == (1, "s1", (90, 120))
    # below row 89 of the first image, 79 of the second, nothing is known
    assert warped.sample.ignore[90:, :60].all()
    assert warped.sample.ignore[80:, 60:].all()
    assert not warped.sample.ignore[:80].any()
    assert warped.sample.known is warped.sample.regions is None


def test_each_view_keeps_its_own_ignore_mask() -> None:
    dataset = Marked()
    crowded = dataset[1]
    crowded.ignore[:, 50:70] = True
    views = [View(crowded, IDENTITY, None, (0, 0, 60, 90)), View(dataset[3], IDENTITY, None, (60, 0, 90, 90))]
    ignore = compose(views, 90).sample.ignore
    expected = np.zeros((90, 90), bool)
    expected[:, 50:60] = True
    np.testing.assert_array_equal(ignore, expected)


def test_what_a_pasted_person_covers_loses_its_label() -> None:
    dataset = Marked()
    half = np.array([[0.5, 0, 20.0], [0, 0.5, 40.0]])  # the box (30, 10, 60, 70) comes to lie at (35, 45, 30, 35)
    views = [View(dataset[1], IDENTITY, None, (0, 0, 90, 90)), View(dataset[3], half, None, (35, 45, 65, 80))]
    persons = compose(views, 90).sample.persons
    assert persons.keypoints[0].tolist() == [[60, 20, 2], [0, 0, 0], [80, 60, 2]]  # (40, 70) is covered
    assert persons.keypoints[1].tolist() == [[50, 50, 2], [40, 75, 2], [60, 70, 2]]
    assert persons.area.tolist() == [2000, 500]


def test_a_person_who_is_covered_altogether_is_gone() -> None:
    dataset = Marked()
    views = [View(dataset[i], IDENTITY, None, (0, 0, 90, 90)) for i in (1, 3)]
    assert compose(views, 90).sample.persons.ids.tolist() == [3]


def test_unknown_keypoints_stay_unknown_in_their_own_tile_alone() -> None:
    dataset = Marked()
    views = [View(dataset[1], IDENTITY, None, (0, 0, 96, 48)), View(dataset[2], IDENTITY, None, (0, 48, 96, 96))]
    warped = compose(views, 96)
    assert warped.sample.known is not None
    assert warped.sample.known.tolist() == [[1, 1, 1], [0, 1, 1]]
    batch = collate([warped, compose([View(dataset[3], IDENTITY, None, (0, 0, 96, 96))], 96)])
    targets = encode(batch.keypoints, batch.scales, FieldSpec(BODY, 8), (96, 96), None, batch.known, batch.regions)
    nose, knee = targets.pif[0, 0, 0], targets.pif[0, 1, 0]  # 12 × 12 cells, the tiles meet between rows 5 and 6
    assert nose[6:].isnan().all()
    assert not nose[:6].isnan().any()
    assert (nose == 1).any()
    assert not knee.isnan().any()
    assert targets.paf[0, :, 0, 6:].isnan().all()
    assert not targets.paf[0, :, 0, :6].isnan().any()
    assert not targets.pif[1, :, 0].isnan().any()


def test_a_teachers_labels_that_are_not_drawn_are_no_targets_in_their_tile() -> None:
    dataset = Marked()
    views = [View(dataset[1], IDENTITY, None, (0, 0, 96, 48)), View(dataset[3], IDENTITY, None, (0, 48, 96, 96))]
    warped = compose(views, 96)
    warped.sample.known = np.array([[0, 1, 1], [1, 1, 1]], np.float32)
    warped.sample.regions = np.repeat(np.arange(96)[:, None] >= 48, 96, axis=1).astype(np.uint8)
    batch = collate([warped])
    assert batch.keypoints[0, 0, 0].tolist() == [60, 20, 2]  # labelled, and unknown in this view
    targets = encode(batch.keypoints, batch.scales, FieldSpec(BODY, 8), (96, 96), None, batch.known, batch.regions)
    assert targets.pif[0, 0, :, :6].isnan().all()
    assert (targets.pif[0, 0, 0, 6:] == 0).all()


def test_a_mirrored_view_exchanges_labels_and_knowledge_of_left_and_right() -> None:
    sample = Marked()[1]
    sample.known = np.array([[1, 1, 0]], np.float32)
    mirror = np.array([[-1.0, 0, 119], [0, 1, 0]])
    warped = compose([View(sample, mirror, np.array(BODY.flip), (0, 0, 90, 90))], 90)
    assert warped.sample.persons.keypoints[0].tolist() == [[59, 20, 2], [39, 60, 2], [79, 70, 2]]
    assert warped.sample.known is not None
    assert warped.sample.known.tolist() == [[1, 0, 1]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pasted_boxes_are_as_large_as_asked_for_and_inside(seed: int) -> None:
    transform = CrowdTransform(TrainTransform(128, BODY, PLAIN), Marked(), CrowdConfig(0, 1, (0.25, 0.5)))
    view = transform._draw_pasted(Marked()[1], np.random.default_rng(seed))
    assert view is not None
    left, top, right, bottom = view.rectangle
    assert 0 <= left < right <= 128
    assert 0 <= top < bottom <= 128
    assert 31 <= max(right - left, bottom - top) <= 65
    # the person's box fills the rectangle to half a pixel
    corners = np.array([(30, 10), (90, 80)]) @ view.matrix[:, :2].T + view.matrix[:, 2]
    np.testing.assert_allclose(corners, [(left - 0.5, top - 0.5), (right - 0.5, bottom - 0.5)], atol=0.51)


def test_nobody_to_paste_leaves_the_image_alone() -> None:
    sample = Marked()[1]
    sample.persons = Persons.empty(3)
    assert crowd()._draw_pasted(sample, np.random.default_rng(0)) is None


def test_without_crowds_it_is_the_transform_itself_after_one_draw() -> None:
    rng, plain = np.random.default_rng(4), np.random.default_rng(4)
    plain.random(2)
    first, second = crowd(0, 0)(Marked()[1], rng), crowd().transform(Marked()[1], plain)
    np.testing.assert_array_equal(first.sample.image, second.sample.image)
    np.testing.assert_array_equal(first.to_original, second.to_original)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_bytes_for_every_number_of_workers_and_bad_partners_are_named(workers: int) -> None:
    def batches(workers: int) -> list[Any]:
        dataset = Marked(9, broken=(4,))
        transform = CrowdTransform(
            TrainTransform(64, BODY, AugmentConfig(long_edge=64)), dataset, CrowdConfig(0.5, 0.5)
        )
        return list(make_loader(dataset, transform, 3, shuffle=True, seed=3, workers=workers))

    alone, shared = batches(0), batches(workers)
    errors = [message for batch in alone for message in batch.errors]
    assert len(errors) >= 2  # its own place, and wherever it was drawn as a partner
    assert set(errors) == {"image marked4 is truncated"}
    for first, second in zip(alone, shared, strict=True):
        assert first.image_ids == second.image_ids
        assert first.errors == second.errors
        for name in ("images", "keypoints", "ignore", "known", "regions"):
            a, b = getattr(first, name), getattr(second, name)
            assert (a is None and b is None) or torch.equal(a, b), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mosaic": 1.5}, "mosaic 1.5"),
        ({"paste": -1}, "paste -1"),
        ({"paste_size": (0.5, 0.2)}, "paste_size"),
        ({"mosaic_side": 1}, "mosaic_side 1 must be at least 2"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        CrowdConfig(**values)


def test_photographs_of_coco_are_composed(data_root: Any) -> None:
    from graphpose.data.open import open_dataset

    annotations = data_root / "coco/annotations/person_keypoints_val2017_local.json"
    dataset = open_dataset(annotations, data_root / "coco/val2017", require_persons=True)
    transform = CrowdTransform(TrainTransform(161, COCO, AugmentConfig(long_edge=161)), dataset, CrowdConfig(1, 1))
    warped = transform(dataset[0], np.random.default_rng(1))
    assert warped.sample.image.shape == (161, 161, 3)
    labelled = warped.sample.persons.keypoints[warped.sample.persons.keypoints[:, :, 2] > 0]
    assert (labelled[:, :2] > -0.5).all()
    assert (labelled[:, :2] < 160.5).all()
