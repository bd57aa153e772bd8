"""Exported networks as networks: the fields and the records of the checkpoint, from the file alone."""

import json
import sys

import cv2
import numpy as np
import pytest
import torch

from graphpose.checkpoint import load_network, save_checkpoint
from graphpose.cli import main
from graphpose.data.demo.dataset import DemoDataset
from graphpose.errors import GraphposeError
from graphpose.fields.config import FusionConfig, UsageConfig
from graphpose.inference.batches import predict_fields
from graphpose.inference.contract import contract_metadata
from graphpose.inference.exported import ExportedNetwork
from graphpose.inference.predict import Predictor
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import Skeleton

onnx = pytest.importorskip("onnx", reason="the onnx packages are not installed")
pytest.importorskip("onnxscript", reason="the onnx packages are not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

# Its own K, M, sigmas and mirror image; nothing of it is known to graphpose.
BIRD = Skeleton(
    "bird", ("left_wing", "right_wing", "beak", "tail"), ((0, 2), (1, 2), (2, 3)), (0.05, 0.05, 0.03, 0.1),
    flip_pairs=((0, 1),),
)  # fmt: skip
DECODER = {
    "keypoint_threshold": 0.5, "limb_threshold": 0.5, "peak_threshold": 0.02, "radius": 0.0, "min_limb_weight": 0.1,
    "limb_radius": 0.0, "min_score": 0.0, "max_poses": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network that never learned anything. Its confidences are noise, and all cells point near themselves, so that no
    pose hangs on two cells being equally near to a third."""
    torch.manual_seed(0)
    config = PoseNetworkConfig(skeleton=BIRD, backbone="regnetx_002", stem_pool=True, strides=(16, 8))
    network = PoseNetwork(config, torch.eye(4))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("W_d", "norm.weight")):
                parameter.normal_()
        for head, channels in ((network.pif_head, 5), (network.paf_head, 7)):
            weight = head.conv.weight.view(-1, channels, config.upsample**2, head.conv.weight.shape[1])
            bias = head.conv.bias.view(-1, channels, config.upsample**2)
            weight[:, 0].normal_(0, 0.2)
            weight[:, 1:].normal_(0, 0.001)
            bias[:, 0], bias[:, 1:] = 0, 0.1
    path = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    run = {"configuration": {"long_edge": 97, "test_flip": True}}
    save_checkpoint(path, network, network.config, decoder=DECODER, training=run)
    return path


@pytest.fixture(scope="module")
def onnx_file(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "network.onnx"
    assert main(["export", str(checkpoint), str(path)]) == 0
    path.with_suffix(".json").unlink()  # the file alone is enough
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    for name, sample in zip(("a.png", "below/a.png", "b.png"), DemoDataset(3, size=120), strict=False):
        cv2.imwrite(str(folder / name), sample.image[:, :100, ::-1])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(1, 3, 97, 97), (3, 3, 120, 161), (1, 3, 64, 33), (2, 3, 17, 300), (1, 3, 1, 1), (0, 3, 65, 65)]
)
def test_its_fields_are_the_networks_for_any_batch_height_and_width(checkpoint, onnx_file, shape):
    network, exported = load_network(checkpoint).fold(), ExportedNetwork(onnx_file)
    images = torch.randn(shape)
    for fusion in (None, FusionConfig(flip=True, scales=(0.5, 1.0)), FusionConfig(True, (0.5, 1.0), "poses")):
        if fusion is not None and min(shape) < 2:
            continue
        expected, found = (predict_fields(one, images, fusion=fusion) for one in (network, exported))
        for one, other in zip(expected, found, strict=True):
            assert one.factors == other.factors
            torch.testing.assert_close(one[:2], other[:2], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_file_alone_says_skeleton_size_views_and_thresholds(onnx_file):
    predictor = Predictor.from_onnx(onnx_file)
    assert predictor.network.spec.skeleton == BIRD
    assert predictor.usage == UsageConfig(97, flip=True)
    assert predictor.decoder.config.to_dict().items() >= DECODER.items()
    assert (predictor.device.type, predictor.default_batch_size) == ("cpu", 1)
    assert Predictor.from_onnx(onnx_file, long_edge=0, flip=False).usage == UsageConfig(None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--long-edge", "120", "--no-flip", "--scales", "1", "0.7", "--min-score", "0.05"],
        ["--long-edge", "120", "--no-flip", "--scales", "1", "0.7", "--merge", "poses"],
    ],
)
def test_predict_writes_the_records_of_the_checkpoint(checkpoint, onnx_file, images, tmp_path, capsys, options):
    written = []
    for name, file in (("--checkpoint", checkpoint), ("--onnx", onnx_file)):
        out = tmp_path / name
        assert main(["predict", str(images), name, str(file), "--out", str(out), "--csv", "--json", *options]) == 1
        written.append([json.loads((out / file).read_text()) for file in ("images.json", "results.json")])
        lines = capsys.readouterr()
        assert "3 frames with" in lines.out
        assert ("long edge 120 px" if options else "long edge 97 px, mirror image fused") in lines.err
    (images_expected, expected), (images_found, found) = written
    assert images_found == images_expected
    assert len(expected) > 9
    assert [one["image_id"] for one in found] == [one["image_id"] for one in expected]
    for value in ("keypoints", "score"):
        np.testing.assert_allclose([one[value] for one in found], [one[value] for one in expected], atol=2e-3)
    assert {path.name for path in (tmp_path / "--onnx").rglob("*")} == {
        path.name for path in (tmp_path / "--checkpoint").rglob("*")
    }


@pytest.mark.slow
def test_what_an_exported_network_cannot_do_is_refused(onnx_file, images, capsys):
    for option, value, reason in (
        ("--device", "cuda", "--onnx runs on the CPU"),
        ("--precision", "bfloat16", "--onnx computes in the file's own"),
    ):
        assert main(["predict", str(images), "--onnx", str(onnx_file), option, value]) == 2
        assert reason in capsys.readouterr().err
    with pytest.raises(GraphposeError, match="an exported network computes in its own"):
        Predictor(ExportedNetwork(onnx_file), precision="bfloat16")


def write_identity(path, metadata=None):
    """An ONNX file of another kind, with metadata."""
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("images", "pif")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["images"], ["pif"])], "identity", *[[v] for v in values]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path


def test_a_file_that_graphpose_did_not_export_is_one_line_that_names_it(images, tmp_path, capsys):
    (tmp_path / "text.onnx").write_text("no network")
    write_identity(tmp_path / "other.onnx", {"producer": "another"})
    for name, reason in (
        ("text.onnx", "is damaged or no ONNX file"),
        ("other.onnx", "was not exported by graphpose: its metadata lack 'graphpose.skeleton'"),
        ("missing.onnx", "there is no file"),
    ):
        assert main(["predict", str(images), "--onnx", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert name in line
        assert reason in line


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("pif_channels", '["confidence", "y", "x", "spread", "scale"]', r"PIF channels .*'y', 'x'.* reads .*'x', 'y'"),
        ("confidence", '"probability"', "confidence probability, and this version of graphpose reads logit"),
        ("input", json.dumps({"colour": "BGR"}), "colour BGR, and this version of graphpose reads RGB"),
        ("skeleton", "{", "metadata are damaged: 'graphpose.skeleton'"),
        ("skeleton", "[]", "metadata are damaged: 'graphpose.skeleton'"),
    ],
)
def test_metadata_that_mean_something_else_or_nothing_are_refused(tmp_path, key, value, reason):
    network = PoseNetwork(PoseNetworkConfig(backbone="resnet10t", adjacency="none"))
    metadata = contract_metadata(network) | {f"graphpose.{key}": value}
    with pytest.raises(GraphposeError, match=rf"odd\.onnx.*{reason}"):
        ExportedNetwork(write_identity(tmp_path / "odd.onnx", metadata))


def test_without_onnxruntime_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(GraphposeError, match=r"'onnxruntime': pip install 'graphpose\[onnx\]'"):
        ExportedNetwork(tmp_path / "network.onnx")
