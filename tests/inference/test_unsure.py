"""Thresholds for several networks and sets at once, on the labels' own fields."""

from __future__ import annotations

import numpy as np
import pytest

from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import build_decoder
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.fusion import View
from graphpose.fields.merging import decode_image
from graphpose.fields.spec import FieldSpec
from graphpose.inference.tune import ImageFields
from graphpose.inference.unsure import UNSURE_GRID, ScoredPhotographs, choose_unsure_thresholds
from graphpose.skeleton import COCO

SPEC = FieldSpec(COCO, 4)


def fields_of(dataset: DemoDataset, confidence: float) -> list[ImageFields]:
    """Fields that the labels would have, with so much of their confidence."""
    (batch,) = make_loader(dataset, EvalTransform(None), len(dataset), shuffle=False)
    height, width = batch.images.shape[-2:]
    pif, paf = perfect_fields(encode(batch.keypoints, batch.scales, SPEC, (height, width)))
    pif[:, :, 0] *= confidence
    paf[:, :, 0] *= confidence
    return [
        ImageFields(image_id, [View(pif[i], paf[i])], (height, width), batch.to_original[i].numpy())
        for i, image_id in enumerate(batch.image_ids)
    ]


def test_networks_are_averaged_and_sets_are_added() -> None:
    grid = {"keypoint_threshold": (0.5, 0.1)}
    datasets = [DemoDataset(3, seed=1, size=160), DemoDataset(2, seed=2, size=160)]
    assert datasets[0].image_ids[:2] == datasets[1].image_ids  # the same ids are other images
    sets = [ScoredPhotographs(datasets[0], complete=True), ScoredPhotographs(datasets[1], complete=False)]
    faint, blind = ([fields_of(one, confidence) for one in datasets] for confidence in (0.25, 0.0))
    blind[1].pop()  # an image that could not be read
    start = build_decoder(SPEC, DecoderConfig(keypoint_threshold=0.9, limb_threshold=0.1))
    found = choose_unsure_thresholds([faint, blind], sets, start, rounds=2, grid=grid)
    assert found.before == 0
    assert found.config.keypoint_threshold == 0.1
    decoder = build_decoder(SPEC, found.config)
    alone = 0.0
    for one, images in zip(sets, faint, strict=True):
        poses = {image.image_id: decode_image(decoder, image.views, image.size) for image in images}
        mapped = {image.image_id: poses[image.image_id].mapped(image.to_original) for image in images}
        alone += one.score(mapped, COCO)
    assert alone > 2
    assert found.score == pytest.approx(alone / 2, abs=1e-12)


def test_labels_themselves_have_the_highest_score() -> None:
    dataset = DemoDataset(2, seed=3, size=160)
    decoder = build_decoder(SPEC, DecoderConfig())
    poses = {
        image.image_id: decode_image(decoder, image.views, image.size).mapped(image.to_original)
        for image in fields_of(dataset, 1.0)
    }
    assert ScoredPhotographs(dataset, complete=True).score(poses, COCO) > 0.9
    assert 0 < ScoredPhotographs(dataset, complete=False).score(poses, COCO) <= 2
    assert ScoredPhotographs(dataset, complete=False).score({}, COCO) == 0
    assert np.isclose(ScoredPhotographs(dataset, complete=True).score({}, COCO), 0)


def test_every_setting_of_the_grid_exists() -> None:
    assert set(UNSURE_GRID) <= set(DecoderConfig.__dataclass_fields__)
