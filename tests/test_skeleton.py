"""Skeletons: the built-in ones, mirror images, and any COCO-format category."""

import pytest
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


def test_what_a_category_with_known_names_states_is_used() -> None:
    coco = {"name": "climber", "keypoints": list(COCO.keypoints)}
    own_limbs = Skeleton.from_category({**coco, "skeleton": [[1, 2], [17, 15]]})
    assert (own_limbs.limbs, own_limbs.sigmas, own_limbs.name) == (((0, 1), (14, 16)), COCO.sigmas, "climber")
    own_sigmas = Skeleton.from_category({**coco, "sigmas": [0.05] * 17})
    assert (own_sigmas.limbs, own_sigmas.sigmas) == (COCO.limbs, (0.05,) * 17)
    reversed_limbs = [[b + 1, a + 1] for a, b in reversed(COCO.limbs)]
    assert Skeleton.from_category({**coco, "skeleton": reversed_limbs, "sigmas": list(COCO.sigmas)}) is COCO
    pairs = [[b + 1, a + 1] for a, b in enumerate(COCO.flip) if a < b]
    assert Skeleton.from_category({**coco, "flip_pairs": pairs}) is COCO
    assert Skeleton.from_category({**coco, "flip_pairs": pairs[1:]}).flip[1:3] == (1, 2)
    mpii = Skeleton.from_category({"name": "m", "keypoints": list(MPII.keypoints), "skeleton": [[1, 2]]})
    assert (mpii.limbs, mpii.scale_rule) == (((0, 1),), "head")


def test_flip_pairs_of_the_category_come_before_the_names() -> None:
    square = {"name": "court", "keypoints": ["a", "b", "c", "left_d", "right_d"]}
    assert Skeleton.from_category(square).flip == (0, 1, 2, 4, 3)
    assert Skeleton.from_category({**square, "flip_pairs": [[1, 2], ["left_d", "c"]]}).flip == (1, 0, 3, 2, 4)
    nothing = Skeleton.from_category({**square, "flip_pairs": []})
    assert nothing.flip == (0, 1, 2, 3, 4)
    assert nothing.mirrors
    assert Skeleton.from_dict(nothing.to_dict()) == nothing
    assert not Skeleton("s", ("a", "b"), ((0, 1),), (0.1, 0.1)).mirrors
    old = {key: value for key, value in nothing.to_dict().items() if key != "flip_pairs"}  # as 0.1.0 wrote it
    assert Skeleton.from_dict(old).flip == (0, 1, 2, 4, 3)


def test_what_is_used_is_said_in_lines() -> None:
    assert COCO.lines() == ["skeleton coco: 17 keypoints, 19 limbs"]
    category = {"name": "box", "keypoints": ["l_a", "r_a", "c", "d"], "skeleton": [[1, 2], [3, 4]]}
    box = Skeleton.from_category(category)
    assert box.components == ((0, 1), (2, 3))
    assert box.lines() == [
        "skeleton box: 4 keypoints, 2 limbs in 2 parts (l_a, r_a; c, d)",
        "  limbs: l_a–r_a, c–d",
        "  flip pairs: l_a–r_a (found in the names)",
        "  sigmas: 0.061 each, the mean of COCO's, for none are stated",
    ]
    stated = Skeleton.from_category({**category, "flip_pairs": [[3, 4]], "sigmas": [0.1, 0.2, 0.3, 0.4]})
    assert stated.lines()[2:] == ["  flip pairs: c–d (stated)", "  sigmas: l_a 0.1, r_a 0.2, c 0.3, d 0.4"]
    assert Skeleton.from_category({**category, "flip_pairs": []}).lines()[2] == "  flip pairs: none (stated)"
    nothing = Skeleton("s", ("a", "b"), ((0, 1),), (0.1, 0.1))
    assert nothing.lines()[2] == "  flip pairs: none (none are stated or found in the names)"


def test_limbs_connect_components() -> None:
    assert [skeleton.components for skeleton in (COCO, MPII)] == [(tuple(range(17)),), (tuple(range(16)),)]
    chain = Skeleton("s", tuple("abcdef"), ((4, 5), (0, 5), (1, 3)), (0.1,) * 6)
    assert chain.components == ((0, 4, 5), (1, 3), (2,))


