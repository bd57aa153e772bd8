"""Joining: fragments of one person come together, different persons stay apart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import Decoder
from graphpose.fields.decoding.growth import Fragments
from graphpose.fields.decoding.joining import join_fragments, join_probabilities, join_scores
from graphpose.fields.decoding.tables import decoder_tables, pair_tables
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.spec import FieldSpec
from graphpose.graphs.statistics import shipped_statistics
from graphpose.skeleton import COCO, CROWDPOSE, MPII

SIGMAS = np.array(COCO.sigmas)
TABLES = decoder_tables(COCO, DecoderConfig(), shipped_statistics(COCO))
FACE, BODY = np.arange(17) < 5, np.arange(17) >= 5


def mean_person(x, y, size):
    """(17, 2) a person of COCO's mean shape whose nose is at (x, y)."""
    return np.array([x, y]) + TABLES.pairs.mean[0] * size


def fragment(person, part, size):
    keypoints, scales = np.zeros((17, 3), np.float32), np.zeros(17, np.float32)
    keypoints[part, :2], keypoints[part, 2], scales[part] = person[part], 1, SIGMAS[part] * size
    return keypoints, scales


def together(*fragments):
    return Fragments(*(np.stack(arrays) for arrays in zip(*fragments, strict=True)))


def join(*fragments):
    return join_fragments(together(*fragments), TABLES)


def test_a_face_joins_its_body():
    person = mean_person(100, 100, 80)
    keypoints, scales = join(fragment(person, FACE, 80), fragment(person, BODY, 80))
    assert len(keypoints) == 1
    assert (keypoints[0, :, 2] == 1).all()
    np.testing.assert_allclose(keypoints[0, :, :2], person, atol=1e-4)
    np.testing.assert_allclose(scales[0], SIGMAS * 80, rtol=1e-6)


def test_three_pieces_become_one_person():
    person = mean_person(100, 100, 80)
    legs = np.arange(17) >= 13
    keypoints, _ = join(*(fragment(person, part, 80) for part in (FACE, BODY & ~legs, legs)))
    assert len(keypoints) == 1


def test_neighbours_get_their_own_faces():
    persons = [mean_person(100 + 60 * i, 100 + 5 * i, 80) for i in range(4)]
    fragments = [fragment(p, BODY, 80) for p in persons] + [fragment(p, FACE, 80) for p in persons[::-1]]
    keypoints, _ = join(*fragments)
    assert len(keypoints) == 4
    for found in keypoints:
        assert min(np.abs(found[:, :2] - p).max() for p in persons) < 1e-3


@pytest.mark.parametrize(
    "other",
    [
        fragment(mean_person(100, 400, 80), FACE, 80),  # too far
        fragment(mean_person(100, 100, 20), FACE, 20),  # too small
        fragment(mean_person(100, 100, 80), np.arange(17) < 6, 80),  # has a shoulder, too
    ],
    ids=["far", "small", "clash"],
)
def test_what_does_not_fit_stays_apart(other):
    keypoints, _ = join(fragment(mean_person(100, 100, 80), BODY, 80), other)
    assert len(keypoints) == 2


def test_a_face_between_two_equal_bodies_stays_alone():
    face = fragment(mean_person(100, 100, 80), FACE, 80)
    bodies = [fragment(mean_person(100 + side, 100, 80), BODY, 80) for side in (-10, 10)]
    keypoints, _ = join(face, *bodies)
    assert len(keypoints) == 3


def by_assignment(fragments, tables):
    """Joining as it is defined: all likely pairs of one assignment at a time, the likeliest first."""
    while True:
        probability = join_probabilities(join_scores(fragments, tables), tables.settings)
        pairs = zip(*linear_sum_assignment(probability, maximize=True), strict=True)
        pairs = sorted((pair for pair in pairs if probability[pair] > 0), key=lambda pair: -probability[pair])
        gone, touched = [], set()
        keypoints, scales = fragments.keypoints.copy(), fragments.scales.copy()
        for a, b in map(sorted, pairs):
            if not touched & {a, b}:
                touched |= {a, b}
                keypoints[a] += keypoints[b]
                scales[a] += scales[b]
                gone.append(b)
        if not gone:
            return fragments
        fragments = Fragments(np.delete(keypoints, gone, 0), np.delete(scales, gone, 0))


