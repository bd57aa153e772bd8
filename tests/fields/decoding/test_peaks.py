"""What a keypoint's spread says about how exact it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import Decoder
from graphpose.fields.decoding.peaks import expected_similarity
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.spec import PIF, FieldSpec
from graphpose.skeleton import Skeleton

POINTS = FieldSpec(Skeleton("points", ("a", "b"), (), (0.05, 0.05)), 8)


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.149, 0.151, 0.5, 1.0, 3.0, 50.0])
def test_the_expected_similarity_is_the_mean_over_exponential_distances(ratio):
    scale = 0.7
    kappa = 2 * scale
    b = ratio * kappa
    expected, _ = quad(lambda d: np.exp(-d / b) / b * np.exp(-(d**2) / (2 * kappa**2)), 0, 60 * b, limit=200)
    assert expected_similarity(b, scale) == pytest.approx(expected, abs=2e-4)


def test_confidences_are_multiplied_by_it_where_that_is_asked_for():
    keypoints = torch.tensor([[[[84.0, 44, 2], [20, 30, 2]]]])
    pif, paf = (
        field[0].numpy() for field in perfect_fields(encode(keypoints, torch.tensor([[100.0]]), POINTS, (81, 161)))
    )
    pif[0, PIF.SPREAD], pif[1, PIF.SPREAD] = np.log(0.5), np.log(2.5)  # cells; the scale is 5 pixels
    plain = Decoder(POINTS, DecoderConfig())(pif, paf)
    exact = Decoder(POINTS, DecoderConfig(expected_oks=True))(pif, paf)
    assert len(plain) == len(exact) == 2
    by_type = {int(one[:, 2].argmax()): one[:, 2].max() for one in exact.keypoints}
    for k, b in ((0, 0.5), (1, 2.5)):
        before = max(one[k, 2] for one in plain.keypoints)
        assert by_type[k] == pytest.approx(before * expected_similarity(b, 5 / 8), rel=1e-5)
    assert by_type[0] > by_type[1]
    pif[:, PIF.SPREAD, 3:5] = np.nan  # says nothing: the other cells of the patches do
    again = Decoder(POINTS, DecoderConfig(expected_oks=True))(pif, paf)
    np.testing.assert_allclose(again.keypoints[:, :, 2], exact.keypoints[:, :, 2], rtol=1e-4)
    pif[:, PIF.SPREAD] = np.nan
    unknown = Decoder(POINTS, DecoderConfig(expected_oks=True))(pif, paf)
    np.testing.assert_array_equal(unknown.keypoints, plain.keypoints)
