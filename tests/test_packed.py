"""Packed networks: what a bit costs, what a file says of itself, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from graphpose import packed
from graphpose.checkpoint import load_checkpoint, load_network, save_checkpoint, usage_of
from graphpose.cli import main
from graphpose.data.demo.dataset import DemoDataset
from graphpose.errors import GraphposeError
from graphpose.fields.config import UsageConfig
from graphpose.inference import predict
from graphpose.inference.predict import Predictor
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.packed import dequantise, digest, pack, quantise, unpack

USAGE = {"long_edge": 64, "flip": True, "scales": [1.0]}


@pytest.fixture(scope="module")
def network() -> PoseNetwork:
    torch.manual_seed(0)
    network = PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency="dynamic"))
    with torch.no_grad():  # fires everywhere, so that there are poses
        network.pif_head.conv.bias.view(17, 5, -1)[:, 0] += 8
        network.paf_head.conv.bias.view(19, 7, -1)[:, 0] += 8
    return network.eval()


@pytest.fixture(scope="module")
def file(network: PoseNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "people.safetensors"
    decoder = {"min_score": 0.0, "peak_threshold": 0.01, "max_poses": 3}
    pack(path, network, decoder=decoder, usage=USAGE, card={"licence": "none"})
    return path


@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_weight_of_eight_bits_misses_by_half_a_step_of_its_channel(rows: list[list[float]]) -> None:
    weight = torch.tensor(rows)[:, :, None, None]
    whole, scale = quantise(weight)
    assert whole.dtype == torch.int8
    step = weight.flatten(1).abs().amax(dim=1) / 127
    error = (dequantise(whole, scale) - weight).abs().flatten(1).amax(dim=1)
    assert (error <= step * 0.5001 + 1e-30).all()


def test_scales_worked_out_by_hand() -> None:
    whole, scale = quantise(torch.tensor([[1.27, -0.5], [0.0, 0.0], [-254.0, 127.0]]))
    assert whole.tolist() == [[127, -50], [0, 0], [-127, 64]]  # 63.5 is rounded to the even neighbour
    assert scale[[0, 2]].tolist() == pytest.approx([0.01, 2.0])


def test_sixteen_and_thirty_two_bits_keep_what_they_can(network: PoseNetwork, tmp_path: Path) -> None:
    state = network.state_dict()
    for weights in ("float32", "float16"):
        pack(tmp_path / "a.safetensors", network, decoder={}, usage=USAGE, weights=weights)  # type: ignore[arg-type]
        content = unpack(tmp_path / "a.safetensors")
        assert content["network"].keys() == state.keys()
        for name, tensor in content["network"].items():
            assert tensor.dtype == state[name].dtype
            if weights == "float16" and tensor.dim() > 1 and not torch.equal(tensor, state[name]):
                assert torch.equal(tensor, state[name].half().float()), name
            else:
                assert torch.equal(tensor, state[name]), name
    loaded = load_network(tmp_path / "a.safetensors")
    assert not loaded.training


def test_eight_bits_are_a_quarter_of_the_bytes_and_fields_stay_near(network: PoseNetwork, file: Path) -> None:
    parameters = sum(tensor.numel() for tensor in network.state_dict().values())
    assert file.stat().st_size < 1.2 * parameters
    assert file.stat().st_mode & 0o777 == 0o644
    images = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before, after = network(images), load_network(file)(images)
    for field in ("pif", "paf"):
        error = (before[field] - after[field]).abs().mean() / before[field].std()
        assert error < 0.05


def test_a_packed_network_is_used_as_it_says(file: Path) -> None:
    predictor = Predictor.from_checkpoint(file)
    assert predictor.usage == UsageConfig(64, True, (1.0,))
    assert predictor.decoder.config.max_poses == 3
    assert 0 < len(predictor(DemoDataset(1, size=96)[0].image)) <= 3
    assert Predictor.from_checkpoint(str(file), long_edge=0, flip=False).usage == UsageConfig(None, False, (1.0,))
    assert load_checkpoint(file)["card"] == {"licence": "none"}


def test_images_that_are_not_enlarged_are_as_at_their_own_size(file: Path) -> None:
    image = DemoDataset(1, size=96)[0].image
    own = Predictor.from_checkpoint(file, long_edge=0)(image)
    kept = Predictor.from_checkpoint(file, long_edge=160, enlarge=False)
    assert kept.usage == UsageConfig(160, True, (1.0,), enlarge=False)
    np.testing.assert_array_equal(kept(image).keypoints, own.keypoints)
    enlarged = Predictor.from_checkpoint(file, long_edge=160)(image)
    assert not np.array_equal(enlarged.scores, own.scores)


def test_the_shipped_network_is_what_a_predictor_takes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (packed, predict):
        monkeypatch.setattr(module, "SHIPPED", file)
    image = DemoDataset(1, size=96)[0].image
    poses, named = Predictor()(image), Predictor.from_checkpoint(file)(image)
    assert np.array_equal(poses.keypoints, named.keypoints)
    assert Predictor(usage=UsageConfig(32)).usage.long_edge == 32


def test_without_a_shipped_network_a_checkpoint_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "people.safetensors"
    monkeypatch.setattr(packed, "SHIPPED", nowhere)
    with pytest.raises(GraphposeError, match="ships no network; name a checkpoint"):
        unpack(nowhere)


def test_damage_is_found(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(GraphposeError, match=r"bad\.safetensors' is damaged: its checksum is wrong"):
        unpack(tmp_path / "bad.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(content[:1000])
    with pytest.raises(GraphposeError, match=r"bad\.safetensors' cannot be read"):
        unpack(tmp_path / "bad.safetensors")
    save_file(load_file(file), tmp_path / "other.safetensors")
    with pytest.raises(GraphposeError, match="is no packed network of graphpose"):
        unpack(tmp_path / "other.safetensors")
    with pytest.raises(GraphposeError, match=r"gone\.safetensors' does not exist"):
        load_checkpoint(tmp_path / "gone.safetensors")


def test_the_checksum_does_not_depend_on_order_but_on_every_name_type_and_byte() -> None:
    a, b = torch.ones(2), torch.zeros(3, dtype=torch.int8)
    assert digest({"a": a, "b": b}) == digest({"b": b, "a": a})
    others = [{"a": a}, {"a": a, "c": b}, {"a": a, "b": b.to(torch.uint8)}, {"a": a, "b": b + 1}]
    assert len({digest(other) for other in [{"a": a, "b": b}, *others]}) == 5


def test_what_cannot_be_packed_is_refused(network: PoseNetwork, tmp_path: Path) -> None:
    with pytest.raises(GraphposeError, match=r"must end in \.safetensors"):
        pack(tmp_path / "a.pt", network, decoder={}, usage=USAGE)
    with pytest.raises(GraphposeError, match="weights 'int4' must be one of int8, float16, float32"):
        pack(tmp_path / "a.safetensors", network, decoder={}, usage=USAGE, weights="int4")  # type: ignore[arg-type]


def test_the_command_packs_a_run_as_it_was_evaluated(
    network: PoseNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = {"long_edge": 96, "test_flip": True, "test_scales": [1.0, 0.75], "enlarge": False}
    run = tmp_path / "run"
    training = {"configuration": configuration, "epoch": 3}
    save_checkpoint(run / "checkpoint.pt", network, network.config, decoder={"max_poses": 4}, training=training)
    assert usage_of(load_checkpoint(run)) == UsageConfig(96, True, (1.0, 0.75), enlarge=False)
    (tmp_path / "card.json").write_text(json.dumps({"data": "made"}))
    out = tmp_path / "small.safetensors"
    card = ["--card", str(tmp_path / "card.json")]
    assert main(["pack", str(run), str(out), *card, "--scales", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"written to {out}, ")
    assert printed.err == "long edge at most 96 px, mirror image fused\n"
    content = load_checkpoint(out)
    assert usage_of(content) == UsageConfig(96, True, (1.0,), enlarge=False)
    assert main(["pack", str(run), str(tmp_path / "larger.safetensors"), "--enlarge"]) == 0
    assert usage_of(load_checkpoint(tmp_path / "larger.safetensors")).enlarge
    capsys.readouterr()
    assert (content["decoder"], content["card"]) == ({"max_poses": 4} | content["decoder"], {"data": "made"})
    (tmp_path / "card.json").write_text("[1]")
    assert main(["pack", str(run), str(out), *card]) == 2
    assert "must be a JSON object of texts" in capsys.readouterr().err


def test_usage_in_words_and_what_it_refuses() -> None:
    assert UsageConfig().line() == "long edge 641 px"
    assert UsageConfig(None, True, (1.0, 0.5)).line() == (
        "images at their own size, mirror image fused, scales 1 0.5 fused"
    )
    assert UsageConfig.from_run({"long_edge": None, "test_scales": 0.5}) == UsageConfig(None, False, (0.5,))
    assert UsageConfig(96, scales=(1.0, 0.5), enlarge=False, merge="poses").line() == (
        "long edge at most 96 px, scales 1 0.5 decoded apart and merged"
    )
    assert UsageConfig.from_run({"test_scales": [1.0, 0.5], "test_merge": "poses"}).fusion.merge == "poses"
    for usage in (UsageConfig(3, True, (2.0,)), UsageConfig(3, enlarge=False, scales=(1.0, 0.5), merge="poses")):
        assert UsageConfig.from_dict(usage.to_dict()) == usage
    assert UsageConfig.from_dict({"long_edge": 3, "flip": False, "scales": [1.0]}).enlarge  # of earlier files
    with pytest.raises(GraphposeError, match="long edge -1"):
        UsageConfig(-1)
    with pytest.raises(GraphposeError, match="test scales"):
        UsageConfig(scales=(0.0,))
