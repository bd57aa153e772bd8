"""Runs that begin with the trunk and the heads of a trained baseline."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from experiments.configs.named import DEFAULTS, NAMED
from experiments.configs.settings import build_settings
from experiments.running import training
from experiments.running.build import build_network, pretrained_network
from graphpose.checkpoint import load_checkpoint, load_network, save_checkpoint
from graphpose.distributed import SINGLE_PROCESS
from graphpose.errors import GraphposeError
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.openpifpaf.convert import DECODERS, import_checkpoint
from graphpose.packed import pack
from graphpose.skeleton import COCO, CROWDPOSE
from tests.experiments.in_process import import_run, launch
from tests.experiments.test_resume import TINY, at_step
from tests.nn.made_modes import kinds_of
from tests.nn.made_weights import randomise
from tests.openpifpaf.originals import original, write

# what a file of OpenPifPaf v0.8 brings along and no run has to name
OF_2019 = {
    "norm_eps": 1e-4, "scale_activation": "relu", "scale_factor": 0.93, "spread_activation": "leaky_relu",
}  # fmt: skip
DEMO = PoseNetworkConfig(backbone="test_resnet", stem_pool=True, upsample=4, adjacency="none", **OF_2019)
CARD = {"origin": "OpenPifPaf v0.8 checkpoint", "licence": "AGPL", "citation": "CVPR 2019", "published AP": "0.626"}


def write_baseline(path: Path, config: PoseNetworkConfig = DEMO) -> PoseNetwork:
    """A checkpoint whose averaged weights, which are returned, are not its last ones."""
    torch.manual_seed(1)
    averaged = PoseNetwork(config)
    for module in averaged.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    save_checkpoint(path, PoseNetwork(config), config, ema=averaged, card=CARD)
    return averaged.eval()


def assert_same_fields(network: PoseNetwork, baseline: PoseNetwork) -> None:
    images = torch.randn(2, 3, 97, 129)
    with torch.no_grad():
        fields, expected = network.eval()(images), baseline.eval()(images)
    for key in ("pif", "paf"):
        torch.testing.assert_close(fields[key], expected[key], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_run_begins_with_its_baselines_fields_and_goes_on_without_the_file(monkeypatch, tmp_path, capsys):
    run, averaged = import_run(monkeypatch, tmp_path), write_baseline(tmp_path / "baseline.pt")
    command = [*TINY, "pretrained=baseline.pt", "adjacency=dynamic", "baseline_learning_rate_factor=0.1", "workers=0",
               "epochs=1", "schedule=constant"]  # fmt: skip
    with monkeypatch.context() as patch:
        at_step(patch, 0, 0, lambda _: shutil.copy("runs/1/checkpoint.pt", "step0.pt"))
        launch(run, "with", *command)
    for ema in (True, False):  # the averaged weights begin with the baseline's, too
        assert_same_fields(load_network(Path("step0.pt"), ema=ema), averaged)
    content = load_checkpoint(Path("step0.pt"))
    assert content["config"]["pretrained"] == "baseline.pt"
    assert content["config"]["adjacency"] == "dynamic"
    assert {key: content["config"][key] for key in OF_2019} == OF_2019
    rates = [group["initial_lr"] for group in content["training"]["optimizer"]["param_groups"]]
    assert rates == [4e-3, 4e-3, 4e-4, 4e-4]
    assert content["card"] == {
        "origin": "trained on from baseline.pt: OpenPifPaf v0.8 checkpoint", "licence": "AGPL", "citation": "CVPR 2019"
    }  # fmt: skip
    figures = json.loads(Path("runs/1/metrics.json").read_text())
    assert figures["train.learning_rate"]["values"] == [4e-3]  # of the DGCMs
    Path("baseline.pt").unlink()
    launch(run, "with", "resume=1", "epochs=2")
    assert json.loads(Path("runs/2/run.json").read_text())["status"] == "COMPLETED"
    after = load_checkpoint(Path("runs/2/checkpoint.pt"))
    assert after["config"] == load_checkpoint(Path("runs/1/checkpoint.pt"))["config"]
    assert after["card"] == content["card"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        launch(run, "with", *command)
    errors = capsys.readouterr().err
    assert "weights file 'baseline.pt' cannot be read" in errors
    assert "Traceback" not in errors


def begin(path: Path, named: str = "demo", **changes) -> PoseNetwork:
    """The network of a run, as far as its data do not matter."""
    usual = DEFAULTS | NAMED[named] | ({"backbone": "test_resnet"} if named == "demo" else {})
    skeleton = changes.pop("skeleton", DEMO.skeleton)
    config = build_settings(usual | {"pretrained": str(path)} | changes, skeleton).network
    pretrained = pretrained_network(config)
    return build_network(config, pretrained=load_checkpoint(pretrained) if pretrained else None)


def test_the_named_configuration_takes_an_imported_network_and_reads_it_as_the_import_does(tmp_path):
    imported = import_checkpoint(write(original("v0.8"), tmp_path / "file.pkl"))
    save_checkpoint(tmp_path / "baseline.pt", imported.network, imported.network.config, decoder=imported.decoder)
    network = begin(tmp_path / "baseline.pt", "coco_from_pifpaf", backbone="resnet18")
    assert_same_fields(network, imported.network)
    decoder = NAMED["coco_from_pifpaf"]["decoder"]
    assert {key: decoder[key] for key in DECODERS["v0.8"]} == DECODERS["v0.8"]


def test_without_graphs_a_baseline_is_trained_on_itself(tmp_path):
    averaged = write_baseline(tmp_path / "baseline.pt")
    network = begin(tmp_path / "baseline.pt", adjacency="none")
    assert network.keypoint_graph is None
    assert_same_fields(network, averaged)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet18", "stem_pool": False}, r"is a network with backbone=test_resnet stem_pool=True, but "
                                                       r"the run has backbone=resnet18, stem_pool=False; set"),
        ({"strides": [16, 8]}, r"strides=\[16\], but the run has strides=\(16, 8\)"),
        ({"scale_factor": 0.5}, r"scale_factor=0\.93, but the run has scale_factor=0\.5"),
        ({"skeleton": CROWDPOSE, "dilate": True}, r"is a network with dilate=False, but the run has dilate=True"),
        ({"upsample": 2, "dilate": True}, r"is a network with dilate=False, but the run has dilate=True"),
    ],
)  # fmt: skip
def test_a_baseline_that_does_not_fit_the_run_is_refused_by_what_to_set(tmp_path, changes, message):
    write_baseline(tmp_path / "baseline.pt")
    with pytest.raises(GraphposeError, match=message):
        begin(tmp_path / "baseline.pt", **changes)


@pytest.mark.parametrize("adjacency", ["none", "dynamic"])
def test_heads_of_another_stride_begin_anew_on_the_same_features(tmp_path, capsys, adjacency):
    trained = write_baseline(tmp_path / "baseline.pt", dataclasses.replace(DEMO, adjacency=adjacency))
    if adjacency == "dynamic":
        randomise(trained)
        trained.use_statistics(kinds_of(COCO, 2)[0])  # as of a training set of its own
        save_checkpoint(tmp_path / "baseline.pt", trained, trained.config)
    network = begin(tmp_path / "baseline.pt", adjacency=adjacency, upsample=2)
    assert capsys.readouterr().out.splitlines() == [
        "the pretrained network's heads begin anew: fields at stride 8, where its own are at stride 4"
    ]
    state, theirs = network.state_dict(), trained.state_dict()
    taken = [name for name in state if name.split(".")[0] in ("backbone", "pif_pyramid", "paf_pyramid")]
    assert any(".non_local." in name for name in taken) == (adjacency == "dynamic")
    assert all(torch.equal(state[name], theirs[name]) for name in taken)
    assert network.config.field_stride == 8
    if adjacency == "dynamic":
        assert network.pose_statistics.provenance == trained.pose_statistics.provenance
        assert torch.equal(network.keypoint_graph.matrix, trained.keypoint_graph.matrix)
        shipped = PoseNetwork(dataclasses.replace(DEMO, adjacency=adjacency)).keypoint_graph.matrix
        assert not torch.equal(network.keypoint_graph.matrix, shipped)
    fresh = state["pif_head.conv.weight"]
    assert fresh.shape == (17 * 5 * 4, *theirs["pif_head.conv.weight"].shape[1:])
    assert 0.005 < fresh.std() < 0.02


def test_a_network_with_graphs_is_gone_on_with_whole_or_packed(tmp_path):
    averaged = write_baseline(tmp_path / "checkpoint.pt", dataclasses.replace(DEMO, adjacency="dynamic"))
    with torch.no_grad():
        for parameter in averaged.parameters():
            parameter.add_(0.01)
    save_checkpoint(tmp_path / "checkpoint.pt", averaged, averaged.config)
    pack(tmp_path / "small.safetensors", averaged, decoder={}, usage={}, weights="float32")
    for path in (tmp_path, tmp_path / "checkpoint.pt", tmp_path / "small.safetensors"):
        network = begin(path)
        assert network.training
        assert all(torch.equal(value, averaged.state_dict()[name]) for name, value in network.state_dict().items())
    with pytest.raises(GraphposeError, match="is a network with adjacency=dynamic, but the run has adjacency=none"):
        begin(tmp_path, adjacency="none")


def truncated(path: Path) -> None:
    write_baseline(path)
    path.write_bytes(path.read_bytes()[:-100])


def damaged(path: Path) -> None:
    write_baseline(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, r"baseline\.pt' cannot be read"),
        (damaged, r"checkpoint '.*baseline\.pt' cannot be read: its checksum is wrong"),
        (lambda path: write(original("v0.8"), path), r"cannot be read: Weights only load failed; of a file of "
                                                     r"OpenPifPaf, graphpose import makes a checkpoint$"),
        (lambda path: path.write_text("no weights"), r"weights file '.*baseline\.pt' cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_baseline_is_refused_in_one_line(tmp_path, make, message):
    make(tmp_path / "baseline.pt")
    with pytest.raises(GraphposeError, match=message) as refused:
        begin(tmp_path / "baseline.pt")
    assert "\n" not in str(refused.value)


def test_a_resumed_run_takes_its_network_from_the_checkpoint(tmp_path):
    """Whatever file it began with, which may be gone, and whatever that file had decided."""
    v1 = PoseNetworkConfig(backbone="resnet26", backbone_variant="v1", **OF_2019)
    network = PoseNetwork(v1)
    resumed = {"config": network.config.to_dict(), "network": network.state_dict()}
    settings = build_settings(DEFAULTS | {"pretrained": "no_longer_there.pth"})
    loader = SimpleNamespace(steps_per_epoch=1)
    record = SimpleNamespace(log_scalar=None)
    begun = training.build_trainer(settings, loader, record, 1, SINGLE_PROCESS, resumed).network
    assert begun.config == dataclasses.replace(network.config, pretrained="no_longer_there.pth")
    assert_same_fields(begun, network)  # v1.5 is far off
    with pytest.raises(GraphposeError, match="no_longer_there"):
        training.build_trainer(settings, loader, record, 1, SINGLE_PROCESS)
