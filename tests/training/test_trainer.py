"""Training: schedule, averages, restoring, and batches that must not train."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.losses import PoseLoss
from graphpose.nn.network import PoseNetwork
from graphpose.training.config import TrainConfig
from graphpose.training.optimizer import learning_rate_factor
from graphpose.training.prepare import Preparation
from graphpose.training.trainer import Trainer

QUICK = TrainConfig(
    epochs=2,
    optimizer="adamw",
    learning_rate=2e-3,
    schedule="constant",
    warmup_epochs=0,
    frozen_backbone_epochs=0,
    freeze_batch_norm=False,
    ema_decay=0.9,
)


def make_trainer(config: TrainConfig = QUICK, adjacency: str = "dynamic", scenes: int = 6) -> Trainer:
    torch.manual_seed(3)
    network = PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency=adjacency))
    network.seed_graphs(3)
    loader = make_loader(DemoDataset(scenes, seed=4, size=96), EvalTransform(None), 3, shuffle=True, seed=5)
    return Trainer(network, PoseLoss(), loader, config)


def states_equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("adjacency", ["none", "dynamic"])
def test_the_loss_falls_on_a_few_scenes(adjacency):
    trainer = make_trainer(dataclasses.replace(QUICK, epochs=15), adjacency)
    losses = [trainer.train_epoch()["loss.total"] for _ in range(15)]
    assert losses[-1] < 0.6 * losses[0]


def test_a_restored_trainer_continues_bit_for_bit(tmp_path):
    straight = make_trainer()
    straight.train_epoch()
    straight.save(tmp_path / "c.pt")
    straight.train_epoch()
    from graphpose.checkpoint import load_checkpoint

    resumed = make_trainer()
    resumed.restore(load_checkpoint(tmp_path / "c.pt"))
    assert resumed.epoch == 1
    resumed.train_epoch()
    assert states_equal(straight.network, resumed.network)
    assert states_equal(straight.averaged, resumed.averaged)


def test_a_checkpoint_of_weights_alone_cannot_be_trained_on():
    with pytest.raises(GraphposeError, match="weights only"):
        make_trainer().restore({"training": {}})


def test_a_loss_that_is_not_finite_stops_names_the_images_and_changes_nothing():
    trainer = make_trainer()
    trainer._set_modes()
    batch = next(iter(trainer.loader))
    before = [p.clone() for p in trainer.network.parameters()]
    broken = dataclasses.replace(batch, images=batch.images.index_fill(0, torch.tensor([0]), float("nan")))
    with pytest.raises(GraphposeError, match=rf"not finite .* on image ids \[{', '.join(map(str, batch.image_ids))}\]"):
        trainer.train_step(broken)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))


def test_a_batch_without_a_person_trains_with_finite_gradients():
    trainer = make_trainer()
    trainer._set_modes()
    batch = next(iter(trainer.loader))
    nobody = dataclasses.replace(batch, keypoints=batch.keypoints[:, :0], scales=batch.scales[:, :0])
    parts = trainer.train_step(nobody)
    assert parts["pif_offset"] == 0
    assert all(torch.isfinite(p).all() for p in trainer.network.parameters())


def test_the_backbone_rests_in_the_first_epoch_and_learns_in_the_second():
    trainer = make_trainer(dataclasses.replace(QUICK, frozen_backbone_epochs=1))
    weights = [p.clone() for p in trainer.network.backbone.parameters()]
    statistics = [b.clone() for b in trainer.network.backbone.buffers()]
    trainer.train_epoch()
    assert all(torch.equal(a, b) for a, b in zip(weights, trainer.network.backbone.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(statistics, trainer.network.backbone.buffers(), strict=True))
    trainer.train_epoch()
    assert not all(torch.equal(a, b) for a, b in zip(weights, trainer.network.backbone.parameters(), strict=True))


class Copies(TorchDispatchMode):
    """Notes every operation that takes or gives tensors of several devices."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor) and leaf.ndim]
        if len({tensor.device for tensor in tensors}) > 1:
            self.operations.append(func.name())
        return result


