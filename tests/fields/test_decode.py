"""The decoder: what was encoded comes back, and no field, however bad, harms it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import Decoder, build_decoder, in_threads
from graphpose.fields.decoding.grouping import group_fields
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.spec import FieldSpec
from graphpose.graphs.statistics import StatisticsAccumulator, shipped_statistics
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton

SPEC = FieldSpec(COCO, 8)
CHAIN = Skeleton("chain", ("a", "b", "c", "d"), ((0, 1), (1, 2), (2, 3)), (0.05,) * 4)
ISLANDS = Skeleton("islands", ("a", "b", "c", "d"), ((0, 1), (2, 3)), (0.05,) * 4)
POINTS = Skeleton("points", ("a", "b"), (), (0.05, 0.05))
laws = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def fields_of(keypoints, scales, spec, size):
    """Perfect fields (K, 5, h, w) and (M, 7, h, w) of one image's persons (P, K, 3) and (P,)."""
    keypoints, scales = torch.as_tensor(keypoints).float()[None], torch.as_tensor(scales).float()[None]
    pif, paf = perfect_fields(encode(keypoints, scales, spec, size))
    return pif[0].numpy(), paf[0].numpy()


def scene(skeleton, count, rng, size, spacing, smallest=30):
    """Persons of random shape whose keypoints of one type are at least two scales and ``spacing`` pixels apart,
    and whose scale is at least ``smallest`` pixels."""
    K = skeleton.num_keypoints
    persons, scales = [], []
    for _ in range(20 * count):
        if len(persons) == count:
            break
        scale = rng.uniform(smallest, 120)
        centre = rng.uniform(0.6 * scale, size - 1 - 0.6 * scale, 2) if size > 1.3 * scale else None
        if centre is None:
            continue
        xy = centre + rng.uniform(-0.5, 0.5, (K, 2)) * scale
        apart = [
            np.linalg.norm(xy - other[:, :2], axis=1) > 2 * max(scale, s) * max(skeleton.sigmas) + spacing
            for other, s in zip(persons, scales, strict=True)
        ]
        if all(a.all() for a in apart):
            persons.append(np.column_stack([xy, np.full(K, 2.0)]).astype(np.float32))
            scales.append(scale)
    return np.array(persons, np.float32).reshape(-1, K, 3), np.array(scales, np.float32)


def matches(poses, person, tolerance=1.0):
    """The largest number of labelled keypoints of ``person`` that one pose has within ``tolerance`` pixels."""
    labelled = person[:, 2] > 0
    distance = np.linalg.norm(poses.keypoints[:, :, :2] - person[None, :, :2], axis=2)
    return ((distance <= tolerance) & (poses.keypoints[:, :, 2] > 0) & labelled).sum(1).max(initial=0)


@pytest.mark.parametrize("skeleton", [COCO, MPII, CROWDPOSE, CHAIN], ids=lambda s: s.name)
@pytest.mark.parametrize("stride", [4, 8, 16])
@laws
@given(seed=st.integers(0, 10**6), count=st.integers(1, 8))
def test_encoded_persons_come_back_within_a_pixel(skeleton, stride, seed, count):
    rng = np.random.default_rng(seed)
    spec = FieldSpec(skeleton, stride)
    persons, scales = scene(skeleton, count, rng, 400, spacing=3 * stride, smallest=6 * stride)
    poses = Decoder(spec)(*fields_of(persons, scales, spec, (400, 400)), (400, 400))
    assert len(poses) == len(persons)
    for person in persons:
        assert matches(poses, person) == skeleton.num_keypoints


@st.composite
def skeletons(draw):
    """Trees of 3 to 9 keypoints, of any shape and with limbs in any direction."""
    K = draw(st.integers(3, 9))
    limbs = [draw(st.permutations((k, draw(st.integers(0, k - 1))))) for k in range(1, K)]
    sigma = draw(st.floats(0.03, 0.09))
    return Skeleton("tree", tuple(f"k{k}" for k in range(K)), tuple(map(tuple, limbs)), (sigma,) * K)


@laws
@given(
    skeleton=skeletons(), seed=st.integers(0, 10**6), count=st.integers(1, 4), stride=st.sampled_from([4, 8, 16]),
    size=st.tuples(st.integers(300, 420), st.integers(300, 420)),
)  # fmt: skip
def test_persons_of_any_skeleton_come_back_inside_an_image_of_any_size(skeleton, seed, count, stride, size):
    spec = FieldSpec(skeleton, stride)
    persons, scales = scene(skeleton, count, np.random.default_rng(seed), 300, spacing=3 * stride, smallest=6 * stride)
    poses = Decoder(spec)(*fields_of(persons, scales, spec, size), size)
    for person in persons:
        assert matches(poses, person) == skeleton.num_keypoints
    assert (poses.keypoints[:, :, :2] >= 0).all()
    assert (poses.keypoints[:, :, :2] <= np.array(size[::-1]) - 1).all()


