"""The averaged weights."""

import copy

import torch

from graphpose.training.ema import ModelEma


def test_the_average_is_the_recursion_written_out():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    ema = ModelEma(network, decay=0.3)
    expected = None
    for step in range(6):
        with torch.no_grad():
            for value in (*network.parameters(), network[1].running_mean):
                value.copy_(torch.randn_like(value))
            network[1].num_batches_tracked += 1
        ema.update(network)
        current = network[0].weight.detach().clone()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = current if expected is None else decay * expected + (1 - decay) * current
        torch.testing.assert_close(ema.module[0].weight.detach(), expected)
    assert ema.module[1].num_batches_tracked == 6
    assert ema.steps == 6


def test_the_bits_are_those_of_timm():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(2, 2))
    ours, timms = ModelEma(network, decay=0.9), ModelEma.__base__(network, decay=0.9)
    for _ in range(4):
        for value in network.state_dict().values():
            value.copy_(torch.randn(value.shape) * 100)
        timms.apply_update_(network, ours.get_decay())
        ours.update(network)
    pairs = zip(ours.module.state_dict().values(), timms.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_another_network_than_the_first_is_followed_as_well():
    network = torch.nn.BatchNorm1d(2)
    ema, other = ModelEma(network, decay=0.0), copy.deepcopy(network)
    ema.update(network)
    other.weight.data.fill_(7)
    ema.update(other)
    assert ema.module.weight.tolist() == [7, 7]
