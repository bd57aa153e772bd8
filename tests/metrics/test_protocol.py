"""Whose rules score a data set, and that what they need is asked for before anything is computed."""

import copy
from typing import Any

import pytest

from graphpose.errors import GraphposeError
from graphpose.metrics.protocol import protocol_of, require_scorable
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton
from tests.metrics.test_coco import persons, truth_of

PAIR = Skeleton("pair", ("a", "b"), ((0, 1),), (0.1, 0.1))


def crowdpose(lacking: int | None = None) -> dict[str, Any]:
    truth = truth_of(persons(3, 14), CROWDPOSE)
    for n, image in enumerate(truth["images"]):
        image.update({} if n == lacking else {"crowdIndex": 0.5})
    return truth


def mpii(lacking: int | None = None) -> dict[str, Any]:
    truth = truth_of(persons(3, 16), MPII)
    for n, annotation in enumerate(truth["annotations"]):
        annotation.update({} if n == lacking else {"head_size": 20.0})
    return truth


def test_what_a_data_set_states_says_whose_rules_score_it() -> None:
    for truth, skeleton, protocol in (
        (truth_of(persons(2), COCO), COCO, "coco"),
        (truth_of(persons(2, 2), PAIR), PAIR, "coco"),
        (crowdpose(), CROWDPOSE, "crowdpose"),
        (truth_of(persons(2, 14), CROWDPOSE), CROWDPOSE, "coco"),
        (mpii(), MPII, "mpii"),
        (truth_of(persons(2, 16), MPII), MPII, "coco"),
    ):
        assert protocol_of(truth, skeleton) == require_scorable(truth, skeleton) == protocol


@pytest.mark.parametrize("lacking", [0, 2])
def test_one_record_that_lacks_what_the_others_state_changes_no_rules_and_is_named(lacking: int) -> None:
    with pytest.raises(GraphposeError, match=f"need a crowdIndex of every image; image {lacking + 1} has none .1 of 3"):
        require_scorable(crowdpose(lacking), CROWDPOSE)
    with pytest.raises(GraphposeError, match=f"head size of every person; annotation {lacking + 1} has none .1 of 3"):
        require_scorable(mpii(lacking), MPII)


@pytest.mark.parametrize(
    ("truth", "skeleton", "protocol", "message"),
    [
        (truth_of(persons(2), COCO), COCO, "mpii", "mpii's rules, which were asked for, are of MPII's own keypoints"),
        (truth_of(persons(2, 16), MPII), MPII, "mpii", "need a head size of every person; annotation 1 has none"),
        (truth_of(persons(2, 14), CROWDPOSE), CROWDPOSE, "crowdpose", "need a crowdIndex of every image; image 1"),
        (truth_of(persons(2), COCO), COCO, "halpe", "unknown protocol 'halpe'; choose coco, crowdpose or mpii"),
    ],
)
def test_rules_that_were_asked_for_need_their_own_keys(
    truth: dict[str, Any], skeleton: Skeleton, protocol: Any, message: str
) -> None:
    with pytest.raises(GraphposeError, match=message):
        require_scorable(truth, skeleton, protocol)


@pytest.mark.parametrize(
    "change", [{"num_keypoints": 0}, {"iscrowd": 1}, None], ids=["no labelled keypoints", "crowds", "no annotations"]
)
@pytest.mark.parametrize("made", [lambda: truth_of(persons(3), COCO), crowdpose])
def test_nobody_to_score_is_said(change: dict[str, Any] | None, made: Any) -> None:
    truth = copy.deepcopy(made())
    skeleton = COCO if "crowdIndex" not in truth["images"][0] else CROWDPOSE
    for annotation in truth["annotations"]:
        annotation |= change or {}
    if change is None:
        truth["annotations"] = []
    with pytest.raises(GraphposeError, match=r"nobody to score: none of . annotations in 3 images is a person"):
        require_scorable(truth, skeleton)


def test_persons_of_unknown_head_size_are_nobody_to_score_by_mpiis_rules() -> None:
    truth = mpii()
    for annotation in truth["annotations"]:
        annotation["head_size"] = None
    with pytest.raises(GraphposeError, match=r"nobody to score: .*a head size"):
        require_scorable(truth, MPII)
