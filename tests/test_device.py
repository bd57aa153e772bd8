"""Devices by name."""

import pytest
import torch

from graphpose.checkpoint import save_checkpoint
from graphpose.cli import main
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.demo.files import write_demo
from graphpose.device import describe_device, resolve_device
from graphpose.errors import GraphposeError
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from tests.emulated_cuda import EmulatedCuda


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "device='gpu' must be auto, cpu, cuda or cuda:<index>"),
        ("meta", "device='meta' must be auto, cpu, cuda or cuda:<index>"),
        ("cuda:2", r"device='cuda:2', but this machine has 2 CUDA device\(s\), cuda:0 to cuda:1"),
    ],
)
def test_devices_that_are_none_are_refused(cuda, name, message):
    with pytest.raises(GraphposeError, match=message):
        resolve_device(name)


def test_cuda_without_an_index_is_the_current_device(cuda):
    torch.cuda.set_device(1)
    assert {str(resolve_device(name)) for name in ("auto", "cuda", "cuda:1", torch.device("cuda"))} == {"cuda:1"}
    assert str(resolve_device("cuda:0")) == "cuda:0"
    assert describe_device(resolve_device("auto")) == "cuda:1 (emulated)"


def test_without_cuda_auto_is_the_cpu_and_cuda_is_refused():
    with EmulatedCuda(devices=0):
        assert resolve_device("auto") == torch.device("cpu")
        with pytest.raises(GraphposeError, match="device='cuda', but this torch sees no CUDA device; use device=cpu"):
            resolve_device("cuda")
    assert describe_device(torch.device("cpu")).startswith("cpu (")


@pytest.mark.parametrize("device", ["cuda", "gpu"])
@pytest.mark.parametrize("command", ["predict", "evaluate", "tune"])
def test_commands_refuse_a_device_in_one_line(tmp_path, capsys, command, device):
    checkpoint = tmp_path / "c.pt"
    network = PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True, adjacency="none"))
    save_checkpoint(checkpoint, network, network.config)
    write_demo(tmp_path / "demo", DemoDataset(1, seed=1, size=64))
    images, annotations = tmp_path / "demo" / "images", tmp_path / "demo" / "annotations.json"
    arguments = [str(images)] if command == "predict" else [f"--annotations={annotations}", f"--images={images}"]
    with EmulatedCuda(devices=0):
        assert main([command, *arguments, f"--checkpoint={checkpoint}", f"--device={device}"]) == 2
    assert capsys.readouterr().err.startswith(f"graphpose: device='{device}'")
