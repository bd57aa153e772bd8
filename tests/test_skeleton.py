"""Skeletons: the built-in ones, mirror images, and any COCO-format category."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, CROWDPOSE, DEFAULT_SIGMA, MPII, SKELETONS, Skeleton, get_skeleton

BUILT_IN = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, MPII], ids=lambda s: s.name)


def test_the_built_in_skeletons_have_the_published_sizes() -> None:
    assert {name: (s.num_keypoints, s.num_limbs) for name, s in SKELETONS.items()} == {
        "coco": (17, 19),
        "crowdpose": (14, 15),
        "mpii": (16, 15),
    }


def test_coco_sigmas_are_those_of_pycocotools() -> None:
    assert COCO.sigmas == pytest.approx(Params("keypoints").kpt_oks_sigmas.tolist(), abs=1e-12)


@BUILT_IN
def test_the_flip_is_its_own_inverse_and_moves_exactly_the_sides(skeleton: Skeleton) -> None:
    for k, mirrored in enumerate(skeleton.flip):
        assert skeleton.flip[mirrored] == k
        name = skeleton.keypoints[k]
        assert (mirrored != k) == ("left" in name or "right" in name)
        expected = {"left": name.replace("left", "right"), "right": name.replace("right", "left")}
        assert skeleton.keypoints[mirrored] == expected.get(name.split("_")[0], name)


@BUILT_IN
def test_every_limb_has_a_mirror_image_whose_mirror_image_it_is(skeleton: Skeleton) -> None:
    for m, (mirrored, exchanged) in enumerate(skeleton.flip_limbs):
        assert skeleton.flip_limbs[mirrored] == (m, exchanged)
        a, b = (skeleton.flip[k] for k in skeleton.limbs[m])
        assert skeleton.limbs[mirrored] == ((b, a) if exchanged else (a, b))


@BUILT_IN
def test_limbs_connect_all_keypoints(skeleton: Skeleton) -> None:
    reached = {0}
    for _ in skeleton.limbs:
        reached |= {k for limb in skeleton.limbs if reached & set(limb) for k in limb}
    assert reached == set(range(skeleton.num_keypoints))


@BUILT_IN
def test_plain_values_bring_a_skeleton_back(skeleton: Skeleton) -> None:
    assert Skeleton.from_dict(skeleton.to_dict()) == skeleton


def test_a_category_with_known_names_is_the_built_in_skeleton() -> None:
    assert Skeleton.from_category({"name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}) is COCO
    # CrowdPose's own file repeats COCO's limbs, some of which point at keypoints that it does not have.
    assert Skeleton.from_category({"keypoints": list(CROWDPOSE.keypoints), "skeleton": [[16, 14]]}) is CROWDPOSE


def test_any_other_category_gives_its_own_skeleton() -> None:
    horse = {"name": "horse", "keypoints": ["nose", "L_ear", "R_ear"], "skeleton": [[2, 1], [1, 2], [1, 3]]}
    skeleton = Skeleton.from_category(horse)
    assert skeleton.limbs == ((0, 1), (0, 2))
    assert skeleton.flip == (0, 2, 1)
    assert skeleton.sigmas == (DEFAULT_SIGMA,) * 3
    assert Skeleton.from_category({**horse, "sigmas": [0.1, 0.2, 0.3]}).sigmas == (0.1, 0.2, 0.3)


@given(st.sampled_from(["left_x", "x_l", "l_x", "leftX", "L_x", "x_L", "Left x"]))
def test_common_namings_of_sides_are_understood(name: str) -> None:
    mirrored = {
        "left_x": "right_x",
        "x_l": "x_r",
        "l_x": "r_x",
        "leftX": "rightX",
        "L_x": "R_x",
        "x_L": "x_R",
        "Left x": "Right x",
    }[name]
    assert Skeleton("s", (name, "middle", mirrored), (), (0.1,) * 3).flip == (2, 1, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": ("a", "a", "c")}, "names must be given and differ"),
        ({"keypoints": ()}, "names must be given and differ"),
        ({"limbs": ((0, 3),)}, r"limb \(0, 3\) must join two of the keypoints 0..2"),
        ({"limbs": ((1, 1),)}, r"limb \(1, 1\) must join"),
        ({"limbs": ((0, 1), (1, 0))}, r"limb \(1, 0\) stands twice"),
        ({"sigmas": (0.1, 0.1)}, "3 positive sigmas are needed"),
        ({"sigmas": (0.1, 0.1, float("nan"))}, "3 positive sigmas are needed"),
        ({"scale_rule": "height"}, "scale_rule 'height' is not"),
    ],
)
def test_an_impossible_skeleton_is_refused(changes: dict, message: str) -> None:
    values = {"name": "s", "keypoints": ("a", "b", "c"), "limbs": ((0, 1),), "sigmas": (0.1, 0.1, 0.1)}
    with pytest.raises(GraphposeError, match=message):
        Skeleton(**{**values, **changes})


def test_unknown_names_are_answered_with_the_valid_ones() -> None:
    with pytest.raises(GraphposeError, match="unknown skeleton 'halpe'; choose one of coco, crowdpose, mpii"):
        get_skeleton("halpe")
    with pytest.raises(GraphposeError, match="has no keypoint 'tail'; it has nose"):
        COCO.index("tail")
    assert COCO.index("left_hip") == 11
    with pytest.raises(GraphposeError, match="category 'dog' has no 'keypoints'"):
        Skeleton.from_category({"name": "dog"})
