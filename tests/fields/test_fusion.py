"""Fusion of views: a mirror image and other scales of a scene say the same as the scene."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.fields.config import FusionConfig, Merge
from graphpose.fields.decode import Decoder, build_decoder
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.fusion import (
    aligned_size,
    flip_fields,
    fuse_fields,
    fused_fields,
    mirrored_limbs,
    resample_fields,
    resize_aligned,
    views_to_decode,
)
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.inference.evaluate import evaluate
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton

SIZE = 401  # one more than a multiple of 8: columns of a mirror image are the image's columns
ONE_SIDED = Skeleton("one_sided", ("left_hand", "right_hand", "hat"), ((0, 2),), (0.05,) * 3)
laws = settings(max_examples=20, deadline=None)


def random_fields(skeleton: Skeleton, seed: int, h: int = 7, w: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pif = torch.rand(2, skeleton.num_keypoints, 5, h, w, generator=generator)
    return pif, torch.rand(2, skeleton.num_limbs, 7, h, w, generator=generator)


def scene(skeleton: Skeleton, seed: int, count: int, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Persons (P, K, 3) in quarters of the image, and their scales (P,)."""
    rng = np.random.default_rng(seed)
    corners = [(x, y) for x in (20, 220) for y in (20, 220)]
    persons = [
        np.column_stack(
            [rng.uniform(0, 160, (skeleton.num_keypoints, 2)) + corners[p], np.full(len(skeleton.sigmas), 2)]
        )
        for p in rng.permutation(4)[:count]
    ]
    keypoints = np.array(persons)
    keypoints[:, :, :2] *= size / SIZE
    return torch.tensor(keypoints, dtype=torch.float32), torch.full((count,), 160.0 * size / SIZE)


def mirrored(keypoints: Tensor, skeleton: Skeleton) -> Tensor:
    keypoints = keypoints[:, list(skeleton.flip)].clone()
    keypoints[:, :, 0] = SIZE - 1 - keypoints[:, :, 0]
    return keypoints


def fields_of(keypoints: Tensor, scales: Tensor, spec: FieldSpec, size: tuple[int, int] = (SIZE, SIZE)):
    return perfect_fields(encode(keypoints[None], scales[None], spec, size))


def assert_same_poses(ours, theirs, tolerance: float) -> None:
    """Each pose of the one is a pose of the other, keypoint by keypoint."""
    assert len(ours) == len(theirs)
    for pose in ours.keypoints:
        distance = np.abs(theirs.keypoints[:, :, :2] - pose[None, :, :2]).max(axis=(1, 2))
        assert distance.min() < tolerance
        assert ((theirs.keypoints[distance.argmin(), :, 2] > 0) == (pose[:, 2] > 0)).all()


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, MPII, ONE_SIDED], ids=lambda s: s.name)
@laws
@given(seed=st.integers(0, 10**6))
def test_the_mirror_image_of_a_mirror_image_is_the_image(skeleton: Skeleton, seed: int) -> None:
    pif, paf = random_fields(skeleton, seed)
    twice = flip_fields(*flip_fields(pif, paf, skeleton), skeleton)
    assert torch.equal(twice[0], pif)
    assert torch.equal(twice[1], paf)


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, MPII], ids=lambda s: s.name)
@laws
@given(seed=st.integers(0, 10**6), count=st.integers(1, 4))
def test_a_mirrored_scenes_fields_mirrored_are_the_scenes_own(skeleton: Skeleton, seed: int, count: int) -> None:
    spec = FieldSpec(skeleton, 8)
    keypoints, scales = scene(skeleton, seed, count)
    own = fields_of(keypoints, scales, spec)
    other = flip_fields(*fields_of(mirrored(keypoints, skeleton), scales, spec), skeleton)
    for ours, theirs in zip(own, other, strict=True):
        # the very few cells that two keypoints are equally near to may fall to either
        assert ((ours - theirs).abs() < 1e-3).float().mean() > 0.999
    assert_same_poses(Decoder(spec)(own[0][0], own[1][0]), Decoder(spec)(other[0][0], other[1][0]), 0.1)


