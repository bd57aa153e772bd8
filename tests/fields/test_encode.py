"""Targets: which cells a keypoint or limb covers, who wins a contested cell, and what has no target."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.fields.encode import Targets, encode, perfect_fields
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.skeleton import COCO, Skeleton

STICK = Skeleton("stick", ("left_end", "right_end"), ((0, 1),), (0.05, 0.1))
SPEC = FieldSpec(STICK, 8)


def persons(*people):
    """(1, P, K, 3) keypoints and (1, P) scales of persons given as lists of (x, y, v)."""
    return torch.tensor([list(people)], dtype=torch.float32), torch.full((1, len(people)), 100.0)


def lit(field, channel=0):
    """(column, row) of the cells with confidence 1 in plane ``channel`` of the first image."""
    rows, columns = (field[0, channel, 0] == 1).nonzero(as_tuple=True)
    return {(int(c), int(r)) for r, c in zip(rows, columns, strict=True)}


def test_a_keypoint_between_cells_covers_four_by_four():
    targets = encode(*persons([(84, 44, 2), (0, 0, 0)]), SPEC, (81, 161))
    assert lit(targets.pif) == {(c, r) for c in (9, 10, 11, 12) for r in (4, 5, 6, 7)}
    assert lit(targets.pif, 1) == set()


def test_a_keypoint_on_a_cell_covers_three_by_three():
    targets = encode(*persons([(80, 40, 1), (0, 0, 0)]), SPEC, (81, 161))
    assert lit(targets.pif) == {(c, r) for c in (9, 10, 11) for r in (4, 5, 6)}


def test_offsets_and_scale_lead_back_to_the_keypoint():
    targets = encode(*persons([(83, 45, 2), (120, 45, 2)]), SPEC, (81, 161))
    for column, row in lit(targets.pif):
        cell = targets.pif[0, 0, :, row, column]
        assert column + cell[PIF.X] == 83 / 8
        assert row + cell[PIF.Y] == 45 / 8
        assert cell[PIF.SCALE] == pytest.approx(0.05 * 100 / 8)
        assert cell[PIF.SPREAD].isnan()
    for column, row in lit(targets.paf):
        cell = targets.paf[0, 0, :, row, column]
        assert (column + cell[PAF.X1], row + cell[PAF.Y1]) == (83 / 8, 45 / 8)
        assert (column + cell[PAF.X2], row + cell[PAF.Y2]) == (120 / 8, 45 / 8)


def test_a_limb_is_three_cells_wide_and_leaves_its_ends_free():
    targets = encode(*persons([(16, 44, 2), (136, 44, 2)]), SPEC, (81, 161))  # columns 2 to 17, row 5.5
    covered = lit(targets.paf)
    assert {r for _, r in covered} == {5, 6} | {r for _, r in covered if r in (4, 7)}
    assert {c for c, _ in covered} == set(range(3, 17))
    assert all(sum(c == column for c, _ in covered) in (2, 3) for column in range(3, 17))


@pytest.mark.parametrize("end", [(80.5, 40.2), (83, 60), (40, 80), (81, 41)])
def test_short_and_slanted_limbs_keep_a_centre(end):
    targets = encode(*persons([(80, 40, 2), (*end, 2)]), SPEC, (161, 161))
    covered = lit(targets.paf)
    assert len(covered) >= 4
    middle = ((80 + end[0]) / 16, (40 + end[1]) / 16)
    assert min(np.hypot(c - middle[0], r - middle[1]) for c, r in covered) <= 0.75


def test_the_nearer_keypoint_wins_a_contested_cell():
    targets = encode(*persons([(84, 44, 2), (0, 0, 0)], [(94, 44, 2), (0, 0, 0)]), SPEC, (81, 161))
    for column, row in lit(targets.pif):
        x = (column + targets.pif[0, 0, PIF.X, row, column]) * 8
        assert x == (84 if abs(column * 8 - 84) < abs(column * 8 - 94) else 94)


def test_a_tie_goes_to_the_first_person():
    person = [(84, 44, 2), (0, 0, 0)]
    keypoints, _ = persons(person, person)
    targets = encode(keypoints, torch.tensor([[50.0, 100.0]]), SPEC, (81, 161))
    scales = targets.pif[0, 0, PIF.SCALE]
    assert scales[~scales.isnan()].unique().tolist() == pytest.approx([0.05 * 50 / 8])


def test_every_limb_of_a_crossing_keeps_its_cells():
    keypoints, scales = persons([(40, 80, 2), (120, 80, 2)], [(80, 40, 2), (80, 120, 2)])
    targets = encode(keypoints, scales, SPEC, (161, 161))
    owners = [(int(c) + float(targets.paf[0, 0, PAF.X1, r, c])) * 8 for c, r in ((c, r) for c, r in lit(targets.paf))]
    assert sum(x == 40 for x in owners) >= 9
    assert sum(x == 80 for x in owners) >= 9


def test_without_persons_every_confidence_is_zero_and_nothing_else_a_target():
    targets = encode(torch.zeros(2, 0, 2, 3), torch.zeros(2, 0), SPEC, (81, 161))
    for field in (targets.pif, targets.paf):
        assert (field[:, :, 0] == 0).all()
        assert field[:, :, 1:].isnan().all()


def test_padding_persons_and_keypoints_outside_the_image_are_no_targets():
    inside = [(84, 44, 2), (120, 44, 2)]
    outside = [(-30, 44, 2), (400, 44, 2)]
    padding = [(0, 0, 0), (0, 0, 0)]
    expected = encode(*persons(inside), SPEC, (81, 161))
    found = encode(*persons(inside, outside, padding), SPEC, (81, 161))
    assert_equal(found, expected)


def test_ignored_pixels_have_no_confidence_target_except_where_a_keypoint_is():
    ignore = torch.zeros(1, 81, 161, dtype=torch.bool)
    ignore[:, :, 64:] = True
    targets = encode(*persons([(84, 44, 2), (0, 0, 0)]), SPEC, (81, 161), ignore)
    confidence = targets.pif[0, 0, 0]
    assert (confidence[:, :8] == 0).all()
    assert lit(targets.pif) == {(c, r) for c in (9, 10, 11, 12) for r in (4, 5, 6, 7)}
    assert confidence[:, 8:].isnan().sum() == confidence[:, 8:].numel() - 16
    assert targets.paf[0, 0, 0, :, 8:].isnan().all()


def test_unknown_scale_is_no_scale_target():
    keypoints, _ = persons([(84, 44, 2), (120, 44, 2)])
    targets = encode(keypoints, torch.zeros(1, 1), SPEC, (81, 161))
    assert targets.pif[:, :, PIF.SCALE].isnan().all()
    assert len(lit(targets.pif)) == 16


def random_persons(B, P, seed=0, size=321):
    generator = torch.Generator().manual_seed(seed)
    keypoints = torch.rand(B, P, 17, 3, generator=generator)
    keypoints[..., :2] *= size - 1
    keypoints[..., 2] = (keypoints[..., 2] * 3).floor()
    return keypoints, 20 + 100 * torch.rand(B, P, generator=generator)


def assert_equal(found: Targets, expected: Targets):
    for a, b in ((found.pif, expected.pif), (found.paf, expected.paf)):
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_a_batch_equals_its_images_one_by_one(stride):
    keypoints, scales = random_persons(7, 5)
    spec = FieldSpec(COCO, stride)
    batch = encode(keypoints, scales, spec, (321, 321))
    for i in range(7):
        single = encode(keypoints[i : i + 1], scales[i : i + 1], spec, (321, 321))
        assert_equal(Targets(batch.pif[i : i + 1], batch.paf[i : i + 1]), single)


def test_old_targets_can_be_written_over():
    keypoints, scales = random_persons(3, 4)
    spec = FieldSpec(COCO, 8)
    old = encode(*random_persons(3, 4, seed=1), spec, (321, 321))
    found = encode(keypoints, scales, spec, (321, 321), out=old)
    assert found is old
    assert_equal(found, encode(keypoints, scales, spec, (321, 321)))
    with pytest.raises(GraphposeError, match="'out' holds"):
        encode(keypoints, scales, spec, (161, 321), out=old)


def test_shifting_persons_by_cells_shifts_the_targets():
    keypoints, scales = random_persons(1, 3, size=161)
    spec = FieldSpec(COCO, 8)
    shifted = keypoints.clone()
    shifted[..., :2] += torch.tensor([5 * 8, 3 * 8])
    a, b = encode(keypoints + torch.tensor([80, 80, 0]), scales, spec, (401, 401)), None
    b = encode(shifted + torch.tensor([80, 80, 0]), scales, spec, (401, 401))
    confidence = a.pif[:, :, 0]
    assert torch.equal(confidence[:, :, :-3, :-5], b.pif[:, :, 0, 3:, 5:])
    assert torch.equal(a.paf[:, :, 0, :-3, :-5], b.paf[:, :, 0, 3:, 5:])


def test_mirrored_persons_give_mirrored_targets():
    keypoints, scales = random_persons(1, 3)
    spec = FieldSpec(COCO, 8)
    mirrored = keypoints[:, :, list(COCO.flip)].clone()
    mirrored[..., 0] = 320 - mirrored[..., 0]
    a, b = encode(keypoints, scales, spec, (321, 321)), encode(mirrored, scales, spec, (321, 321))
    assert torch.equal(a.pif[:, :, 0], b.pif[:, list(COCO.flip), 0].flip(-1))
    limbs = [limb for limb, _ in COCO.flip_limbs]
    assert torch.equal(a.paf[:, :, 0], b.paf[:, limbs, 0].flip(-1))


def test_perfect_fields_are_finite_and_leave_the_targets_alone():
    ignore = torch.ones(1, 81, 161, dtype=torch.bool)
    targets = encode(*persons([(84, 44, 2), (120, 44, 2)]), SPEC, (81, 161), ignore)
    before = targets.pif.clone()
    pif, paf = perfect_fields(targets)
    assert pif.isfinite().all()
    assert paf.isfinite().all()
    assert torch.equal(pif[:, :, 0] == 1, before[:, :, 0] == 1)
    assert torch.equal(before.isnan(), targets.pif.isnan())


def test_shapes_that_do_not_fit_are_refused_with_what_is_needed():
    spec = FieldSpec(COCO, 8)
    with pytest.raises(GraphposeError, match=r"skeleton 'coco'; \(images, persons, 17, 3\) is needed"):
        encode(torch.zeros(1, 2, 16, 3), torch.zeros(1, 2), spec, (81, 81))
    with pytest.raises(GraphposeError, match=r"scales of shape \(1, 3\)"):
        encode(torch.zeros(1, 2, 17, 3), torch.zeros(1, 3), spec, (81, 81))
    with pytest.raises(GraphposeError, match="ignore mask"):
        encode(torch.zeros(1, 2, 17, 3), torch.zeros(1, 2), spec, (81, 81), torch.zeros(1, 11, 11, dtype=torch.bool))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_writes_the_same_bits():
    keypoints, scales = random_persons(4, 6)
    spec = FieldSpec(COCO, 8)
    found = encode(keypoints.cuda(), scales.cuda(), spec, (321, 321))
    assert_equal(Targets(found.pif.cpu(), found.paf.cpu()), encode(keypoints, scales, spec, (321, 321)))


TRIO = Skeleton("trio", ("head", "hip", "foot"), ((0, 1), (1, 2)), (0.05, 0.1, 0.1))


def trio(batch=1):
    """Person with all three keypoints in the left half of an 81 × 161 image."""
    keypoints = torch.tensor([[[[24, 8, 2], [24, 40, 2], [24, 72, 2]]]], dtype=torch.float32).expand(batch, -1, -1, -1)
    return keypoints, torch.full((batch, 1), 100.0), FieldSpec(TRIO, 8), (81, 161)


def test_an_unknown_keypoint_and_its_limbs_have_no_target_anywhere():
    known = torch.tensor([[[False, True, True]]])
    targets, full = encode(*trio(), known=known), encode(*trio())
    assert targets.pif[:, 0].isnan().all()
    assert targets.paf[:, 0].isnan().all()
    torch.testing.assert_close(targets.pif[:, 1:], full.pif[:, 1:], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(targets.paf[:, 1:], full.paf[:, 1:], rtol=0, atol=0, equal_nan=True)


def test_all_known_is_the_same_as_nothing_said():
    said, unsaid = encode(*trio(2), known=torch.ones(2, 1, 3, dtype=torch.bool)), encode(*trio(2))
    torch.testing.assert_close((said.pif, said.paf), (unsaid.pif, unsaid.paf), rtol=0, atol=0, equal_nan=True)


def test_each_image_of_a_batch_knows_its_own_keypoints():
    known = torch.tensor([[[True, True, False]], [[False, True, True]]])
    both = encode(*trio(2), known=known)
    for i in (0, 1):
        one = encode(*trio(), known=known[i : i + 1])
        torch.testing.assert_close(both.pif[i : i + 1], one.pif, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(both.paf[i : i + 1], one.paf, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("unknown", [0, 1])
def test_a_region_knows_keypoints_for_itself_alone(unknown):
    regions = torch.zeros(1, 81, 161, dtype=torch.uint8)
    regions[:, :, 80:] = 1  # columns 10 and on
    known = torch.ones(1, 2, 3, dtype=torch.bool)
    known[0, unknown, 0] = False
    targets, full = encode(*trio(), known=known, regions=regions), encode(*trio())
    there = slice(10, None) if unknown else slice(0, 10)
    other = slice(0, 10) if unknown else slice(10, None)
    assert targets.pif[0, 0, :, :, there].isnan().all()
    assert targets.paf[0, 0, :, :, there].isnan().all()
    for got, whole in (
        (targets.pif[..., other], full.pif[..., other]),
        (targets.paf[..., other], full.paf[..., other]),
    ):
        torch.testing.assert_close(got, whole, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(targets.pif[:, 1:], full.pif[:, 1:], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("known", "regions", "message"),
    [
        (torch.ones(1, 3, dtype=torch.bool), None, "known keypoints of shape"),
        (torch.ones(1, 1, 3), None, "known keypoints of shape"),
        (torch.ones(1, 2, 3, dtype=torch.bool), None, "2 regions need 'regions'"),
        (torch.ones(1, 2, 3, dtype=torch.bool), torch.zeros(1, 81, 160, dtype=torch.uint8), "regions of shape"),
    ],
)
def test_known_keypoints_of_a_wrong_shape_are_refused(known, regions, message):
    with pytest.raises(GraphposeError, match=message):
        encode(*trio(), known=known, regions=regions)
