"""Losses of Eq. 1–3: values, missing targets, finite gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from graphpose.errors import GraphposeError
from graphpose.fields.encode import encode
from graphpose.fields.spec import PAF, PIF
from graphpose.nn.config import LossConfig, PoseNetworkConfig
from graphpose.nn.losses import PoseLoss, resample_confidence
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO

NAN = float("nan")
K, M = 3, 2


def targets(batch: int = 2, size: tuple[int, int] = (5, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets without any person: confidence 0 everywhere, no regressions."""
    pif, paf = torch.full((batch, K, 5, *size), NAN), torch.full((batch, M, 7, *size), NAN)
    pif[:, :, 0], paf[:, :, 0] = 0, 0
    return pif, paf


def outputs(seed: int = 0, batch: int = 2, size: tuple[int, int] = (5, 6), maps: int = 2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    half = [(side + 1) // 2 for side in size]
    return {
        "pif": normal(batch, K, 5, *size),
        "paf": normal(batch, M, 7, *size),
        "intermediate": [normal(batch, K, *half) for _ in range(maps)],
    }


def with_person(pif, paf):
    pif[0, 1, :, 2, 3] = torch.tensor([1.0, 0.25, -0.5, NAN, 1.5])
    paf[1, 0, :, 4, 5] = torch.tensor([1.0, 2.0, 1.0, NAN, -3.0, 0.5, NAN])
    return pif, paf


def test_parts_equal_the_formulas_worked_out_plainly():
    out, (pif, paf) = outputs(), with_person(*targets())
    parts = PoseLoss()(out, pif, paf)
    bce = F.binary_cross_entropy_with_logits
    assert parts["pif_confidence"].item() == pytest.approx(30 * bce(out["pif"][:, :, 0], pif[:, :, 0]).item(), rel=1e-5)
    assert parts["paf_confidence"].item() == pytest.approx(50 * bce(out["paf"][:, :, 0], paf[:, :, 0]).item(), rel=1e-5)

    def smooth_l1(a, b):
        return sum(0.5 * d * d if abs(d) < 1 else abs(d) - 0.5 for d in (torch.tensor(b) - a).tolist())

    cell = out["pif"][0, 1, :, 2, 3].detach()
    assert parts["pif_offset"].item() == pytest.approx(2 * smooth_l1(cell[1:3], [0.25, -0.5]) / 1000 / 2, rel=1e-5)
    assert parts["pif_scale"].item() == pytest.approx(2 * smooth_l1(cell[4:5], [1.5]) / 1000 / 2, rel=1e-5)
    cell = out["paf"][1, 0, :, 4, 5].detach()
    ends = smooth_l1(cell[[1, 2, 4, 5]], [2.0, 1.0, -3.0, 0.5])
    assert parts["paf_offset"].item() == pytest.approx(3 * ends / 1000 / 2, rel=1e-5)
    maps = [bce(x, pif[:, :, 0, ::2, ::2]).item() for x in out["intermediate"]]
    assert parts["intermediate"].item() == pytest.approx(sum(30 / 2 * value for value in maps), rel=1e-5)


def test_total_is_the_sum_of_the_parts():
    parts = PoseLoss()(outputs(), *with_person(*targets()))
    total = parts.pop("total")
    assert set(parts) == {
        "pif_confidence", "pif_offset", "pif_scale", "paf_confidence", "paf_offset", "intermediate",
    }  # fmt: skip
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-6)


@pytest.mark.parametrize("regression", ["smooth_l1", "laplace"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("confidence", ["mean", "sum_of_means"])
@pytest.mark.parametrize("case", ["persons", "no_person", "all_ignored", "perfect"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_finite(regression, reduction, confidence, case, dtype):
    out, (pif, paf) = outputs(dtype=dtype), targets()
    if case in ("persons", "perfect"):
        with_person(pif, paf)
    if case == "perfect":  # a distance of exactly 0 has no direction
        out["pif"].data[0, 1, 1:3, 2, 3] = pif[0, 1, 1:3, 2, 3].to(dtype)
    if case == "all_ignored":
        pif[:], paf[:] = NAN, NAN
    loss = PoseLoss(
        LossConfig(regression_loss=regression, regression_reduction=reduction, confidence_reduction=confidence)
    )
    parts = loss(out, pif, paf)
    parts["total"].backward()
    assert all(bool(torch.isfinite(part)) and part.dtype == torch.float32 for part in parts.values())
    for tensor in (out["pif"], out["paf"], *out["intermediate"]):
        assert bool(torch.isfinite(tensor.grad).all())
    if case == "all_ignored":
        assert parts["total"].item() == 0


def test_cells_without_a_target_do_not_matter():
    out, (pif, paf) = outputs(), with_person(*targets())
    pif[:, :, 0, 0], paf[:, :, 0, :, 0] = NAN, NAN
    loss = PoseLoss()
    before = loss(out, pif, paf)["total"].item()
    with torch.no_grad():
        out["pif"][:, :, :, 0] += 10
        out["paf"][:, :, :, :, 0] += 10
        out["pif"][:, :, 1:, 4] += 10
    assert loss(out, pif, paf)["total"].item() == pytest.approx(before)


def test_without_graphs_there_is_no_intermediate_loss():
    parts = PoseLoss()(outputs(maps=0), *targets())
    assert parts["intermediate"].item() == 0


def test_intermediate_weight_is_shared_by_the_modules():
    out, goal = outputs(maps=1), targets()
    once = PoseLoss()(out, *goal)["intermediate"]
    out["intermediate"] = out["intermediate"] * 6
    torch.testing.assert_close(PoseLoss()(out, *goal)["intermediate"], once)


def test_sum_of_means_is_k_times_the_mean_when_all_maps_are_known():
    out, goal = outputs(), with_person(*targets())
    mean = PoseLoss()(out, *goal)
    summed = PoseLoss(LossConfig(confidence_reduction="sum_of_means"))(out, *goal)
    assert summed["pif_confidence"].item() == pytest.approx(K * mean["pif_confidence"].item(), rel=1e-5)
    assert summed["paf_confidence"].item() == pytest.approx(M * mean["paf_confidence"].item(), rel=1e-5)


def test_regressions_weigh_images_alike_whatever_the_batch():
    out, goal = outputs(), with_person(*targets())
    doubled = {key: out[key].repeat(2, 1, 1, 1, 1) for key in ("pif", "paf")}
    doubled["intermediate"] = [x.repeat(2, 1, 1, 1) for x in out["intermediate"]]
    once = PoseLoss()(out, *goal)
    twice = PoseLoss()(doubled, *(target.repeat(2, 1, 1, 1, 1) for target in goal))
    for name, part in once.items():
        torch.testing.assert_close(twice[name], part, msg=name)


@pytest.mark.parametrize("regression", ["smooth_l1", "laplace"])
def test_only_the_laplace_loss_trains_the_spread(regression):
    out = outputs()
    PoseLoss(LossConfig(regression_loss=regression))(out, *with_person(*targets()))["total"].backward()
    gradients = (out["pif"].grad[0, 1, PIF.SPREAD, 2, 3], out["paf"].grad[1, 0, PAF.SPREAD2, 4, 5])
    assert all((gradient != 0) == (regression == "laplace") for gradient in gradients)


def test_laplace_loss_is_the_negative_log_likelihood():
    out, (pif, paf) = outputs(), with_person(*targets())
    parts = PoseLoss(LossConfig(regression_loss="laplace"))(out, pif, paf)
    cell = out["pif"][0, 1, :, 2, 3].detach()
    distance, b = math.hypot(cell[1] - 0.25, cell[2] + 0.5), math.exp(cell[3])
    assert parts["pif_offset"].item() == pytest.approx(2 * (math.log(2 * b) + distance / b) / 1000 / 2, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(40, 700),
    width=st.integers(40, 700),
    stride=st.sampled_from([4, 8, 16]),
    field=st.sampled_from([4, 8]),
)
def test_resampled_confidence_is_that_of_the_pixel(height, width, stride, field):
    """Cells at pixels that both grids have agree; no cell looks further than half a target cell away."""
    h, w = -(-height // field), -(-width // field)
    rows, columns = torch.arange(h).float() * field, torch.arange(w).float() * field
    target = torch.stack((rows[:, None].expand(h, w), columns.expand(h, w)))[None]  # each cell holds its pixel
    size = (-(-height // stride), -(-width // stride))
    resampled = resample_confidence(target, size)[0]
    assert resampled.shape[1:] == size
    for axis, cells in enumerate(size):
        wanted = torch.arange(cells).float() * stride
        got = resampled[0, :, 0] if axis == 0 else resampled[1, 0, :]
        limit = (h - 1, w - 1)[axis] * field
        assert bool(((got - wanted.clamp(max=limit)).abs() <= field / 2).all())
        if stride >= field:
            assert torch.equal(got, wanted)


def test_resampling_keeps_ignored_cells_ignored():
    target = torch.zeros(1, 1, 4, 4)
    target[..., 2, 2] = NAN
    assert resample_confidence(target, (2, 2)).isnan().nonzero().tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regression_loss": "l2"}, "regression_loss 'l2' is unknown; choose one of smooth_l1, laplace"),
        ({"confidence_reduction": "max"}, "confidence_reduction 'max' is unknown"),
        ({"paf_offset": -1.0}, "loss weight paf_offset -1.0 must be finite"),
        ({"pif_scale": NAN}, "loss weight pif_scale nan must be finite"),
        ({"regression_divisor": 0.0}, "regression_divisor 0.0 must be positive"),
    ],
)
def test_impossible_loss_settings_are_refused(settings, message):
    with pytest.raises(GraphposeError, match=message):
        LossConfig(**settings)


def test_settings_survive_a_dictionary():
    config = LossConfig(regression_loss="laplace", pif_scale=1.0)
    assert LossConfig(**config.to_dict()) == config


FACE = tuple(range(5))  # of COCO: nose, eyes, ears


@pytest.mark.parametrize("regression", ["smooth_l1", "laplace"])
@pytest.mark.parametrize("confidence", ["mean", "sum_of_means"])
def test_unknown_keypoints_give_their_channels_no_gradient_at_all(regression, confidence):
    """An image whose set has no faces does not move the face: fields, limbs of the face, intermediate confidences."""
    config = PoseNetworkConfig(backbone="test_resnet", stem_pool=True, adjacency="dynamic", upsample=2)
    network = PoseNetwork(config).train()
    keypoints = torch.rand(2, 3, 17, 3) * 60 + 2
    keypoints[:, :, FACE] = 0
    known = torch.ones(2, 1, 17, dtype=torch.bool)
    known[:, :, FACE] = False
    targets = encode(keypoints, torch.full((2, 3), 30.0), network.spec, (64, 64), known=known)
    outputs = network(torch.randn(2, 3, 64, 64))
    fields = [outputs["pif"], outputs["paf"], *outputs["intermediate"]]
    for field in fields:
        field.retain_grad()
    config = LossConfig(regression_loss=regression, confidence_reduction=confidence)
    PoseLoss(config)(outputs, targets.pif, targets.paf)["total"].backward()
    face_limbs = [m for m, limb in enumerate(COCO.limbs) if set(limb) & set(FACE)]
    pif, paf, *intermediate = (field.grad for field in fields)
    assert len(intermediate) == 2
    for grad, unknown in ((pif, FACE), (paf, face_limbs), *((grad, FACE) for grad in intermediate)):
        assert (grad[:, unknown] == 0).all()
        others = [i for i in range(grad.shape[1]) if i not in unknown]
        assert all((grad[:, i] != 0).any() for i in others)
    # and so no weight that makes these channels alone: those of the head, its sub-pixels included
    per_keypoint = network.pif_head.conv.weight.grad.reshape(17, -1)
    assert (per_keypoint[list(FACE)] == 0).all()
    assert (per_keypoint[5:] != 0).any(dim=1).all()
