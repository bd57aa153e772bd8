"""Tuning finds better thresholds where there are some, and refuses what it cannot search."""

from __future__ import annotations

import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.spec import FieldSpec
from graphpose.inference.search import GRID, tune
from graphpose.skeleton import Skeleton

SPEC = FieldSpec(Skeleton("stick", ("a", "b"), ((0, 1),), (0.05, 0.05)), 8)


def faint_fields():
    keypoints = torch.tensor([[[[40.0, 40, 2], [100, 40, 2]]]])
    pif, paf = perfect_fields(encode(keypoints, torch.tensor([[100.0]]), SPEC, (81, 161)))
    pif[:, :, 0] *= 0.25
    paf[:, :, 0] *= 0.25
    return [(pif[0], paf[0])]


def test_faint_fields_ask_for_lower_thresholds():
    config, score, trials = tune(faint_fields(), lambda poses: float((poses[0].keypoints[:, :, 2] > 0).sum()), SPEC)
    assert score == 2
    assert config.keypoint_threshold < 0.25
    assert len(trials) > 10


def test_the_start_is_kept_where_nothing_is_better():
    start = DecoderConfig(radius=1.3)
    config, score, _ = tune(faint_fields(), lambda poses: 0.0, SPEC, config=start)
    assert config == start
    assert score == 0


def test_every_setting_of_the_grid_exists_and_others_are_refused():
    assert set(" ".join(GRID).split()) <= set(DecoderConfig.__dataclass_fields__)
    with pytest.raises(GraphposeError, match="'radios' is no setting"):
        tune(faint_fields(), lambda poses: 0.0, SPEC, grid={"radios": (1.0,)})
    with pytest.raises(GraphposeError, match="at least one image"):
        tune([], lambda poses: 0.0, SPEC)
