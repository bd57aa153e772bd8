"""Sums over an epoch, and the averaged weights."""

import time

import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.training.averaging import AveragedNetwork
from graphpose.training.sums import READ_EVERY, EpochSums


def parts(value: float) -> dict[str, torch.Tensor]:
    return {"pif_offset": torch.tensor(value), "total": torch.tensor(2 * value)}


def test_figures_are_means_over_steps_and_shares_lie_between_none_and_all():
    sums = EpochSums(torch.device("cpu"))
    sums.start()
    for value in (1.0, 3.0):
        with sums.learning():
            sums.add(parts(value), [1, 2])
    figures = sums.figures(list)
    assert (figures["loss.pif_offset"], figures["loss.total"]) == (2, 4)
    assert 0 <= figures["outside_share"] <= 1
    assert figures["images_per_second"] == pytest.approx(4 / figures["seconds"])


def test_sums_go_on_from_their_state():
    whole, first = EpochSums(torch.device("cpu")), EpochSums(torch.device("cpu"))
    for sums, values in ((whole, (0.1, 0.2, 0.3)), (first, (0.1, 0.2))):
        for value in values:
            sums.add(parts(value), [1])
    second = EpochSums(torch.device("cpu"))
    second.load_state_dict(first.state_dict())
    second.add(parts(0.3), [1])
    assert second.parts == whole.parts
    assert (second.steps, second.images) == (3, 3)


def test_only_the_time_of_an_epoch_counts():
    """Samples are made and networks evaluated between epochs, and checkpoints written."""
    sums = EpochSums(torch.device("cpu"))
    time.sleep(0.02)
    assert sums.state_dict()["seconds"] == 0
    begun = time.perf_counter()
    sums.start()
    time.sleep(0.01)
    assert 0.01 <= sums.state_dict()["seconds"] <= time.perf_counter() - begun


def test_an_epoch_without_an_image_has_no_figures():
    with pytest.raises(GraphposeError, match="no readable image"):
        EpochSums(torch.device("cpu")).figures(list)


def test_on_a_gpu_losses_are_read_once_in_a_while_and_a_bad_one_still_names_its_own_batch():
    sums = EpochSums(torch.device("cuda"))  # no device is needed to keep tensors unread
    for step in range(READ_EVERY - 1):
        sums.add(parts(float("nan") if step == 4 else 1.0), [10 * step, 10 * step + 1])
    assert sums.parts == {}
    with pytest.raises(GraphposeError, match=r"on image ids \[40, 41\]"):
        sums.add(parts(1.0), [7])


def test_the_average_is_the_recursion_written_out():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    averaged = AveragedNetwork(network, decay=0.3)
    expected = None
    for step in range(6):
        with torch.no_grad():
            for value in (*network.parameters(), network[1].running_mean):
                value.copy_(torch.randn_like(value))
            network[1].num_batches_tracked += 1
        averaged.update()
        current = network[0].weight.detach().clone()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = current if expected is None else decay * expected + (1 - decay) * current
        torch.testing.assert_close(averaged.module[0].weight.detach(), expected)
    assert averaged.module[1].num_batches_tracked == 6
    assert averaged.steps == 6
