"""Training on sets with different labels: a run that was stopped goes on bit for bit, and one set alone says nothing of
what only the other labels."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from graphpose.checkpoint import load_checkpoint
from graphpose.data.config import AugmentConfig, CrowdConfig
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.matched import MatchedDataset
from graphpose.data.mix import MixedDataset
from graphpose.data.mosaic import CrowdTransform
from graphpose.data.sample import Sample
from graphpose.data.transforms import TrainTransform
from graphpose.nn.config import LossConfig
from graphpose.nn.losses import PoseLoss
from graphpose.skeleton import COCO, Skeleton
from graphpose.training.trainer import Trainer
from tests.training.tiny import CONFIG, states_equal, tiny_trainer

BODY = Skeleton("body", COCO.keypoints[5:], (), COCO.sigmas[5:])


class Bodies:
    """Rendered scenes whose faces nobody has labelled."""

    skeleton = BODY

    def __init__(self, length: int) -> None:
        self.scenes = DemoDataset(length, seed=7, size=64)
        self.image_ids = self.scenes.image_ids

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        sample = self.scenes[index]
        persons = dataclasses.replace(sample.persons, keypoints=sample.persons.keypoints[:, 5:])
        return dataclasses.replace(sample, persons=persons)

    def ground_truth(self) -> dict[str, Any]:
        return self.scenes.ground_truth()


def mixed_trainer(crowd: CrowdConfig | None, scenes: int = 4, device: str = "cpu") -> Trainer:
    sets = [MatchedDataset(Bodies(6), COCO, name="bodies", complete=False)]
    sets += [MatchedDataset(DemoDataset(scenes, seed=4, size=64), COCO, name="scenes")] if scenes else []
    mix = MixedDataset(sets, [1, 2][: len(sets)])
    transform: Any = TrainTransform(64, COCO, AugmentConfig(long_edge=64))
    if crowd is not None:
        transform = CrowdTransform(transform, mix, crowd)
    loader = make_loader(mix, transform, 3, shuffle=True, seed=5)
    return Trainer(tiny_trainer(device=device).network, PoseLoss(LossConfig(regression_loss="laplace")), loader, CONFIG)


@pytest.mark.slow
@pytest.mark.parametrize("crowd", [None, CrowdConfig(mosaic=0.5, paste=0.3)])
def test_a_run_on_a_mix_goes_on_bit_for_bit_from_the_middle_of_an_epoch(crowd: Any, tmp_path: Path) -> None:
    straight = mixed_trainer(crowd)
    assert straight.steps_per_epoch == 5
    straight.train_epoch()

    def save_once() -> None:
        if straight.step == 2:
            straight.save(tmp_path / "c.pt")

    straight.train_epoch(save_once)
    resumed = mixed_trainer(crowd)
    resumed.restore(load_checkpoint(tmp_path / "c.pt"))
    assert (resumed.epoch, resumed.step) == (1, 2)
    figures = resumed.train_epoch()
    assert states_equal(straight.network, resumed.network)
    assert states_equal(straight.averaged, resumed.averaged)
    assert figures["loss.total"] == straight.history[1]["loss.total"]


@pytest.mark.parametrize("crowd", [None, CrowdConfig(mosaic=0.5, paste=0.3)])
def test_a_mix_has_the_cpu_s_losses_on_a_device_and_only_its_encoder_waits(cuda, crowd: Any) -> None:
    found = []
    for device in ("cpu", "cuda:1"):
        trainer = mixed_trainer(crowd, device=device)
        trainer._set_modes()
        for batch in trainer.loader:
            cuda.waits.clear()
            trainer.train_step(batch)
            assert [wait.operation for wait in cuda.waits if wait.stream == "default"] == []
        found.append((trainer.meter.state_dict()["parts"], trainer.meter.state_dict()["sets"]))
    assert found[0] == found[1]
    assert set(found[0][1]) == {"bodies", "scenes"}


def test_a_set_without_faces_leaves_the_faces_weights_of_the_heads_alone() -> None:
    trainer = mixed_trainer(None, scenes=0)
    trainer.config = dataclasses.replace(trainer.config, frozen_backbone_epochs=0)
    trainer._set_modes()
    batch = next(iter(trainer.loader))
    assert batch.sources == ["bodies"] * 3
    assert batch.known is not None
    assert not batch.known[:, :, :5].any()
    trainer.train_step(batch)
    heads = (trainer.network.pif_head, trainer.network.paf_head)
    faces = [list(range(5)), [m for m, limb in enumerate(COCO.limbs) if min(limb) < 5]]
    for head, unknown in zip(heads, faces, strict=True):
        assert head.conv.weight.grad is not None
        of_field = head.conv.weight.grad.reshape(head.shape[0], -1).abs().sum(dim=1)
        assert (of_field[unknown] == 0).all()
        assert (torch.nonzero(of_field).squeeze(1)).tolist() == [i for i in range(head.shape[0]) if i not in unknown]


@pytest.mark.slow
def test_the_losses_of_the_sets_add_up_to_those_of_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without confidences, all is a sum over images divided by their number."""
    trainer = mixed_trainer(None)
    trainer.loss = PoseLoss(LossConfig(pif_confidence=0, paf_confidence=0, intermediate=0))
    update, totals = trainer.meter.update, []

    def note(parts: Any, image_ids: list[int]) -> None:
        totals.append(len(image_ids) * float(parts["total"]))
        update(parts, image_ids)

    monkeypatch.setattr(trainer.meter, "update", note)
    figures = trainer.train_epoch()
    images = [figures[f"{name}.images"] for name in ("bodies", "scenes")]
    losses = [figures[f"{name}.loss"] for name in ("bodies", "scenes")]
    assert images == [6, 8]
    assert losses[0] != losses[1]
    assert sum(n * loss for n, loss in zip(images, losses, strict=True)) == pytest.approx(sum(totals), rel=1e-5)
