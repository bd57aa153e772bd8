"""The averaged weights."""

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
