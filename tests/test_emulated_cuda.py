"""The emulated devices refuse what CUDA refuses and note what it waits for."""

import pytest
import torch


def test_tensors_of_two_devices_do_not_mix(cuda):
    on_device, on_host = torch.ones(3, device="cuda"), torch.ones(3)
    assert str(on_device.device) == "cuda:0"
    for other in (on_host, torch.ones(3, device="cuda:1")):
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            _ = on_device + other
    assert (on_device * torch.tensor(2.0)).cpu().tolist() == [2, 2, 2]  # a CPU number is taken as one


def test_gradients_are_those_of_the_cpu_and_lie_on_the_device(cuda):
    weight = torch.randn(4, 4)
    gradients = []
    for device in ("cpu", "cuda"):
        own = weight.to(device, copy=True).requires_grad_()
        (own @ own).relu().sum().backward()
        assert own.grad.device.type == device
        gradients.append(own.grad.cpu())
    assert torch.equal(*gradients)


def test_a_module_moves_with_parameters_and_buffers_and_copies_between_devices_are_differentiable(cuda):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to("cuda:1")
    assert {str(value.device) for value in module.state_dict().values()} == {"cuda:1"}
    image = torch.randn(2, 3, 5, 5, requires_grad=True)
    module(image.to("cuda:1")).sum().backward()
    assert image.grad is not None
    assert image.grad.device.type == "cpu"


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(), lambda x: x.tolist(), lambda x: x.cpu(), lambda x: x.nonzero(),
        lambda x: x[x > 0], lambda x: bool(x.any()), lambda x: torch.repeat_interleave(x.long()),
        lambda x: torch.tensor([1.0], device=x.device), lambda x: torch.cuda.synchronize(),
    ],
)  # fmt: skip
def test_what_needs_the_device_s_answer_is_noted(cuda, read):
    values = torch.arange(3.0, device="cuda")
    assert not cuda.waits
    read(values)
    assert len(cuda.waits) == 1


def test_what_needs_no_answer_is_not(cuda):
    values = torch.zeros(3, device="cuda")
    values.copy_(torch.ones(3), non_blocking=True)
    _ = torch.where(values > 0, values, 0.0).clamp(min=0.5).sum() / 3, values.new_full((), 2), values[1:], values[None]
    assert not cuda.waits
