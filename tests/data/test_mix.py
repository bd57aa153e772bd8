"""Mixes of data sets: what each set knows, what is ignored, who is seen how often."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from graphpose.cli import main
from graphpose.data.cache import CachedDataset
from graphpose.data.config import AugmentConfig, CrowdConfig, TrainSetConfig
from graphpose.data.loader import make_loader
from graphpose.data.matched import MatchedDataset, PseudoLabels
from graphpose.data.mix import MixedDataset, open_mix
from graphpose.data.mosaic import CrowdTransform
from graphpose.data.sample import Persons, Sample
from graphpose.data.transforms import EvalTransform, TrainTransform
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, Skeleton

LSP = Skeleton("lsp", ("R_Knee", "L_Knee", "head_top"), ((0, 1),), (0.05,) * 3)
LEGS = Skeleton("legs", ("nose", "left_knee", "right_knee"), ((0, 1), (1, 2)), (0.05,) * 3)


class Constant:
    """Images of 20 × 40 pixels of one value, each with persons at stated boxes; keypoint k of person p lies at
    (x + k, y + p)."""

    def __init__(
        self, skeleton: Skeleton, length: int = 1, first_id: int = 1, boxes: Any = ((4, 5, 10, 8),), crowd: bool = False
    ) -> None:
        self.skeleton, self.boxes, self.crowd = skeleton, np.array(boxes, np.float32), crowd
        self.image_ids = list(range(first_id, first_id + length))

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        P, K = len(self.boxes), self.skeleton.num_keypoints
        keypoints = np.full((P, K, 3), 2, np.float32)
        keypoints[:, :, 0] = self.boxes[:, :1] + np.arange(K)
        keypoints[:, :, 1] = self.boxes[:, 1:2] + np.arange(P)[:, None]
        iscrowd = np.zeros(P, bool)
        iscrowd[-1:] = self.crowd
        persons = Persons(keypoints, self.boxes.copy(), np.full(P, 30, np.float32), iscrowd, np.arange(P))
        image = np.full((20, 40, 3), 7, np.uint8)
        return Sample(image, persons, np.zeros((20, 40), bool), self.image_ids[index], f"{self.image_ids[index]}.png")

    def ground_truth(self) -> dict[str, Any]:
        return {"images": [{"id": image_id} for image_id in self.image_ids], "annotations": [], "categories": []}


def pseudo_file(folder: Path, **content: Any) -> Path:
    path = folder / "teacher.json"
    path.write_text(json.dumps({"order": ["nose"], "labels": {"1": [[9.5, 6.5, 0.7]], "2": [None]}} | content))
    return path


def test_keypoints_are_reordered_by_name_and_the_rest_is_unknown() -> None:
    sample = MatchedDataset(Constant(LSP), LEGS, name="lsp")[0]
    assert sample.persons.keypoints[0].tolist() == [[0, 0, 0], [5, 5, 2], [4, 5, 2]]
    assert sample.known is not None
    assert sample.known.tolist() == [[0, 1, 1]]
    assert sample.source == "lsp"
    assert not sample.ignore.any()


def test_a_set_that_labels_everything_says_nothing_about_what_is_known() -> None:
    assert MatchedDataset(Constant(COCO), LEGS)[0].known is None


def test_what_a_set_never_labels_may_be_taken_for_background() -> None:
    matched = MatchedDataset(Constant(LSP), LEGS, unlabelled="background")
    sample = matched[0]
    assert sample.known is None
    assert sample.persons.keypoints[0, :, 2].tolist() == [0, 2, 2]
    assert matched.lines()[1] == "background: nose"
    with pytest.raises(GraphposeError, match="pseudo_labels with unlabelled=background"):
        TrainSetConfig("a.json", "a", pseudo_labels="b.json", unlabelled="background")
    with pytest.raises(GraphposeError, match="unlabelled 'absent' must be one of unknown, background"):
        TrainSetConfig("a.json", "a", unlabelled="absent")  # type: ignore[arg-type]


def test_outside_of_the_labelled_persons_boxes_is_ignored_where_others_are_not_labelled() -> None:
    dataset = Constant(LSP, boxes=((4, 5, 10, 8), (20.5, 0, 3, 30)))
    ignore = MatchedDataset(dataset, LEGS, complete=False)[0].ignore
    expected = np.ones((20, 40), bool)
    expected[5:13, 4:14] = False
    expected[:, 21:24] = False
    np.testing.assert_array_equal(ignore, expected)


def test_a_crowds_box_does_not_count_as_a_labelled_persons() -> None:
    dataset = Constant(LSP, boxes=((4, 5, 10, 8), (20, 0, 3, 30)), crowd=True)
    assert MatchedDataset(dataset, LEGS, complete=False)[0].ignore[:, 14:].all()


def test_a_teachers_labels_are_known_by_their_weight_and_unknown_where_it_found_nothing(tmp_path: Path) -> None:
    labels = PseudoLabels(pseudo_file(tmp_path), LEGS)
    dataset = MatchedDataset(Constant(LSP, length=3), LEGS, pseudo_labels=labels, pseudo_weight=0.25)
    known = [dataset[i].known for i in range(3)]
    assert [table.tolist() for table in known if table is not None] == [[[0.25, 1, 1]], [[0, 1, 1]], [[0, 1, 1]]]
    assert dataset[0].persons.keypoints[0, 0].tolist() == [9.5, 6.5, 2]
    assert dataset[1].persons.keypoints[0, 0].tolist() == [0, 0, 0]


def test_a_teachers_label_of_one_among_several_persons_is_not_given_to_anybody(tmp_path: Path) -> None:
    labels = PseudoLabels(pseudo_file(tmp_path), LEGS)
    dataset = MatchedDataset(Constant(LSP, boxes=((4, 5, 9, 9), (14, 5, 9, 9))), LEGS, pseudo_labels=labels)
    sample = dataset[0]
    assert (sample.persons.keypoints[:, 0] == 0).all()
    assert sample.known is not None
    assert sample.known[0, 0] == 0


def test_a_teacher_may_not_label_what_the_set_labels(tmp_path: Path) -> None:
    labels = PseudoLabels(pseudo_file(tmp_path), LEGS)
    with pytest.raises(GraphposeError, match="labels 'nose', which the data set labels itself"):
        MatchedDataset(Constant(COCO), LEGS, pseudo_labels=labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"order": None}, "no file of pseudo-labels"),
        ({"order": ["beak"]}, "no keypoint 'beak'"),
        ({"labels": {"8": [[1, 2]]}}, "image 8 has"),
        ({"labels": {"8": [None, None]}}, "image 8 has"),
    ],
)
def test_damaged_pseudo_labels_are_named(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        PseudoLabels(pseudo_file(tmp_path, **content), LEGS)


def mix_of(*lengths: int, weights: tuple[float, ...], epoch_images: int | None = None) -> MixedDataset:
    sets = [MatchedDataset(Constant(LSP, n, 100 * i), LEGS, name=f"s{i}") for i, n in enumerate(lengths)]
    return MixedDataset(sets, weights, [f"s{i}" for i in range(len(lengths))], epoch_images)


def test_index_after_index_set_after_set() -> None:
    mix = mix_of(2, 3, weights=(1, 1))
    assert mix.image_ids == [0, 1, 100, 101, 102] == [mix[i].image_id for i in range(len(mix))]
    assert [mix[i].source for i in range(5)] == ["s0", "s0", "s1", "s1", "s1"]
    with pytest.raises(IndexError):
        mix[5]


def test_an_epoch_sees_each_image_by_its_sets_weight() -> None:
    mix = mix_of(6, 2, weights=(1, 8))
    assert mix.epoch_images == 22
    assert mix.quotas.tolist() == [6, 16]
    for epoch in range(3):
        visits = mix.visits(5, epoch)
        seen = Counter(visits[:, 0].tolist())
        assert seen == {**dict.fromkeys(range(6), 1), 6: 8, 7: 8}
        assert sorted(map(tuple, visits[visits[:, 0] == 7].tolist())) == [(7, visit) for visit in range(8)]


def test_quotas_are_whole_and_add_up() -> None:
    assert mix_of(5, 5, 5, weights=(1, 1, 1), epoch_images=8).quotas.tolist() == [3, 3, 2]
    assert mix_of(1000, 10, weights=(1, 10), epoch_images=11).quotas.tolist() == [10, 1]


def test_over_the_epochs_no_image_is_seen_more_than_once_more_than_another() -> None:
    mix = mix_of(7, 3, weights=(1, 1), epoch_images=5)
    seen: Counter[int] = Counter()
    for epoch in range(9):
        seen.update(mix.visits(1, epoch)[:, 0].tolist())
        for own in (range(7), range(7, 10)):
            counts = [seen[i] for i in own]
            assert max(counts) - min(counts) <= 1


def test_order_depends_on_seed_and_epoch_alone() -> None:
    mix = mix_of(20, 20, weights=(1, 2))
    np.testing.assert_array_equal(mix.visits(3, 4), mix_of(20, 20, weights=(1, 2)).visits(3, 4))
    assert not np.array_equal(mix.visits(3, 4), mix.visits(3, 5))
    assert not np.array_equal(mix.visits(3, 4), mix.visits(4, 4))


def view_transform() -> TrainTransform:
    return TrainTransform(32, LEGS, AugmentConfig(long_edge=None, rotation=30))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_share_the_bytes_of_one_process(workers: int) -> None:
    mix = mix_of(6, 2, weights=(1, 4), epoch_images=12)

    def batches(rank: int, ranks: int, size: int) -> list[Any]:
        loader = make_loader(
            mix, view_transform(), size, shuffle=True, seed=2, workers=workers, rank=rank, world_size=ranks
        )
        loader.set_epoch(1)
        return list(loader)

    alone = batches(0, 1, 4)
    assert sum(map(len, alone)) == 12
    shares = [batches(rank, 2, 2) for rank in (0, 1)]
    for step, whole in enumerate(alone):
        for rank in (0, 1):
            part = shares[rank][step]
            assert part.image_ids == whole.image_ids[rank::2]
            assert part.sources == whole.sources[rank::2]
            assert torch.equal(part.keypoints, whole.keypoints[rank::2])
            assert torch.equal(part.ignore, whole.ignore[rank::2])


def test_visits_of_one_image_in_an_epoch_differ_in_augmentation() -> None:
    loader = make_loader(mix_of(1, weights=(3,)), view_transform(), 3, shuffle=True)
    (batch,) = loader
    assert batch.image_ids == [0, 0, 0]
    assert len({tuple(matrix.flatten().tolist()) for matrix in batch.to_original}) == 3


def test_a_resumed_epoch_goes_on_with_the_same_batches() -> None:
    mix = mix_of(6, 2, weights=(1, 4), epoch_images=13)
    loader = make_loader(mix, view_transform(), 4, shuffle=True, seed=9)
    assert loader.steps_per_epoch == 4
    loader.set_epoch(2)
    whole = list(loader)
    loader.set_epoch(2, first_batch=2)
    rest = list(loader)
    assert len(rest) == 2
    for first, second in zip(whole[2:], rest, strict=True):
        assert torch.equal(first.keypoints, second.keypoints)
        assert torch.equal(first.to_original, second.to_original)


@pytest.mark.parametrize("wrap", [lambda mix: mix, CachedDataset])
def test_random_images_are_drawn_by_weight_from_memory_too(wrap: Any) -> None:
    mix = wrap(mix_of(4, 12, weights=(9, 1)))  # shares 3/4 and 1/4
    rng = np.random.default_rng(0)
    drawn = np.array([mix.draw(rng) for _ in range(4000)])
    assert abs((drawn < 4).mean() - 0.75) < 0.03
    counts = np.bincount(drawn, minlength=16)
    assert counts[:4].min() > 600
    assert counts[4:].min() > 40


def test_the_other_images_of_a_mosaic_are_those_drawn_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    mix, asked = mix_of(4, 12, weights=(27, 1)), list[int]()  # shares 9/10 and 1/10
    read = MixedDataset.__getitem__
    monkeypatch.setattr(MixedDataset, "__getitem__", lambda self, index: asked.append(index) or read(self, index))
    transform = CrowdTransform(TrainTransform(32, LEGS, AugmentConfig()), mix, CrowdConfig(mosaic=1))
    first = read(mix, 5)
    for seed in range(300):
        transform(first, np.random.default_rng(seed))
    assert len(asked) > 300  # one or three others
    assert abs((np.array(asked) < 4).mean() - 0.9) < 0.05


def test_without_shuffling_a_mix_is_read_in_order_once() -> None:
    loader = make_loader(mix_of(2, 3, weights=(1, 9)), EvalTransform(None), 5, shuffle=False)
    (batch,) = loader
    assert batch.image_ids == [0, 1, 100, 101, 102]


def test_a_mix_in_memory_is_drawn_by_weight_too() -> None:
    mix = mix_of(6, 2, weights=(1, 4))
    kept, plain = (make_loader(one, view_transform(), 5, shuffle=True, seed=7) for one in (CachedDataset(mix), mix))
    assert [batch.image_ids for batch in kept] == [batch.image_ids for batch in plain]
    assert sum(map(len, kept)) == 14


def test_what_is_known_where_is_told(tmp_path: Path) -> None:
    labels = PseudoLabels(pseudo_file(tmp_path), LEGS)
    single = MatchedDataset(Constant(LSP, 3), LEGS, complete=False, pseudo_labels=labels, pseudo_weight=0.25)
    mix = MixedDataset([single, MatchedDataset(Constant(LSP, 2), LEGS)], [1, 2], ["single", "plain"])
    assert mix.lines() == [
        "single: 3 images, weight 1, 3 views an epoch",
        "  2 of 3 keypoints labelled: left_knee, right_knee",
        "  a teacher's, of weight 0.25 in 2 images and unknown in the others: nose",
        "  dropped: head_top",
        "  one person of several labelled: all outside of the labelled persons' boxes is ignored",
        "plain: 2 images, weight 2, 4 views an epoch",
        "  2 of 3 keypoints labelled: left_knee, right_knee",
        "  unknown: nose",
        "  dropped: head_top",
    ]


def test_batches_say_what_is_known_only_where_something_is_not() -> None:
    sets = [MatchedDataset(Constant(LSP, 1), LEGS), MatchedDataset(Constant(COCO, 1), LEGS)]
    for chosen, expected in ((sets, [[[False, True, True]], [[True] * 3]]), (sets[1:], None)):
        (batch,) = make_loader(MixedDataset(chosen, [1] * len(chosen)), EvalTransform(None), 2, shuffle=False)
        assert (None if batch.known is None else batch.known.tolist()) == expected
        assert batch.regions is None


def test_labels_of_weight_a_quarter_are_known_in_a_quarter_of_the_views_and_mirrored_with_the_keypoints() -> None:
    sample = Constant(LEGS)[0]
    sample.known = np.array([[1, 0.25, 0]], np.float32)
    rng = np.random.default_rng(0)
    transform = TrainTransform(32, LEGS, AugmentConfig(long_edge=None, flip=1))
    known = np.stack([transform(sample, rng).sample.known for _ in range(2000)])[:, 0]
    assert set(np.unique(known)) == {0, 1}
    assert known[:, 0].all()
    assert not known[:, 1].any()
    assert known[:, 2].mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 2000) ** 0.5)


@pytest.mark.parametrize(
    ("weights", "epoch_images", "message"),
    [((1, 0), None, "weight 0"), ((1, float("nan")), None, "weight nan"), ((1,), None, "cannot be mixed"),
     ((1, 1), 0, "epoch of 0 images")],
)  # fmt: skip
def test_impossible_mixes_are_refused(weights: tuple[float, ...], epoch_images: int | None, message: str) -> None:
    with pytest.raises(GraphposeError, match=message):
        mix_of(2, 2, weights=weights, epoch_images=epoch_images)


def test_sets_of_two_skeletons_are_not_mixed() -> None:
    with pytest.raises(GraphposeError, match="set 'b' has skeleton 'lsp', 'a' has 'legs'"):
        MixedDataset([Constant(LEGS), Constant(LSP)], [1, 1], ["a", "b"])


def test_a_mix_of_files_is_read_into_one_skeleton(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "im.png"), np.zeros((20, 40, 3), np.uint8))
    for name, skeleton in (("lsp", LSP), ("own", LEGS)):
        record = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 9, 9], "area": 40, "iscrowd": 0}
        record["keypoints"] = [4, 5, 2] * 3
        category = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": []}
        images = [{"id": 1, "file_name": "im.png", "width": 40, "height": 20}]
        content = {"images": images, "annotations": [record], "categories": [category]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    pseudo_file(tmp_path)
    sets = [
        TrainSetConfig("lsp.json", "", complete=False, pseudo_labels="teacher.json", pseudo_weight=0.5),
        TrainSetConfig("own.json", "", weight=3),
    ]
    mix = open_mix(sets, LEGS, root=tmp_path)
    assert (mix.names, mix.epoch_images) == (["lsp", "own"], 4)
    first, second = mix[0], mix[1]
    assert first.known is not None
    assert first.known.tolist() == [[0.5, 1, 1]]
    assert first.ignore.sum() == 20 * 40 - 81
    assert (second.known, second.ignore.any()) == (None, False)


def test_a_check_of_a_mix_says_what_is_known_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "im.png"), np.zeros((20, 40, 3), np.uint8))
    keypoints = ["left_ankle", "right_ankle", "left_knee", "right_knee"]
    record = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 9, 9], "area": 40, "iscrowd": 0}
    record |= {"keypoints": [4, 5, 2, 9, 9, 2, 4, 9, 2, 9, 5, 2], "num_keypoints": 4}
    category = {"id": 1, "name": "person", "keypoints": keypoints, "skeleton": [[1, 3], [2, 4]]}
    images = [{"id": 1, "file_name": "im.png", "width": 40, "height": 20}]
    (tmp_path / "legs.json").write_text(
        json.dumps({"images": images, "annotations": [record], "categories": [category]})
    )
    sets = [{"annotations": "legs.json", "images": ".", "complete": False}]
    (tmp_path / "sets.json").write_text(json.dumps(sets))
    assert main(["check", str(tmp_path / "sets.json"), "--sets", "coco", "--report", str(tmp_path / "r.json")]) == 0
    printed = capsys.readouterr().out
    assert (
        "read into skeleton 'coco':\nlegs: 1 images, weight 1, 1 views an epoch\n  4 of 17 keypoints labelled: "
        in printed
    )
    assert printed.rstrip().endswith("outside of the labelled persons' boxes is ignored")
    assert [report["ok"] for report in json.loads((tmp_path / "r.json").read_text())] == [True]
    (tmp_path / "config.json").write_text(json.dumps({"train_sets": sets, "data_root": str(tmp_path)}))
    assert main(["check", str(tmp_path / "config.json"), "--sets", "coco"]) == 0
    assert main(["check", str(tmp_path / "config.json"), "--sets", "coco", "--images", "."]) == 2
    assert "--images with --sets" in capsys.readouterr().err
    for content, message in (
        ({"train_sets": []}, "has no train_sets"),
        ([{"annotations": "legs.json"}], r"train_sets[0] lacks images"),
        ([{"annotations": "legs.json", "images": ".", "wieght": 1}], "unknown key 'wieght'"),
    ):
        (tmp_path / "sets.json").write_text(json.dumps(content))
        assert main(["check", str(tmp_path / "sets.json"), "--sets", "coco"]) == 2
        assert message in capsys.readouterr().err


def test_settings_of_a_set_are_checked() -> None:
    assert TrainSetConfig("a/b.json.gz", "c").name == "b"
    with pytest.raises(GraphposeError, match="'b': weight -1"):
        TrainSetConfig("b.json", "c", weight=-1)
    with pytest.raises(GraphposeError, match="'b': pseudo_weight 2"):
        TrainSetConfig("b.json", "c", pseudo_weight=2)


def test_extended_leeds_sports_pose_knows_bodies_and_its_teacher_faces(data_root: Path) -> None:
    sets = [
        TrainSetConfig(
            "lspet/lspet_val.json.gz", "lspet/val", complete=False, pseudo_labels="lspet/lspet_val_faces.json.gz"
        )
    ]
    mix = open_mix(sets, COCO, root=data_root)
    tables = []
    for index in range(40):
        sample = mix[index]
        assert sample.known is not None
        tables.append(sample.known[0])
        labelled = sample.persons.keypoints[0, :, 2] > 0
        assert (sample.known[0, labelled] > 0).all()
        xy = sample.persons.keypoints[0, labelled, :2]
        height, width = sample.image.shape[:2]
        assert (xy >= -0.5).all()
        assert (xy < (width + 1, height + 1)).all()
    known = np.stack(tables)
    assert (known[:, 5:] == 1).all()
    assert set(np.unique(known[:, :5])) == {0, 0.5}
