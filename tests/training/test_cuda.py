"""Training on an emulated device: every kind of network and setting, and what it must not wait for."""

import re
from typing import get_args

import pytest
import torch

from graphpose.checkpoint import load_checkpoint
from graphpose.errors import GraphposeError
from graphpose.fields.scatter import torch_scatter
from graphpose.nn.config import Adjacency
from graphpose.training.checkpointer import Checkpointer
from graphpose.training.stop import StopRequest
from tests.training.tiny import tiny_trainer

GRAPHS = {
    "none": {"adjacency": "none"},
    "identity": {"adjacency": "identity"},
    "hand_crafted": {"adjacency": "hand_crafted"},
    "full": {"adjacency": "full"},
    "soft": {"adjacency": "soft"},
    "dynamic": {"adjacency": "dynamic"},
    "per_sample": {"adjacency": "dynamic", "per_sample": True},
    "pool": {"adjacency": "dynamic", "graph_pool": 4},
    "masked": {"adjacency": "soft", "absent_edges": "masked", "graph_layers": 3},
    "local": {"adjacency": "dynamic", "non_local": False},
    "wide": {"adjacency": "dynamic", "node_width": 2},
    "pyramid": {"adjacency": "dynamic", "strides": (16, 8, 4)},
    "GCN": {"adjacency": "dynamic", "graph_layer": "DenseGCNConv", "per_sample": True},
    "SAGE": {"adjacency": "soft", "graph_layer": "DenseSAGEConv", "node_width": 2},
    "GraphConv": {"adjacency": "dynamic", "graph_layer": "DenseGraphConv"},
    "GIN": {"adjacency": "dynamic", "graph_layer": "DenseGINConv"},
    "GAT": {"adjacency": "dynamic", "graph_layer": "DenseGATConv", "per_sample": True},
    "soft_modes": {"adjacency": "soft_modes", "modes": 2},
    "modes": {"adjacency": "modes", "modes": 3, "strides": (16, 8)},
}
SETTINGS = {
    "sgd": {"optimizer": "sgd"},
    "adamw": {"optimizer": "adamw", "clip_norm": 1.0},
    "bfloat16": {"optimizer": "sgd", "precision": "bfloat16"},
    "float16": {"optimizer": "sgd", "precision": "float16", "clip_norm": 1.0},
    "accumulate": {"optimizer": "adamw", "accumulate": 2},
    "contiguous": {"optimizer": "sgd", "channels_last": False, "ema_decay": 0.0},
    "thawed": {"optimizer": "sgd", "frozen_backbone_epochs": 0, "freeze_batch_norm": True},
    "baseline": {"optimizer": "sgd", "frozen_backbone_epochs": 0, "baseline_learning_rate_factor": 0.1},
}
# every graph with two settings, every setting with two to four graphs
CONFIGURATIONS = [
    (graph, list(SETTINGS)[(i + shift) % len(SETTINGS)]) for i, graph in enumerate(GRAPHS) for shift in (0, 3)
]
DRAWN = {"dynamic", "per_sample", "pool", "local", "wide", "pyramid", "GCN", "GraphConv", "GIN", "GAT", "modes"}


def trainer_on(device, graph="dynamic", setting="sgd", **changes):
    trainer = tiny_trainer(4, 2, device=device, network=GRAPHS[graph], **SETTINGS[setting] | changes)
    trainer._set_modes()
    return trainer


def test_no_graph_and_no_precision_is_left_out():
    settings = SETTINGS.values()
    assert {graph["adjacency"] for graph in GRAPHS.values()} == set(get_args(Adjacency))
    assert {setting.get("precision", "float32") for setting in settings} == {"float32", "bfloat16", "float16"}
    assert {setting for _, setting in CONFIGURATIONS} == set(SETTINGS)


@pytest.mark.parametrize(("graph", "setting"), CONFIGURATIONS)
def test_a_step_stays_on_its_device_and_only_the_encoder_waits(cuda, graph, setting):
    trainer = trainer_on("cuda:1", graph, setting)
    batch = next(iter(trainer.loader))
    trainer.train_step(batch)  # what is made once is made here
    cuda.waits.clear()
    cuda.copies.clear()
    parts = trainer.train_step(batch)
    assert {str(value.device) for value in (*parts.values(), *trainer.network.state_dict().values())} == {"cuda:1"}
    assert {str(device) for device in cuda.used} == {"cuda:1"}  # no context on another
    assert not [name for name, p in trainer.network.named_parameters() if p.requires_grad and p.grad is None]
    elsewhere = [wait.operation for wait in cuda.waits if wait.stream == "default"]
    if setting != "float16":  # the scaler has to know whether it skips a step
        assert elsewhere == []
    assert len(cuda.waits) <= 5 or setting == "float16"  # how many cells keypoints and limbs cover, and win
    drawn = [copy for copy in cuda.copies if copy[0] == "graphpose::draw_uniform"]
    assert len(drawn) == (graph in DRAWN) * SETTINGS[setting].get("accumulate", 1)
    assert all(kind in ("non-blocking", "graphpose::draw_uniform") for kind, _ in cuda.copies)


