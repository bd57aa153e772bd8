"""The learning rate, and whose it is."""

import pytest
import torch

from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.training.config import TrainConfig
from graphpose.training.optimizer import learning_rate_factor, make_optimizer


def test_learning_rate_rises_then_steps_or_follows_the_cosine():
    step = TrainConfig(epochs=100, warmup_epochs=1, schedule="step", milestones=(75, 90))
    assert learning_rate_factor(0, step) == pytest.approx(0.01)
    assert learning_rate_factor(0.5, step) == pytest.approx(0.505)
    assert [learning_rate_factor(e, step) for e in (1, 74.9, 75, 90)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = TrainConfig(epochs=11, warmup_epochs=1, schedule="cosine")
    assert [learning_rate_factor(e, cosine) for e in (1, 6, 11)] == pytest.approx([1, 0.5, 0])


def lr_of(network: PoseNetwork, **changes) -> dict[str, float]:
    """Learning rate of each parameter by name."""
    optimizer = make_optimizer(network, TrainConfig(learning_rate=0.5, weight_decay=0.1, **changes))
    groups = [group for group in optimizer.param_groups if group["params"]]
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups)  # each once
    assert all(decays[id(p)] == (0.1 if p.ndim > 1 else 0.0) for p in network.parameters())
    return {name: rates[id(parameter)] for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_trunk_and_heads_learn_at_a_fraction_of_the_dgcms_rate(optimizer):
    network = PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True))
    rates = lr_of(network, optimizer=optimizer, baseline_learning_rate_factor=0.1)
    old = {name for name in rates if name.startswith(("backbone.", "pif_head.", "paf_head."))}
    assert {rates[name] for name in old} == {0.05}
    assert {rates[name] for name in rates.keys() - old} == {0.5}
    assert set(lr_of(network, optimizer=optimizer).values()) == {0.5}
    without = PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True, adjacency="none"))
    assert set(lr_of(without, optimizer=optimizer, baseline_learning_rate_factor=0.1).values()) == {0.05}


def test_a_factor_of_0_keeps_trunk_and_heads():
    network = PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True))
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = make_optimizer(network, TrainConfig(weight_decay=0.1, baseline_learning_rate_factor=0.0))
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kept = {name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])}
    assert kept == {name for name in before if name.startswith(("backbone.", "pif_head.", "paf_head."))}