@pytest.mark.parametrize("skeleton", [COCO, MPII], ids=lambda s: s.name)
@laws
@given(seed=st.integers(0, 10**6), count=st.integers(1, 4))
def test_a_scene_fused_with_its_mirror_image_decodes_to_the_same_persons(
    skeleton: Skeleton, seed: int, count: int
) -> None:
    spec = FieldSpec(skeleton, 8)
    keypoints, scales = scene(skeleton, seed, count)
    own = fields_of(keypoints, scales, spec)
    other = flip_fields(*fields_of(mirrored(keypoints, skeleton), scales, spec), skeleton)
    fused = fuse_fields([own, other], [False, True], skeleton)
    assert_same_poses(Decoder(spec)(fused[0][0], fused[1][0]), Decoder(spec)(own[0][0], own[1][0]), 0.1)


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5])
@laws
@given(seed=st.integers(0, 10**6), count=st.integers(1, 4))
def test_a_scene_at_another_scale_decodes_to_the_same_persons(scale: float, seed: int, count: int) -> None:
    spec = FieldSpec(COCO, 8)
    keypoints, scales = scene(COCO, seed, count)
    own = fields_of(keypoints, scales, spec)
    size = round(400 * scale / 8) * 8 + 1
    factor = (size - 1) / 400
    smaller = keypoints * torch.tensor([factor, factor, 1])
    other = resample_fields(*fields_of(smaller, scales * factor, spec, (size, size)), spec.size(SIZE, SIZE))
    assert other[0].shape == own[0].shape
    assert_same_poses(Decoder(spec)(other[0][0], other[1][0]), Decoder(spec)(own[0][0], own[1][0]), 0.5)
    both = fuse_fields([own, other], [False, False], COCO)
    assert_same_poses(Decoder(spec)(both[0][0], both[1][0]), Decoder(spec)(own[0][0], own[1][0]), 0.5)
    surest = own[0][:, :, PIF.CONFIDENCE] == 1
    assert torch.allclose(both[0][:, :, PIF.SCALE][surest], own[0][:, :, PIF.SCALE][surest], rtol=0.01)


