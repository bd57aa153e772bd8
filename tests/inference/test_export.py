"""ONNX files: the same fields in onnxruntime for any batch and size, and the contract inside."""

import json

import pytest
import torch

from graphpose.data.loader import normalise
from graphpose.errors import GraphposeError
from graphpose.fields.spec import FieldSpec
from graphpose.graphs.statistics import shipped_statistics
from graphpose.inference.contract import MIN_SIZE, contract_metadata, read_contract
from graphpose.inference.export import export_onnx, export_program
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO, CROWDPOSE, Skeleton

# A small network with its own K and M; the test of the pyramid is that of the network itself.
TINY = Skeleton("tiny", ("left", "right", "tail"), ((0, 1), (1, 2)), (0.05, 0.05, 0.1))


@pytest.fixture(scope="module")
def network() -> PoseNetwork:
    torch.manual_seed(0)
    config = PoseNetworkConfig(skeleton=TINY, backbone="resnet10t", stem_pool=True, strides=(8,))
    network = PoseNetwork(config, torch.eye(3))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("W_d", "norm.weight", "head.conv.weight")):
                parameter.normal_()
    return network.train()


@pytest.fixture(scope="module")
def onnx_file(network, tmp_path_factory):
    pytest.importorskip("onnxscript", reason="the onnx packages are not installed")
    usage = {"long_edge": 97, "flip": False, "scales": [1.0]}
    return export_onnx(network, tmp_path_factory.mktemp("export") / "network.onnx", usage=usage)


@pytest.fixture(scope="module")
def session(onnx_file):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 3, MIN_SIZE, MIN_SIZE), (3, 3, 120, 161), (2, 3, 128, 97)])
def test_onnxruntime_gives_the_networks_fields_for_any_batch_and_size(network, session, shape):
    images = torch.randn(shape)
    folded = network.fold()
    with torch.no_grad():
        expected = folded(images)
    pif, paf = session.run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(pif), expected["pif"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(paf), expected["paf"], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_file_carries_skeleton_strides_and_channels(session):
    contract = read_contract(session.get_modelmeta().custom_metadata_map)
    assert contract.spec == FieldSpec(TINY, 4)
    assert contract.feature_strides == (8,)
    assert contract.pif_channels == ("confidence", "x", "y", "spread", "scale")
    assert contract.paf_channels == ("confidence", "x1", "y1", "spread1", "x2", "y2", "spread2")
    assert (contract.confidence, contract.adjacency) == ("logit", "dynamic")
    assert contract.min_size == MIN_SIZE


@pytest.mark.slow
def test_exported_dgcms_are_plain_convolutions(onnx_file):
    onnx = pytest.importorskip("onnx")
    operators = {node.op_type for node in onnx.load(str(onnx_file)).graph.node}
    assert "BatchNormalization" not in operators
    assert [entry.domain for entry in onnx.load(str(onnx_file)).opset_import] == [""]


@pytest.mark.slow
def test_exporting_leaves_the_network_in_training(network, onnx_file):
    assert network.training
    assert not network.folded


@pytest.mark.slow
def test_the_file_can_be_read_by_all_and_has_its_contract_beside_it(onnx_file, session):
    assert sorted(path.name for path in onnx_file.parent.iterdir()) == ["network.json", "network.onnx"]
    assert onnx_file.stat().st_mode & 0o777 == 0o644
    contract = json.loads(onnx_file.with_suffix(".json").read_text())
    inside = session.get_modelmeta().custom_metadata_map
    for key, value in contract.items():
        assert inside[f"graphpose.{key}"] in (value, json.dumps(value))
    assert contract["usage"] == {"long_edge": 97, "flip": False, "scales": [1.0]}


@pytest.mark.slow
def test_an_unfolded_program_carries_w_d():
    config = PoseNetworkConfig(skeleton=TINY, backbone="resnet10t", stem_pool=True, strides=(4,), upsample=1)
    network = PoseNetwork(config, torch.eye(3))
    program = export_program(network.eval(), fold=False)
    names = [name for name in program.state_dict if name.endswith("W_d")]
    assert len(names) == 4  # two modules of two layers
    for name in names:
        assert torch.equal(program.state_dict[name], network.state_dict()[name.removeprefix("network.")])


def test_a_folder_that_does_not_exist_is_named(network, tmp_path):
    with pytest.raises(GraphposeError, match=r"folder '.*absent' does not exist"):
        export_onnx(network, tmp_path / "absent" / "network.onnx")


def test_metadata_are_json_and_give_the_contract_back():
    config = PoseNetworkConfig(skeleton=CROWDPOSE, adjacency="none", backbone="resnet10t", stem_pool=True)
    metadata = contract_metadata(PoseNetwork(config))
    assert json.loads(metadata["graphpose.field_stride"]) == 8
    assert read_contract(metadata).spec == FieldSpec(CROWDPOSE, 8)


def test_the_contract_says_how_images_are_given_and_poses_decoded():
    network = PoseNetwork(PoseNetworkConfig(backbone="resnet10t", adjacency="none"))
    usage = {"long_edge": 321, "flip": True, "scales": [1.0]}
    contract = read_contract(contract_metadata(network, {"min_score": 0.1}, usage))
    assert (contract.decoder, contract.usage) == ({"min_score": 0.1}, usage)
    assert (contract.input["colour"], contract.input["range"]) == ("RGB", [0, 1])
    pixel = torch.tensor([[[12, 130, 250]]], dtype=torch.uint8)  # (1, 1, 3)
    expected = (pixel[0, 0] / 255 - torch.tensor(contract.input["mean"])) / torch.tensor(contract.input["std"])
    assert torch.allclose(normalise(pixel.numpy())[:, 0, 0], expected, atol=1e-5)
    older = {key: value for key, value in contract_metadata(network).items() if key != "graphpose.input"}
    assert read_contract(older).input is None


def test_a_foreign_file_is_refused_naming_what_it_lacks():
    with pytest.raises(GraphposeError, match=r"not exported by graphpose: its metadata lack 'graphpose.skeleton'"):
        read_contract({"producer": "other"})


def test_the_contract_has_the_statistics_that_travel_with_the_network():
    network = PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True))
    assert read_contract(contract_metadata(network)).statistics is None
    network.use_statistics(shipped_statistics(COCO))
    assert read_contract(contract_metadata(network)).statistics.keypoints == COCO.keypoints