@pytest.mark.parametrize("min_probability", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(8))
def test_disputed_and_undisputed_partners_are_joined_as_by_assignment(seed, min_probability):
    rng = np.random.default_rng(seed)
    fragments = []
    for _ in range(6):
        person, size = mean_person(*rng.uniform(0, 160, 2), 80), 80 * np.exp(rng.normal(0, 0.1))
        person += rng.normal(0, 4, person.shape)
        fragments += [fragment(person, part, size) for part in (FACE, BODY)]
    config = DecoderConfig(min_join_probability=min_probability)
    tables = decoder_tables(COCO, config, shipped_statistics(COCO))
    found = join_fragments(together(*fragments), tables)
    expected = by_assignment(together(*fragments), tables)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_fragments_without_scale_stay_apart():
    person = mean_person(100, 100, 80)
    face, body = fragment(person, FACE, 80), fragment(person, BODY, 80)
    keypoints, _ = join((face[0], 0 * face[1]), body)
    assert len(keypoints) == 2


def test_the_decoder_joins_only_when_given_statistics():
    person = np.column_stack([mean_person(150, 100, 80), np.full(17, 2.0)])
    person[5:11] = 0  # without shoulders the face hangs on nothing
    spec = FieldSpec(COCO, 8)
    keypoints = torch.tensor(person, dtype=torch.float32)[None, None]
    pif, paf = perfect_fields(encode(keypoints, torch.tensor([[80.0]]), spec, (321, 321)))
    assert len(Decoder(spec)(pif[0], paf[0])) > 1
    assert len(Decoder(spec, statistics=shipped_statistics(COCO))(pif[0], paf[0])) == 1


def test_statistics_that_do_not_fit_are_refused():
    with pytest.raises(GraphposeError):
        pair_tables(shipped_statistics(COCO), CROWDPOSE, 0.02)
    with pytest.raises(GraphposeError, match="units of 'head'; joining needs 'sqrt_area'"):
        pair_tables(shipped_statistics(MPII), MPII, 0.02)


def parts(labelled):
    """Connected labelled keypoints, as boolean masks."""
    part = np.arange(17)
    for a, b in COCO.limbs * 17:
        if labelled[a] and labelled[b]:
            part[a] = part[b] = min(part[a], part[b])
    return [labelled & (part == p) for p in np.unique(part[labelled])]


def test_real_fragments_join_their_own_person_nine_times_in_ten():
    if "GRAPHPOSE_DATA" not in os.environ:
        pytest.skip("GRAPHPOSE_DATA is not set: no annotations")
    path = Path(os.environ["GRAPHPOSE_DATA"]) / "coco/annotations/person_keypoints_val2017_local.json"
    images: dict[int, list] = {}
    for annotation in json.loads(path.read_text())["annotations"]:
        if not annotation["iscrowd"] and annotation["num_keypoints"] > 0:
            images.setdefault(annotation["image_id"], []).append(annotation)
    rng = np.random.default_rng(0)
    right = wrong = possible = 0
    for persons in images.values():
        fragments, owners = [], []
        for number, annotation in enumerate(persons):
            person = np.array(annotation["keypoints"], float).reshape(17, 3)
            for part in parts(person[:, 2] > 0):
                size = annotation["area"] ** 0.5 * np.exp(rng.normal(0, 0.1))
                keypoints, scales = fragment(person[:, :2], part, size)
                keypoints[part, 2] = 1 + number  # carries the owner through the joining
                fragments.append((keypoints, scales))
                owners.append(number)
        possible += len(owners) - len(set(owners))
        joined, _ = join(*fragments)
        for pose in joined:
            mixed = set(pose[pose[:, 2] > 0, 2])
            wrong += len(mixed) - 1
        right += len(owners) - len(joined)
    right -= wrong
    assert possible > 30
    assert right / possible > 0.8
    assert wrong / (right + wrong) < 0.1