def test_equal_views_are_their_own_fusion() -> None:
    pif, paf = random_fields(COCO, 0)
    for ours, theirs in zip(fuse_fields([(pif, paf)] * 3, [False] * 3, COCO), (pif, paf), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_confidence_is_averaged_and_offsets_are_weighted_by_it() -> None:
    first, second = (torch.zeros(1, 3, 5, 1, 1) for _ in range(2))
    first[:, :, PIF.CONFIDENCE], second[:, :, PIF.CONFIDENCE] = 0.9, 0.3
    first[:, :, PIF.X], second[:, :, PIF.X] = 1.0, -0.2
    paf = torch.zeros(1, 1, 7, 1, 1)
    pif, _ = fuse_fields([(first, paf), (second, paf)], [False, False], ONE_SIDED)
    assert pif[0, 0, :2].flatten().tolist() == pytest.approx([0.6, 0.7])  # (0.9 · 1 − 0.3 · 0.2) / 1.2


def test_views_that_mean_different_persons_are_not_averaged() -> None:
    first, second = (torch.zeros(1, 3, 5, 1, 1) for _ in range(2))
    first[:, :, PIF.CONFIDENCE], second[:, :, PIF.CONFIDENCE] = 0.9, 0.3
    first[:, :, PIF.X], second[:, :, PIF.X] = 1.5, -1.5
    paf = torch.zeros(1, 1, 7, 1, 1)
    pif, _ = fuse_fields([(second, paf), (first, paf)], [False, False], ONE_SIDED)
    assert pif[0, 0, PIF.X].item() == 1.5


def test_a_limb_without_mirror_image_is_read_from_the_image_itself() -> None:
    assert mirrored_limbs(ONE_SIDED).tolist() == [False]
    assert mirrored_limbs(COCO).all()
    pif, paf = random_fields(ONE_SIDED, 1)
    fused = fuse_fields([(pif, paf), (pif, torch.ones_like(paf))], [False, True], ONE_SIDED)
    torch.testing.assert_close(fused[1], paf)
    with pytest.raises(GraphposeError, match="mirrored views alone say nothing"):
        fuse_fields([(pif, paf)] * 2, [True, True], ONE_SIDED)


def test_lengths_of_a_half_size_view_are_doubled() -> None:
    pif, paf = torch.zeros(1, 3, 5, 5, 5), torch.zeros(1, 1, 7, 5, 5)
    pif[:, :, PIF.CONFIDENCE] = paf[:, :, PAF.CONFIDENCE] = 1
    pif[:, :, PIF.X], pif[:, :, PIF.SCALE], paf[:, :, PAF.Y2] = 0.5, 2.0, -1.5
    fine_pif, fine_paf = resample_fields(pif, paf, (9, 9))
    assert fine_pif[0, 0, :, 4, 4].tolist() == pytest.approx([1, 1, 0, np.log(2), 4])
    assert fine_paf[0, 0, :, 4, 4].tolist() == pytest.approx([1, 0, 0, np.log(2), 0, -3, np.log(2)])


def test_resized_images_keep_their_corners_and_their_straight_lines() -> None:
    ramp = torch.linspace(0, 1, 401)[None, None, None].expand(1, 3, 321, 401)
    half = resize_aligned(ramp, 0.75, 8)
    assert half.shape == (1, 3, 241, 305)
    torch.testing.assert_close(half[0, 0, 0], torch.linspace(0, 1, 305), atol=1e-5, rtol=0)


@given(height=st.integers(1, 900), width=st.integers(1, 900), stride=st.sampled_from([4, 8, 16]))
def test_aligned_sizes_are_the_least_that_end_on_a_cell(height: int, width: int, stride: int) -> None:
    for n, aligned in zip((height, width), aligned_size(height, width, stride), strict=True):
        assert aligned % stride == 1
        assert n <= aligned < n + stride


@pytest.mark.parametrize("scales", [(), (1.0, 1.0), (0.0,), (-1.0,), (float("nan"),)])
def test_scales_that_make_no_sense_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(GraphposeError, match="test scales"):
        FusionConfig(scales=scales)


def test_sizes_are_merged_by_fields_or_poses_only() -> None:
    with pytest.raises(GraphposeError, match="by 'fields' or by 'poses', not by 'mean'"):
        FusionConfig(merge="mean")  # type: ignore[arg-type]


def test_each_size_is_decoded_alone_where_poses_are_merged(network: PoseNetwork) -> None:
    def fields(images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = network(images)
        return outputs["pif"].sigmoid(), outputs["paf"].sigmoid()

    images, stride = torch.randn(2, 3, 70, 90), network.spec.stride
    with torch.inference_mode():
        views = views_to_decode(fields, images, network.spec, FusionConfig(scales=(1.0, 0.5), merge="poses"))
        (together,) = views_to_decode(fields, images, network.spec, FusionConfig(scales=(1.0, 0.5)))
    H, W = aligned_size(70, 90, stride)
    for view, scale in zip(views, (1.0, 0.5), strict=True):
        h, w = (round((n - 1) * scale / stride) * stride + 1 for n in (H, W))
        assert view.pif.shape[-2:] == view.paf.shape[-2:] == network.spec.size(h, w)
        assert view.factors == ((h - 1) / (H - 1), (w - 1) / (W - 1))
    assert together.factors == (1.0, 1.0)
    padded = torch.nn.functional.pad(images, (0, W - 90, 0, H - 70))
    with torch.inference_mode():
        torch.testing.assert_close(views[0].pif, fields(padded)[0])


@pytest.fixture(scope="module")
def network() -> PoseNetwork:
    torch.manual_seed(0)
    return PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency="identity")).eval()


