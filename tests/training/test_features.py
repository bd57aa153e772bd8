"""Features of a frozen trunk: kept with the very targets of the images, and trained on as images are."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from graphpose.data import features
from graphpose.data.config import AugmentConfig, CrowdConfig
from graphpose.data.features import FeatureDataset, FeatureLayout, shard_path, stored_view
from graphpose.data.loader import PoseLoader, collate, make_loader
from graphpose.data.mosaic import CrowdTransform
from graphpose.data.sample import Persons, Sample
from graphpose.data.transforms import TrainTransform
from graphpose.errors import GraphposeError
from graphpose.fields.encode import encode
from graphpose.fields.spec import FieldSpec
from graphpose.nn.backbone import Backbone
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO
from graphpose.training.features import compute_features
from graphpose.training.target_encoder import TargetEncoder

TRUNK = PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, strides=(16,))
SIDE = 64


class Noise:
    """Images of noise with two persons each; in every other image the face is unknown."""

    def __init__(self, length: int) -> None:
        self.skeleton, self.image_ids = COCO, list(range(1, length + 1))

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        keypoints = np.concatenate([rng.uniform(5, 60, (2, 17, 2)), rng.integers(0, 3, (2, 17, 1))], 2)
        area = rng.uniform(100, 900, 2).astype(np.float32)
        persons = Persons(
            keypoints.astype(np.float32), np.full((2, 4), 20, np.float32), area, np.zeros(2, bool), np.arange(2)
        )
        known = np.ones((1, 17), np.float32)
        known[0, :5] = index % 2
        image = rng.integers(255, size=(70, 80, 3), dtype=np.uint8)
        return Sample(image, persons, rng.random((70, 80)) < 0.1, index + 1, f"{index}.png", known, source="noise")

    def ground_truth(self) -> dict[str, Any]:
        return {"images": [], "annotations": [], "categories": []}


class Made(NamedTuple):
    trunk: Backbone
    loader: PoseLoader
    layout: FeatureLayout
    folder: Path
    dataset: Noise

    def compute(self) -> FeatureDataset:
        compute_features(self.trunk, self.loader, self.layout, self.folder)
        return FeatureDataset(self.folder, self.layout, self.dataset)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """What a store of two passes over 20 images needs; shards have 16 views."""
    monkeypatch.setattr(features, "SHARD_VIEWS", 16)
    trunk = PoseNetwork(dataclasses.replace(TRUNK, adjacency="none")).backbone.eval()
    assert isinstance(trunk, Backbone)
    dataset = Noise(20)
    transform = CrowdTransform(
        TrainTransform(SIDE, COCO, AugmentConfig(long_edge=SIDE)), dataset, CrowdConfig(mosaic=0.5)
    )
    loader = make_loader(dataset, transform, 16, shuffle=True, seed=3)
    layout = FeatureLayout({"of": "a test"}, 2, 20, (4, 4), trunk.channels[16], (SIDE, SIDE), 17)
    return Made(trunk, loader, layout, tmp_path / "store", dataset)


def test_views_come_back_with_the_features_and_the_very_targets_of_the_images(made: Made) -> None:
    store, spec = made.compute(), FieldSpec(COCO, 8)
    for number in range(2):
        made.loader.set_epoch(number)
        images = list(made.loader)
        kept = [store[number * 20 + i] for i in range(20)]
        for batch, begin in zip(images, (0, 16), strict=True):
            again = collate([stored_view(sample, np.random.default_rng(0)) for sample in kept[begin : begin + 16]])
            assert (again.image_ids, again.sources, again.size) == (batch.image_ids, batch.sources, batch.size)
            with torch.inference_mode():
                expected = made.trunk(batch.images)[16]
            torch.testing.assert_close(again.images.float(), expected, rtol=1e-3, atol=1e-3)
            targets = [
                encode(b.keypoints, b.scales, spec, b.size, b.ignore, b.known, b.regions) for b in (batch, again)
            ]
            for name in ("pif", "paf"):
                assert torch.equal(*(getattr(t, name).nan_to_num(-9) for t in targets))
            assert torch.equal(batch.to_original, again.to_original)
        assert any(sample.regions is not None for sample in kept)  # mosaics of images that know different keypoints


def test_a_store_that_was_cut_off_is_gone_on_with(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.compute()
    before = {path.name: path.read_bytes() for path in made.folder.glob("*.safetensors")}
    assert len(before) == 4  # two passes of 16 + 4 views
    shard_path(made.folder, 1).unlink()
    shard_path(made.folder, 2).unlink()
    with pytest.raises(GraphposeError, match=r"lack 2 of 4 shards, 00001.safetensors for one"):
        FeatureDataset(made.folder, made.layout, made.dataset)
    capsys.readouterr()
    made.compute()
    assert "features of 20 of 40 views" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in made.folder.glob("*.safetensors")} == before


def test_a_damaged_shard_is_refused(made: Made) -> None:
    made.compute()
    path = shard_path(made.folder, 2)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(GraphposeError, match=r"00002.safetensors are damaged: the checksum is wrong; remove it"):
        FeatureDataset(made.folder, made.layout, made.dataset)
    path.write_bytes(content[:-2000])
    with pytest.raises(GraphposeError, match=r"00002.safetensors cannot be read"):
        FeatureDataset(made.folder, made.layout, made.dataset)


def test_a_disk_that_is_too_small_is_found_before_anything_is_written(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**5))  # type: ignore[attr-defined]
    with pytest.raises(GraphposeError, match=r"features of 40 views take 0.00 GB, .* has 0.00 GB free; choose another"):
        made.compute()
    assert list(made.folder.iterdir()) == []


def test_epochs_take_one_pass_after_the_other_in_orders_of_their_own(made: Made) -> None:
    store = made.compute()
    orders = [store.visits(seed=1, epoch=epoch)[:, 0] for epoch in range(4)]
    assert [
        sorted(order) == list(range(begin, begin + 20)) for order, begin in zip(orders, (0, 20, 0, 20), strict=True)
    ]
    assert not np.array_equal(orders[0], orders[2])


def test_an_image_that_cannot_be_read_ends_the_computation(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Noise, index: int) -> Sample:
        raise GraphposeError(f"image {index}.png does not exist")

    monkeypatch.setattr(Noise, "__getitem__", missing)
    with pytest.raises(GraphposeError, match=r"\.png does not exist; leave the image out of the set"):
        made.compute()


@pytest.mark.parametrize("adjacency", ["none", "soft"])
def test_a_network_on_given_features_is_the_network_on_images(adjacency: str) -> None:
    whole = PoseNetwork(dataclasses.replace(TRUNK, adjacency=adjacency)).eval()  # type: ignore[arg-type]
    given = PoseNetwork(dataclasses.replace(whole.config, given_features=True)).eval()
    given.load_state_dict({name: t for name, t in whole.state_dict().items() if not name.startswith("backbone.")})
    images = torch.randn(2, 3, SIDE, 2 * SIDE)
    with torch.inference_mode():
        expected, found = whole(images), given(whole.backbone(images)[16])
    assert found["pif"].shape[-2:] == whole.spec.size(SIDE, 2 * SIDE)
    torch.testing.assert_close(found, expected)
    with pytest.raises(GraphposeError, match="takes 152 channels of them, not 3 of an image; it has no trunk"):
        given(images)


def test_targets_of_features_are_those_of_their_images_size(made: Made) -> None:
    store = made.compute()
    batch = collate([stored_view(store[i], np.random.default_rng(0)) for i in range(3)])
    images, pif, paf = TargetEncoder(torch.device("cpu"), FieldSpec(COCO, 8), channels_last=True)(batch)
    assert images.shape == (3, 152, 4, 4)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert (pif.shape[-2:], paf.shape[-2:]) == ((8, 8), (8, 8))