def test_limbs_may_be_given_by_name() -> None:
    box = {"name": "box", "keypoints": ["kp0", "kp1", "kp2"], "skeleton": [["kp0", "kp2"], ["kp1", 1]]}
    assert Skeleton.from_category(box).limbs == ((0, 2), (0, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skeleton": [[1, 2, 3]]}, r"its skeleton has \[1, 2, 3\]; it must be a list of pairs of two keypoints, as "
                                    r"numbers 1..4 \(they count from 1\) or names"),
        ({"skeleton": [1, 2, 2, 3]}, "its skeleton has 1; "),
        ({"skeleton": [[0, 1]]}, r"its skeleton has \[0, 1\]; .* count from 1"),
        ({"skeleton": [[1, 5]]}, r"its skeleton has \[1, 5\]; "),
        ({"skeleton": [[2, 2]]}, r"its skeleton has \[2, 2\]; "),
        ({"skeleton": [[2.5, 3.0]]}, r"its skeleton has \[2.5, 3.0\]; "),
        ({"skeleton": [[1.0, 2]]}, r"its skeleton has \[1.0, 2\]; "),
        ({"skeleton": [[True, 2]]}, r"its skeleton has \[True, 2\]; "),
        ({"skeleton": [["1", "2"]]}, r"its skeleton has \['1', '2'\]; "),
        ({"skeleton": [["a", "z"]]}, r"its skeleton has \['a', 'z'\]; "),
        ({"skeleton": [[1]]}, r"its skeleton has \[1\]; "),
        ({"skeleton": ["ab"]}, "its skeleton has 'ab'; "),
        ({"skeleton": [None]}, "its skeleton has None; "),
        ({"skeleton": {"a": "b"}}, "its skeleton is {'a': 'b'}; "),
        ({"skeleton": "a-b"}, "its skeleton is 'a-b'; "),
        ({"skeleton": 3}, "its skeleton is 3; "),
        ({"flip_pairs": [[1, 9]]}, r"its flip_pairs has \[1, 9\]; "),
        ({"flip_pairs": [[1, 2], [2, 3]]}, "keypoint .b. stands in two flip pairs"),
        ({"keypoints": ["a", "b", "a", "d"]}, "has the keypoint 'a' twice"),
        ({"keypoints": ["a", 2, "c", "d"]}, "a list of names is needed"),
        ({"keypoints": "abcd"}, "a list of names is needed"),
        ({"keypoints": {"a": 1}}, "a list of names is needed"),
        ({"keypoints": [["a"], ["b"]]}, "a list of names is needed"),
        ({"sigmas": [0.1] * 3}, r"has sigmas \[0.1, 0.1, 0.1\]; 4 positive numbers are needed"),
        ({"sigmas": ["0.1"] * 4}, "4 positive numbers are needed"),
        ({"sigmas": 0.1}, "4 positive numbers are needed"),
        ({"sigmas": [0.1, 0.1, 0.1, 0]}, "4 positive numbers are needed"),
        ({"sigmas": [0.1, 0.1, 0.1, float("nan")]}, "4 positive numbers are needed"),
    ],
)  # fmt: skip
def test_what_stands_in_a_category_is_named_as_it_stands_there(changes: dict, message: str) -> None:
    box = {"id": 3, "name": "box", "keypoints": ["a", "b", "c", "d"], **changes}
    with pytest.raises(GraphposeError, match=message):
        Skeleton.from_category(box)
    if "two flip pairs" not in message:
        with pytest.raises(GraphposeError, match=r"category 'box' \(id 3\)"):
            Skeleton.from_category(box)


def test_any_other_category_gives_its_own_skeleton() -> None:
    horse = {"name": "horse", "keypoints": ["nose", "L_ear", "R_ear"], "skeleton": [[2, 1], [1, 2], [1, 3]]}
    skeleton = Skeleton.from_category(horse)
    assert skeleton.limbs == ((0, 1), (0, 2))
    assert skeleton.flip == (0, 2, 1)
    assert skeleton.sigmas == (DEFAULT_SIGMA,) * 3
    assert Skeleton.from_category({**horse, "sigmas": [0.1, 0.2, 0.3]}).sigmas == (0.1, 0.2, 0.3)


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
    with pytest.raises(GraphposeError, match=r"category 'dog' \(id \?\) has no 'keypoints'"):
        Skeleton.from_category({"name": "dog"})