def test_every_view_of_a_real_network_lands_on_one_grid(network: PoseNetwork) -> None:
    def fields(images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = network(images)
        return outputs["pif"].sigmoid(), outputs["paf"].sigmoid()

    images = torch.randn(2, 3, 70, 90)
    with torch.inference_mode():
        pif, paf = fused_fields(fields, images, network.spec, FusionConfig(flip=True, scales=(1.0, 0.75, 1.5)))
    h, w = network.spec.size(*aligned_size(70, 90, network.spec.stride))
    assert pif.shape == (2, 17, 5, h, w)
    assert paf.shape == (2, 19, 7, h, w)
    assert torch.isfinite(pif).all()
    assert torch.isfinite(paf).all()


def test_flip_fusion_of_an_image_and_of_its_mirror_image_are_mirror_images(network: PoseNetwork) -> None:
    """Whatever the network says: the fusion has no side that it prefers."""

    def fields(images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = network(images)
        return outputs["pif"].sigmoid(), outputs["paf"].sigmoid()

    images = torch.randn(1, 3, 65, 97)
    with torch.inference_mode():
        ours = fused_fields(fields, images, network.spec, FusionConfig(flip=True))
        theirs = fused_fields(fields, images.flip(-1), network.spec, FusionConfig(flip=True))
    for one, other in zip(ours, flip_fields(*theirs, COCO), strict=True):
        torch.testing.assert_close(one[:, :, 0], other[:, :, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("merge", ["fields", "poses"])
def test_evaluation_with_fusion_finds_the_persons_of_an_exact_network(merge: Merge) -> None:
    class Exact(torch.nn.Module):
        """Encodes the batch's own persons as it sees them: at the view's size, and mirrored where the view is."""

        def __init__(self) -> None:
            super().__init__()
            self.spec, self.unused = FieldSpec(COCO, 4), torch.nn.Parameter(torch.zeros(1))
            self.views: list[tuple[int, int]] = []

        def watch(self, loader):
            for self.batch in loader:
                yield self.batch

        def forward(self, images: Tensor):
            H, W = images.shape[-2:]
            size = aligned_size(*self.batch.images.shape[-2:], 4)
            factor = (W - 1) / (size[1] - 1)
            keypoints = self.batch.keypoints * torch.tensor([factor, factor, 1])
            if self.views.count((H, W)) % 2:  # the second view of a size is its mirror image
                keypoints = keypoints[:, :, list(COCO.flip)]
                keypoints[..., 0] = torch.where(keypoints[..., 2] > 0, W - 1 - keypoints[..., 0], 0)
            self.views.append((H, W))
            fields = perfect_fields(encode(keypoints, self.batch.scales * factor, self.spec, (H, W)))
            for field in fields:
                field[:, :, 0] = torch.logit(field[:, :, 0], eps=1e-4)
            return {"pif": fields[0], "paf": fields[1]}

    dataset = DemoDataset(6, seed=2, size=160)
    network = Exact()
    loader = make_loader(dataset, EvalTransform(None), 3, shuffle=False)
    found = evaluate(
        network, build_decoder(network.spec), network.watch(loader), dataset.ground_truth(),
        fusion=FusionConfig(flip=True, scales=(1.0, 0.75), merge=merge),
    )  # fmt: skip
    assert set(network.views) == {(161, 161), (121, 121)}
    assert len(network.views) == 8
    assert found.metrics["AP"] >= 0.9


def test_mirror_images_of_unknown_meaning_are_not_fused():
    spec = FieldSpec(Skeleton("s", ("a", "b"), ((0, 1),), (0.1, 0.1)), 8)
    with pytest.raises(GraphposeError, match="skeleton 's' states no flip pairs and none are found in its names"):
        fused_fields(lambda images: (images, images), torch.zeros(1, 3, 17, 17), spec, FusionConfig(flip=True))