@laws
@given(seed=st.integers(0, 10**6))
def test_connected_keypoints_of_partly_labelled_persons_come_back(seed):
    rng = np.random.default_rng(seed)
    persons, scales = scene(COCO, 4, rng, 400, spacing=24)
    chain = [5, 7, 9, 11, 13]  # shoulder, elbow, wrist, hip, knee: connected
    persons[:, [k for k in range(17) if k not in chain]] = 0
    persons[:, :, 2] *= rng.choice([0.5, 1.0], persons.shape[:2])  # hidden counts as visible does
    poses = Decoder(SPEC)(*fields_of(persons, scales, SPEC, (400, 400)))
    for person in persons:
        assert matches(poses, person) == len(chain)


def test_two_persons_keypoints_in_one_place_both_come_back():
    shift = np.array([2.0, 1.0], np.float32)
    left = np.array([(100, 100, 2), (60, 140, 2), (40, 200, 2), (30, 260, 2)], np.float32)
    right = left * np.array([-1, 1, 1]) + np.array([200, 0, 0], np.float32)  # meets the first at its first keypoint
    right[0, :2] = left[0, :2] + shift
    spec = FieldSpec(Skeleton("tree", ("a", "b", "c", "d"), ((0, 1), (0, 2), (2, 3)), (0.05,) * 4), 8)
    poses = Decoder(spec)(*fields_of(np.stack([left, right]), [100, 100], spec, (300, 300)))
    assert len(poses) == 2
    assert matches(poses, left) == matches(poses, right) == 4
    whole = Decoder(spec, DecoderConfig(max_copies=1, min_bridge_share=1.1))  # neither splits nor bridges
    poses = whole(*fields_of(np.stack([left, right]), [100, 100], spec, (300, 300)))
    assert matches(poses, left) + matches(poses, right) < 8


def test_unconnected_limbs_still_yield_poses_and_no_limbs_yield_keypoints():
    person = np.array([[(40, 40, 2), (80, 60, 2), (150, 150, 2), (180, 190, 2)]], np.float32)
    poses = Decoder(FieldSpec(ISLANDS, 8))(*fields_of(person, [100], FieldSpec(ISLANDS, 8), (240, 240)))
    assert sorted((p[:, 2] > 0).sum() for p in poses.keypoints) == [2, 2]
    poses = Decoder(FieldSpec(POINTS, 8))(*fields_of(person[:, :2], [100], FieldSpec(POINTS, 8), (240, 240)))
    assert [(p[:, 2] > 0).sum() for p in poses.keypoints] == [1, 1]


@laws
@given(seed=st.integers(0, 10**6))
def test_mirrored_and_shifted_fields_give_mirrored_and_shifted_poses(seed):
    rng = np.random.default_rng(seed)
    persons, scales = scene(COCO, 3, rng, 305, spacing=24)
    decoder = Decoder(SPEC)
    poses = decoder(*fields_of(persons, scales, SPEC, (321, 321)))
    mirrored = persons[:, list(COCO.flip)] * np.array([-1, 1, 1], np.float32) + np.array([320, 0, 0], np.float32)
    moved = persons + np.array([16, 8, 0], np.float32)
    for other, back in (
        (mirrored, lambda p: np.stack([320 - p[:, list(COCO.flip), 0], p[:, list(COCO.flip), 1]], 2)),
        (moved, lambda p: p[:, :, :2] - np.array([16, 8])),
    ):
        found = back(decoder(*fields_of(other, scales, SPEC, (321, 321))).keypoints)
        assert len(found) == len(poses)
        for pose in poses.keypoints:
            assert np.abs(found - pose[None, :, :2]).max((1, 2)).min() < 0.01


def bad_fields(kind, h=41, w=41):
    rng = np.random.default_rng(0)
    shapes = ((17, 5, h, w), (19, 7, h, w))
    wild = np.array([0, 1, -1, 1e30, np.nan, np.inf, -np.inf])
    make = {
        "zero": np.zeros,
        "one": np.ones,
        "nan": lambda s: np.full(s, np.nan),
        "infinite": lambda s: np.full(s, np.inf),
        "uniform": rng.random,
        "normal": lambda s: 5 * rng.standard_normal(s),
        "wild": lambda s: rng.choice(wild, s),
    }[kind]
    return tuple(make(shape).astype(np.float32) for shape in shapes)