@pytest.mark.parametrize(
    ("graph", "changes", "draws"),
    [
        ({"adjacency": "none"}, {}, 0),
        ({"adjacency": "soft", "strides": (16, 8, 4), "node_width": 2}, {}, 0),
        ({"adjacency": "dynamic"}, {"precision": "bfloat16", "clip_norm": 1.0}, 1),
        ({"adjacency": "dynamic", "per_sample": True}, {"accumulate": 2}, 2),
        ({"adjacency": "dynamic", "graph_pool": 4}, {}, 1),
    ],
)
def test_a_step_never_waits_for_its_device(monkeypatch, graph, changes, draws):
    """On a device that has no numbers to give; only the drawn graphs come from the host, once a pass."""
    autocast = torch.autocast  # which does not know the device, and has nothing to choose there
    monkeypatch.setattr(torch, "autocast", lambda device, *args, **options: autocast("cpu", *args, **options))
    network = PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, **graph)).to("meta")
    loader = make_loader(DemoDataset(3, seed=4, size=96), EvalTransform(None), 3, shuffle=False)
    config = dataclasses.replace(QUICK, optimizer="sgd", **changes)  # torch's fused AdamW does not know the device
    trainer = Trainer(network, PoseLoss(), loader, config)
    batch = next(iter(loader))
    on_host = Preparation(torch.device("cpu"), network.spec, config.channels_last)(batch)
    ready = tuple(tensor.to("meta") for tensor in on_host)
    monkeypatch.setattr(trainer, "prepare", lambda _: ready)  # encoding waits, on a stream of its own
    trainer._set_modes()
    with Copies() as copies:
        parts = trainer.train_step(batch)
    assert {part.device.type for part in parts.values()} == {"meta"}
    assert copies.operations == ["graphpose::draw_uniform"] * draws


def test_relation_weights_change_in_training():
    trainer = make_trainer()
    before = {n: p.clone() for n, p in trainer.network.named_parameters() if n.endswith("W_d")}
    assert before
    trainer.train_epoch()
    trainer.train_epoch()
    after = dict(trainer.network.named_parameters())
    assert all(not torch.equal(after[name], value) for name, value in before.items())


def test_unreadable_images_are_counted_and_the_epoch_goes_on():
    class Damaged(DemoDataset):
        def __getitem__(self, index):
            if index == 2:
                raise GraphposeError("image 'scene_000003.png' is truncated")
            return super().__getitem__(index)

    trainer = make_trainer()
    trainer.loader = make_loader(Damaged(6, seed=4, size=96), EvalTransform(None), 3, shuffle=False)
    assert trainer.train_epoch()["unreadable"] == 1


def test_learning_rate_rises_then_steps_or_follows_the_cosine():
    step = TrainConfig(epochs=100, warmup_epochs=1, schedule="step", milestones=(75, 90))
    assert learning_rate_factor(0, step) == pytest.approx(0.01)
    assert learning_rate_factor(0.5, step) == pytest.approx(0.505)
    assert [learning_rate_factor(e, step) for e in (1, 74.9, 75, 90)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = TrainConfig(epochs=11, warmup_epochs=1, schedule="cosine")
    assert [learning_rate_factor(e, cosine) for e in (1, 6, 11)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"optimizer": "adam"}, "optimizer='adam' must be sgd or adamw"),
        ({"schedule": "linear"}, "schedule='linear'"),
        ({"precision": "fp8"}, "precision='fp8'"),
        ({"ema_decay": 1.0}, "ema_decay=1.0"),
        ({"epochs": 1, "frozen_backbone_epochs": 1}, "frozen_backbone_epochs=1 leaves nothing of epochs=1"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes, message):
    with pytest.raises(GraphposeError, match=message):
        TrainConfig(**changes)
