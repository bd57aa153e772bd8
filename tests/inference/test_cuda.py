"""Inference on an emulated device: what it predicts, in which order, and what it waits for."""

import numpy as np
import pytest
import torch

from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import make_loader
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig, FusionConfig, UsageConfig
from graphpose.fields.decode import build_decoder
from graphpose.fields.encode import encode, perfect_fields
from graphpose.inference.batches import for_inference, predict_batches
from graphpose.inference.evaluate import evaluate
from graphpose.inference.export import export_program
from graphpose.inference.predict import Predictor
from graphpose.inference.tune import collect_fields
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.nn.relations import learned_relations
from graphpose.skeleton import COCO
from tests.nn.made_modes import kinds_of

GRAPHS = {
    "none": {"adjacency": "none"},
    "dynamic": {"adjacency": "dynamic"},
    "expectation": {"adjacency": "dynamic", "evaluation_graph": "expectation"},
    "pyramid": {"adjacency": "soft", "strides": (16, 8)},
    "SAGE": {"adjacency": "dynamic", "graph_layer": "DenseSAGEConv"},
    "GAT": {"adjacency": "dynamic", "graph_layer": "DenseGATConv", "node_width": 2},
    "modes": {"adjacency": "modes", "modes": 2},
}


EAGER = DecoderConfig(peak_threshold=0.01, min_score=0.0, max_poses=5, join_fragments=False)


def network_of(graph: str) -> PoseNetwork:
    torch.manual_seed(1)
    config = PoseNetworkConfig(backbone="test_resnet", stem_pool=True, **GRAPHS[graph])
    network = PoseNetwork(config, mode_statistics=kinds_of(COCO, config.modes)).eval()
    with torch.no_grad():  # fires everywhere, so that there are poses
        network.pif_head.conv.bias.view(17, 5, -1)[:, 0] += 8
        network.paf_head.conv.bias.view(19, 7, -1)[:, 0] += 8
    return network


def batches(count: int = 3, size: int = 64, broken: int = -1):
    class Scenes(DemoDataset):
        def __getitem__(self, index):
            if index == broken:
                raise GraphposeError("image is truncated")
            return super().__getitem__(index)

    dataset = Scenes(count, seed=4, size=size)
    return dataset, make_loader(dataset, EvalTransform(None), 1, shuffle=False)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize(
    "fusion", [None, FusionConfig(True, (1.0, 0.5)), FusionConfig(scales=(1.0, 0.5), merge="poses")]
)
def test_poses_are_those_of_the_cpu_and_metrics_as_well(cuda, graph, fusion):
    found = []
    for device in ("cpu", "cuda:1"):
        dataset, loader = batches()
        network = network_of(graph).to(device)
        found.append(
            evaluate(network, build_decoder(network.spec, EAGER), loader, dataset.ground_truth(), fusion=fusion)
        )
    assert found[0].results == found[1].results
    assert found[0].metrics == found[1].metrics
    assert len(found[0].results) > 3


def test_the_next_batch_is_with_the_network_while_one_is_decoded(cuda):
    events = []
    network = network_of("dynamic").to("cuda")
    network.register_forward_pre_hook(lambda *_: events.append("network"))
    decoder = build_decoder(network.spec)
    decode = decoder.decode_batch
    decoder.decode_batch = lambda *fields, **options: (events.append("decode"), decode(*fields, **options))[1]
    _, loader = batches(4, broken=2)
    seen = [batch.image_ids for batch, _ in predict_batches(network, decoder, loader)]
    assert events == ["network", "network", "decode", "decode", "network", "decode"]
    assert seen == [[1], [2], [], [4]]
    assert [wait.operation for wait in cuda.waits] == ["event.synchronize"] * 3  # one for each batch that has an image


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("fusion", [(False, (1.0,)), (True, (1.0, 0.5)), (True, (1.0, 0.5), True, "poses")])
def test_a_stream_of_images_has_the_cpu_s_poses_and_no_copy_waits(cuda, batch_size, fusion):
    images = [DemoDataset(1, seed=n, size=size)[0].image for n, size in enumerate((64, 64, 96, 64, 96, 64))]
    found = []
    for device in ("cpu", "cuda:1"):
        network = network_of("dynamic").to(device)
        events = []
        predictor = Predictor(network, UsageConfig(None, *fusion), build_decoder(network.spec, EAGER))
        predictor.network.register_forward_pre_hook(lambda *_, events=events: events.append("network"))
        decode = predictor._decode
        predictor._decode = lambda *a, events=events, decode=decode: (events.append("decode"), decode(*a))[1]
        cuda.waits.clear()
        cuda.copies.clear()
        found.append([poses.keypoints for poses in predictor(images, batch_size=batch_size)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-2)  # channels last on a GPU
    assert sum(map(len, found[0])) > 5
    assert {wait.operation for wait in cuda.waits} == {"event.synchronize"}
    assert {kind for kind, _ in cuda.copies} == {"non-blocking"}
    if not fusion[0] and batch_size == 2:  # one batch is decoded while the next is with the network
        assert events[:3] == ["network", "network", "decode"]


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_network_for_inference_is_folded_and_its_fields_are_those_of_the_original(cuda, graph):
    network = network_of(graph)
    assert for_inference(network) is network
    fast = for_inference(network_of(graph).to("cuda"))
    assert fast.folded
    convolution = next(p for p in fast.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1)
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(collect_fields(network, batches()[1]), collect_fields(fast, batches()[1]), strict=True):
        assert torch.allclose(a.views[0].pif, b.views[0].pif, atol=1e-4)
        assert torch.allclose(a.views[0].paf, b.views[0].paf, atol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_gives_fields_near_those_of_float32(cuda, precision):
    network = for_inference(network_of("dynamic").to("cuda"))
    exact, half = (collect_fields(network, batches()[1], precision=p) for p in ("float32", precision))
    for a, b in zip(exact, half, strict=True):
        assert 0 < abs(a.views[0].paf - b.views[0].paf).max() < 0.1


@pytest.mark.parametrize("ignored", [False, True])
def test_encoding_and_decoding_on_the_device_have_the_cpu_s_answers(cuda, ignored):
    spec = network_of("none").spec
    batch = next(iter(make_loader(DemoDataset(3, seed=4, size=160), EvalTransform(None), 3, shuffle=False)))
    results = []
    for device in ("cpu", "cuda"):
        moved = batch.to(device)
        targets = encode(moved.keypoints, moved.scales, spec, (160, 160), moved.ignore if ignored else None)
        assert targets.pif.device.type == device
        poses = build_decoder(spec).decode_batch(*perfect_fields(targets))
        results.append((targets.pif.cpu(), targets.paf.cpu(), [pose.keypoints for pose in poses]))
    for a, b in zip(results[0][:2], results[1][:2], strict=True):
        assert torch.equal(a.nan_to_num(9.0), b.nan_to_num(9.0))
    for a, b in zip(results[0][2], results[1][2], strict=True):
        assert len(a) > 0
        assert abs(a - b).max() < 1e-3


def test_learned_relations_are_read_from_any_device(cuda):
    here, there = (learned_relations(network_of("pyramid").to(device)) for device in ("cpu", "cuda"))
    assert str(here) == str(there)


@pytest.mark.slow
def test_a_network_of_a_device_can_be_exported_after_it_came_back(cuda):
    program = export_program(network_of("dynamic").to("cuda").to("cpu"))
    assert program is not None
