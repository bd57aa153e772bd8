"""Figures of an epoch."""

import time

import pytest
import torch

from graphpose.errors import GraphposeError
from graphpose.training.meter import READ_EVERY, EpochMeter


def parts(value: float) -> dict[str, torch.Tensor]:
    return {"pif_offset": torch.tensor(value), "total": torch.tensor(2 * value)}


def test_figures_are_means_over_steps_and_shares_lie_between_none_and_all():
    meter = EpochMeter(torch.device("cpu"))
    meter.start()
    for value in (1.0, 3.0):
        with meter.learning():
            meter.update(parts(value), [1, 2])
    figures = meter.compute()
    assert (figures["loss.pif_offset"], figures["loss.total"]) == (2, 4)
    assert 0 <= figures["outside_share"] <= 1
    assert figures["images_per_second"] == pytest.approx(4 / figures["seconds"])


def test_a_meter_goes_on_from_its_state():
    whole, first = EpochMeter(torch.device("cpu")), EpochMeter(torch.device("cpu"))
    for meter, values in ((whole, (0.1, 0.2, 0.3)), (first, (0.1, 0.2))):
        for value in values:
            meter.update(parts(value), [1])
    second = EpochMeter(torch.device("cpu"))
    second.load_state_dict(first.state_dict())
    second.update(parts(0.3), [1])
    assert second.parts == whole.parts
    assert (second.steps, second.images) == (3, 3)


def test_only_the_time_of_an_epoch_counts():
    """Samples are made and networks evaluated between epochs, and checkpoints written."""
    meter = EpochMeter(torch.device("cpu"))
    time.sleep(0.02)
    assert meter.state_dict()["seconds"] == 0
    begun = time.perf_counter()
    meter.start()
    time.sleep(0.01)
    assert 0.01 <= meter.state_dict()["seconds"] <= time.perf_counter() - begun


def test_an_epoch_without_an_image_has_no_figures():
    with pytest.raises(GraphposeError, match="no readable image"):
        EpochMeter(torch.device("cpu")).compute()


def test_on_a_gpu_losses_are_read_once_in_a_while_and_a_bad_one_still_names_its_own_batch():
    meter = EpochMeter(torch.device("cuda"))  # no device is needed to keep tensors unread
    for step in range(READ_EVERY - 1):
        meter.update(parts(float("nan") if step == 4 else 1.0), [10 * step, 10 * step + 1])
    assert meter.parts == {}
    with pytest.raises(GraphposeError, match=r"on image ids \[40, 41\]"):
        meter.update(parts(1.0), [7])
