"""docs/onnx.md: its decoder is numpy alone and as good as ours, its script gives images as the network wants them."""

import ast
import json
import re
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from experiments.benchmarks.scenes import Scene, scene_fields
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.loader import normalise
from graphpose.data.transforms import EvalTransform
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import build_decoder
from graphpose.fields.encode import encode, perfect_fields
from graphpose.fields.pose import Poses
from graphpose.fields.spec import FieldSpec
from graphpose.inference.contract import contract_metadata
from graphpose.metrics.coco import coco_results, evaluate_coco
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"
SIZE = 160


@pytest.fixture(scope="module")
def blocks():
    """The decoder and the script of the page."""
    decoder, script = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    return decoder, script


@pytest.fixture(scope="module")
def decode(blocks):
    module: dict = {}
    exec(blocks[0], module)
    return module["decode"]


def logits(field):
    field = field.clone()
    field[:, :, 0] = field[:, :, 0].clamp(1e-6, 1 - 1e-6).logit()
    return field[0].numpy()


def test_the_decoder_is_short_and_imports_numpy_alone(blocks):
    imports = [node for node in ast.walk(ast.parse(blocks[0])) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in imports] == ["import numpy as np"]
    assert "graphpose" not in blocks[0]
    assert len([line for line in blocks[0].splitlines() if line.strip()]) <= 75


def test_on_noisy_fields_of_demo_scenes_its_ap_is_within_003_of_ours(decode):
    spec, config = FieldSpec(COCO, 4), DecoderConfig()
    scenes = DemoDataset(12, seed=7, size=SIZE)
    ours, theirs = [], []
    for sample in scenes:
        persons = sample.persons
        keypoints, scales = torch.from_numpy(persons.keypoints)[None], torch.from_numpy(persons.area)[None].sqrt()
        scene = Scene(sample.image_id, (SIZE, SIZE), 1.0, keypoints, scales)
        pif, paf = scene_fields(scene, spec, 0.5, torch.Generator().manual_seed(sample.image_id))
        ours += coco_results(sample.image_id, build_decoder(spec, config)(pif[0], paf[0]), 1)
        poses, scores = decode(logits(pif), logits(paf), COCO.to_dict(), spec.stride, config.to_dict())
        poses = poses.astype(np.float32)
        theirs += coco_results(sample.image_id, Poses(poses, scores.astype(np.float32), poses[:, :, 2]), 1)
    our_ap, their_ap = (evaluate_coco(scenes.ground_truth(), results, COCO)["AP"] for results in (ours, theirs))
    assert 0.5 < our_ap < 0.97
    assert abs(their_ap - our_ap) < 0.03


def test_fields_without_anybody_have_no_poses(decode):
    pif, paf = np.full((17, 5, 3, 4), -9, np.float32), np.full((19, 7, 3, 4), -9, np.float32)
    poses, scores = decode(pif, paf, COCO.to_dict(), 8, DecoderConfig().to_dict())
    assert (poses.shape, scores.shape) == ((0, 17, 3), (0,))
    pif[0, 0, 1, 1] = 9  # one keypoint without a limb
    settings = DecoderConfig(peak_threshold=0.01, min_score=0.0).to_dict()
    assert decode(pif, paf, COCO.to_dict(), 8, settings)[0].shape == (1, 17, 3)


def test_its_script_gives_the_networks_input_and_finds_persons_in_the_images_pixels(
    blocks, tmp_path, monkeypatch, capsys
):
    """With a session that knows where the persons are, for any size of the network's input."""
    sample = DemoDataset(1, size=320, max_persons=1)[0]
    image = np.ascontiguousarray(sample.image[:, :300])
    cv2.imwrite(str(tmp_path / "photo.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    network = PoseNetwork(PoseNetworkConfig(backbone="resnet10t", adjacency="none"))
    stride = network.spec.stride
    metadata = contract_metadata(network, DecoderConfig().to_dict(), {"long_edge": 481, "flip": False, "scales": [1.0]})
    given = []

    class Session:
        def __init__(self, path, providers):
            assert path == "model.onnx"

        def get_modelmeta(self):
            return types.SimpleNamespace(custom_metadata_map=metadata)

        def run(self, names, inputs):
            assert names == ["pif", "paf"]
            given.append(inputs["images"])
            keypoints = torch.from_numpy(sample.persons.keypoints)[None].clone()
            keypoints[..., :2] = (keypoints[..., :2] + 0.5) * (481 / 320) - 0.5
            scales = torch.from_numpy(sample.persons.area)[None].sqrt() * (481 / 320)
            pif, paf = perfect_fields(encode(keypoints, scales, network.spec, inputs["images"].shape[-2:]))
            return [logits(field)[None] for field in (pif, paf)]

    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=Session))
    monkeypatch.chdir(tmp_path)
    exec("".join(blocks), {})
    [images] = given
    assert images.dtype == np.float32
    read = cv2.imread("photo.jpg")[..., ::-1]
    sample.image, sample.ignore = np.ascontiguousarray(read), np.zeros(read.shape[:2], bool)
    expected = normalise(EvalTransform(481)(sample).sample.image).numpy()
    assert images[0].shape == expected.shape
    assert np.abs(images[0] - expected)[:, 2:-2, 2:-2].max() < 0.05
    [line] = capsys.readouterr().out.splitlines()
    found = json.loads(line[line.index("{") :].replace("'", '"'))
    truth = dict(zip(COCO.keypoints, sample.persons.keypoints[0], strict=True))
    assert len(found) >= 5
    for name, (x, y, _) in found.items():
        np.testing.assert_allclose((x, y), truth[name][:2], atol=stride / 8)