@pytest.mark.parametrize("graph", ["none", "pyramid"])
def test_an_emulated_step_has_the_bits_of_the_cpu_s(cuda, graph):
    networks = []
    for device in ("cpu", "cuda"):
        trainer = trainer_on(device, graph, "adamw")  # fused on either
        for batch in trainer.loader:
            trainer.train_step(batch)
        networks.append(trainer.network.to("cpu"))
    pairs = zip(networks[0].state_dict().values(), networks[1].state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.skipif(torch_scatter() is None, reason="torch-scatter is not installed")
def test_a_torch_scatter_without_cuda_is_left_out_on_cuda(cuda):
    with pytest.raises(RuntimeError, match="Not compiled with CUDA support"):
        torch_scatter().scatter_min(torch.ones(2, device="cuda"), torch.zeros(2, dtype=torch.long, device="cuda"))
    trainer = trainer_on("cuda")
    trainer.train_step(next(iter(trainer.loader)))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_loss_that_is_found_late_keeps_its_images_and_no_checkpoint_is_written(cuda, tmp_path, precision):
    trainer = trainer_on("cuda", precision=precision)
    checkpointer = Checkpointer(trainer, tmp_path / "c.pt", {}, {}, StopRequest())
    for number, batch in enumerate(trainer.loader):
        if number == 0:
            batch.images[:] = float("nan")
            bad = batch.image_ids
        trainer.train_step(batch)  # nothing is read yet
    message = (
        re.escape("the loss is not finite (pif_confidence nan, pif_offset nan")
        + f".* on image ids {re.escape(str(bad))}"
    )
    for save in (checkpointer.save, checkpointer.after_failure, checkpointer.save):
        with pytest.raises(GraphposeError, match=message):
            save()
    assert not list(tmp_path.iterdir())


def test_a_step_that_the_scaler_skips_moves_neither_schedule_nor_average(cuda):
    trainer = trainer_on("cuda", setting="float16")
    batch = next(iter(trainer.loader))
    moved = []
    for scale in (2.0**40, 1.0, 1.0, 2.0**40):  # beyond float16 as long as gradients are not below 2^-24
        trainer.scaler.load_state_dict({**trainer.scaler.state_dict(), "scale": scale})
        before = [p.detach().clone() for p in trainer.network.parameters()]
        counts = trainer.schedule.last_epoch, trainer.ema.steps
        trainer.train_step(batch)
        learned = not all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))
        advanced = trainer.schedule.last_epoch - counts[0], trainer.ema.steps - counts[1]
        assert advanced == (learned, learned)
        moved.append(learned)
    assert moved == [False, True, True, False]


def test_a_run_goes_on_bit_for_bit_on_its_device(cuda, tmp_path):
    """The emulated device adds in one order every time, as CUDA does with ``deterministic``."""
    straight, resumed = (trainer_on("cuda:1", setting="adamw", deterministic=True) for _ in range(2))
    first, second = straight.loader
    straight.train_step(first)
    straight.save(tmp_path / "c.pt")
    straight.train_step(second)
    resumed.restore(load_checkpoint(tmp_path / "c.pt"))
    resumed.train_step(second)
    for a, b in ((straight.network, resumed.network), (straight.averaged, resumed.averaged)):
        assert all(torch.equal(x.cpu(), y.cpu()) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(("before", "after"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_another_kind_of_device(cuda, tmp_path, before, after):
    trainers = {device: trainer_on(device) for device in (before, after)}
    batch = next(iter(trainers[before].loader))
    trainers[before].train_step(batch)
    trainers[before].save(tmp_path / "c.pt")
    resumed = trainers[after]
    resumed.restore(load_checkpoint(tmp_path / "c.pt"))
    assert [group["fused"] for group in resumed.optimizer.param_groups] == [after == "cuda"] * 2
    resumed.train_step(batch)
    for tensor in (*resumed.network.state_dict().values(), *resumed.averaged.state_dict().values()):
        assert tensor.device.type == after