@pytest.mark.parametrize("kind", ["zero", "one", "nan", "infinite", "uniform", "normal", "wild"])
@pytest.mark.parametrize("use_spread", [False, True])
def test_bad_fields_do_no_harm(kind, use_spread):
    decoder = Decoder(SPEC, DecoderConfig(use_spread=use_spread, max_poses=40), shipped_statistics(COCO))
    decoder(*bad_fields("uniform", 9, 9))  # compiles
    begin = time.thread_time()
    poses = decoder(*bad_fields(kind), (321, 321))
    assert time.thread_time() - begin < 2
    assert len(poses) <= 40
    assert np.isfinite(poses.keypoints).all()
    assert np.isfinite(poses.scales).all()
    assert (poses.keypoints[:, :, :2] >= 0).all()
    assert (poses.keypoints[:, :, :2] <= 320).all()
    assert (poses.scores > 0).all()
    assert (poses.scores <= 1).all()
    assert (np.diff(poses.scores) <= 0).all()
    missing = poses.keypoints[:, :, 2] == 0
    assert (poses.keypoints[missing] == 0).all()


def same(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


def test_every_run_order_and_thread_gives_the_same_poses():
    rng = np.random.default_rng(3)
    images = []
    for count in (1, 5, 9, 3):
        pif, paf = fields_of(*scene(COCO, count, rng, 321, spacing=4), SPEC, (321, 321))
        pif = pif + rng.normal(0, 0.1, pif.shape).astype(np.float32)
        images.append((pif, paf))
    decoder = Decoder(SPEC, statistics=shipped_statistics(COCO))
    one_by_one = [decoder(*image) for image in images]
    backwards = [decoder(*image) for image in images[::-1]][::-1]
    pif, paf = (torch.from_numpy(np.stack(field)) for field in zip(*images, strict=True))
    threads = decoder.decode_batch(pif, paf, workers=3)
    for a, b, c in zip(one_by_one, backwards, threads, strict=True):
        assert same(a, b)
        assert same(a, c)
    assert decoder.decode_batch(pif[:0], paf[:0]) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fields_on_a_gpu_decode_as_on_the_cpu():
    rng = np.random.default_rng(5)
    pif, paf = fields_of(*scene(COCO, 6, rng, 321, spacing=24), SPEC, (321, 321))
    pif, paf = torch.from_numpy(pif)[None], torch.from_numpy(paf)[None]
    decoder = Decoder(SPEC)
    (a,), (b,) = decoder.decode_batch(pif, paf), decoder.decode_batch(pif.cuda(), paf.cuda())
    assert same(a, b)


def test_the_spread_channel_leans_on_the_surer_cells():
    pif, paf = fields_of(np.array([[(84, 44, 2), (0, 0, 0)]]), [100], FieldSpec(POINTS, 8), (81, 161))
    pif[0, 1, 4] += 0.1  # one row of cells is off by 0.1 cells, and knows that it is unsure
    pif[0, 3, 4] = 3
    sure = Decoder(FieldSpec(POINTS, 8), DecoderConfig(use_spread=True))(pif, paf).keypoints[0, 0, 0]
    plain = Decoder(FieldSpec(POINTS, 8))(pif, paf).keypoints[0, 0, 0]
    assert abs(sure - 84) < abs(plain - 84) / 4


def test_a_few_stray_cells_of_a_keypoint_are_none_of_their_own_unless_all_are_kept():
    spec = FieldSpec(POINTS, 8)
    pif, paf = fields_of(np.array([[(84, 44, 2), (0, 0, 0)]]), [100], spec, (81, 161))
    pif[0, 1, 4:6, 9] += 1.2  # two of sixteen cells: out of a scale's reach (0.78 cells), within twice that
    assert len(Decoder(spec)(pif, paf)) == 1
    assert len(Decoder(spec, DecoderConfig(straggler_share=0))(pif, paf)) == 2
    assert len(Decoder(spec, DecoderConfig(straggler_reach=1))(pif, paf)) == 2


def test_a_whole_person_scores_above_a_fragment():
    person = np.array([[(40, 40, 2), (80, 60, 2), (150, 150, 2), (180, 190, 2)]], np.float32)
    spec = FieldSpec(CHAIN, 8)
    whole = Decoder(spec)(*fields_of(person, [100], spec, (240, 240)))
    person[0, 3] = 0
    part = Decoder(spec)(*fields_of(person, [100], spec, (240, 240)))
    assert whole.scores[0] == pytest.approx(1)
    assert part.scores[0] < whole.scores[0]


def test_fields_that_do_not_fit_are_refused_with_what_is_needed():
    decoder = Decoder(SPEC)
    with pytest.raises(GraphposeError, match=r"PIF of shape \(16, 5, 9, 9\).*\(17, 5, h, w\) is needed"):
        decoder(np.zeros((16, 5, 9, 9)), np.zeros((19, 7, 9, 9)))
    with pytest.raises(GraphposeError, match=r"\(19, 7, 9, 9\) is needed"):
        decoder(np.zeros((17, 5, 9, 9)), np.zeros((19, 7, 9, 8)))
    with pytest.raises(GraphposeError, match="PIF of 2 images and PAF of 1"):
        decoder.decode_batch(torch.zeros(2, 17, 5, 9, 9), torch.zeros(1, 19, 7, 9, 9))
    with pytest.raises(GraphposeError, match="1 image sizes for 2 images"):
        decoder.decode_batch(torch.zeros(2, 17, 5, 9, 9), torch.zeros(2, 19, 7, 9, 9), image_sizes=[(65, 65)])


@pytest.mark.slow
def test_importing_the_decoder_compiles_nothing():
    code = (
        "import numba.core.event as event\n"
        "listener = event.RecordingListener()\n"
        "event.register('numba:compile', listener)\n"
        "import graphpose.fields.decode, graphpose.inference.evaluate\n"
        "print(len(listener.buffer))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]


def test_whole_numbers_and_fractions_as_settings_share_one_compilation():
    fields = np.zeros((2, 5, 9, 9)), np.zeros((0, 7, 9, 9))
    Decoder(FieldSpec(POINTS, 8))(*fields)
    before = len(group_fields.signatures)
    Decoder(FieldSpec(POINTS, 8), DecoderConfig(radius=2, min_split_weight=100))(*fields)
    assert len(group_fields.signatures) == before


def test_an_error_in_any_thread_is_raised():
    def decode(index):
        if index == 5:
            raise GraphposeError("image 5")
        return index

    assert in_threads(lambda i: i, 5, 3) == [0, 1, 2, 3, 4]
    with pytest.raises(GraphposeError, match="image 5"):
        in_threads(decode, 9, 3)


def test_joining_needs_statistics_in_units_of_the_area():
    own = FieldSpec(Skeleton("fox", ("nose", "tail"), ((0, 1),), (0.1, 0.1)), 8)
    with pytest.raises(GraphposeError, match=r"join_fragments=True .* skeleton 'fox' has none; .* statistics=train"):
        build_decoder(own, DecoderConfig(join_fragments=True))
    assert build_decoder(own).statistics is None


def test_mpii_s_statistics_in_head_sizes_are_read_in_those_of_its_areas():
    joining = build_decoder(FieldSpec(MPII, 8), DecoderConfig(join_fragments=True)).statistics
    assert joining.scale_rule == "sqrt_area"
    np.testing.assert_allclose(joining.offset_mean, shipped_statistics(MPII).offset_mean / 3.6)


def two_parts(shift):
    """A skeleton of two limbs that nothing connects, and 200 persons of it: the second limb lies below the first."""
    skeleton = Skeleton("kite", ("a", "b", "c", "d"), ((0, 1), (2, 3)), (0.05,) * 4)
    rng = np.random.default_rng(0)
    xy = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) + rng.normal(0, 0.03, (200, 4, 2))
    accumulator = StatisticsAccumulator(skeleton)
    accumulator.update(np.concatenate([xy * 60, np.full((200, 4, 1), 2)], axis=2), np.full(200, 60.0))
    person = np.array([[[60, 60, 2], [120, 60, 2], [60, 120 + shift, 2], [120, 120 + shift, 2]]], np.float32)
    return FieldSpec(skeleton, 8), person, accumulator.result()


@pytest.mark.parametrize(("shift", "poses"), [(0, 1), (90, 2)])
def test_a_skeleton_in_two_parts_is_put_together_by_its_own_statistics(shift, poses):
    spec, person, statistics = two_parts(shift)
    fields = fields_of(person, np.full(1, 60.0), spec, (257, 257))
    assert len(build_decoder(spec)(*fields)) == 2
    assert len(build_decoder(spec, statistics=statistics)(*fields)) == poses
    assert len(build_decoder(spec, DecoderConfig(join_fragments=False), statistics)(*fields)) == 2


def test_fragments_are_joined_where_statistics_are_shipped_unless_refused():
    assert build_decoder(SPEC).statistics is not None
    assert build_decoder(FieldSpec(MPII, 8)).statistics is None
    assert build_decoder(SPEC, DecoderConfig(join_fragments=False)).statistics is None
