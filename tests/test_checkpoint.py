"""Checkpoints: whole, atomic, refused when damaged or of another skeleton."""

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from graphpose.checkpoint import (
    card_of_successor,
    is_checkpoint,
    load_checkpoint,
    load_network,
    previous_path,
    require_skeleton,
    save_checkpoint,
)
from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import soft_adjacency
from graphpose.graphs.statistics import shipped_statistics
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.packed import pack
from graphpose.skeleton import COCO, CROWDPOSE


def small_config(**changes) -> PoseNetworkConfig:
    return PoseNetworkConfig(**{"skeleton": COCO, "backbone": "regnetx_002", "stem_pool": True, **changes})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = PoseNetwork(small_config())
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, network, network.config, training={"epoch": 3})
    return path


def test_a_loaded_network_gives_the_outputs_of_the_saved_one(tmp_path):
    torch.manual_seed(1)
    network = PoseNetwork(small_config()).eval()
    save_checkpoint(tmp_path / "c.pt", network, network.config)
    images = torch.randn(1, 3, 65, 97)
    loaded = load_network(tmp_path / "c.pt")
    assert loaded.config == network.config
    assert not loaded.training
    with torch.no_grad():
        expected, found = network(images), loaded(images)
    assert torch.equal(expected["pif"], found["pif"])
    assert torch.equal(expected["paf"], found["paf"])


def test_averaged_weights_are_preferred_and_can_be_left(tmp_path):
    network, averaged = PoseNetwork(small_config()), PoseNetwork(small_config())
    save_checkpoint(tmp_path / "c.pt", network, network.config, ema=averaged)
    name, expected = next(iter(averaged.state_dict().items()))
    assert torch.equal(load_network(tmp_path / "c.pt").state_dict()[name], expected)
    assert torch.equal(load_network(tmp_path / "c.pt", ema=False).state_dict()[name], network.state_dict()[name])


def test_no_temporary_file_stays_and_the_old_checkpoint_survives_a_failed_write(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()
    network = PoseNetwork(small_config())

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(GraphposeError, match="No space left on device"):
        save_checkpoint(checkpoint, network, network.config)
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(GraphposeError, match=r"nowhere\.pt' does not exist"):
        load_checkpoint(tmp_path / "nowhere.pt")


@pytest.mark.parametrize("length", [0, 1, 100, 5000, -1])
def test_a_truncated_checkpoint_is_unreadable_and_named(checkpoint, length):
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2] if length == -1 else whole[:length])
    with pytest.raises(GraphposeError, match=r"checkpoint\.pt' cannot be read"):
        load_checkpoint(checkpoint)


def test_another_file_is_no_checkpoint(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(GraphposeError, match="no graphpose checkpoint"):
        load_checkpoint(tmp_path / "other.pt")


def test_a_checkpoint_is_told_from_other_files_by_its_end(checkpoint, tmp_path):
    assert is_checkpoint(checkpoint)
    content = checkpoint.read_bytes()
    for other in (content[:-1], content + b"x", b"graphpos", b""):
        (tmp_path / "other").write_bytes(other)
        assert not is_checkpoint(tmp_path / "other")
    assert not is_checkpoint(tmp_path / "missing")
    assert not is_checkpoint(tmp_path)


def test_what_is_trained_on_from_a_network_keeps_its_origin_and_licence_but_not_its_figures():
    card = {"origin": "a file", "licence": "AGPL", "published AP": "0.626"}
    first = card_of_successor({"card": card}, Path("runs/a.pt"))
    assert first == {"origin": "trained on from a.pt: a file", "licence": "AGPL"}
    second = card_of_successor({"card": first}, Path("b.pt"))
    assert second == {"origin": "trained on from b.pt: trained on from a.pt: a file", "licence": "AGPL"}
    assert card_of_successor({}, Path("a.pt")) is None


def test_a_checkpoint_of_another_skeleton_is_refused_naming_both(checkpoint):
    with pytest.raises(GraphposeError, match=r"skeleton 'coco' \(17 keypoints.*skeleton 'crowdpose' \(14 keypoints"):
        require_skeleton(load_checkpoint(checkpoint), CROWDPOSE, checkpoint)
    with pytest.raises(GraphposeError, match="'crowdpose'"):
        load_network(checkpoint, skeleton=CROWDPOSE)


def damaged_bytes(whole: bytes, trial: int) -> bytes:
    """Trials 0–19 cut the file at a random length, 20–39 flip one bit at a random place."""
    rng = np.random.default_rng(trial)
    if trial < 20:
        return whole[: int(rng.integers(0, len(whole)))]
    damaged = bytearray(whole)
    damaged[int(rng.integers(0, len(whole)))] ^= 1 << int(rng.integers(0, 8))
    return bytes(damaged)


def test_every_truncation_and_every_flipped_bit_is_found_and_the_checkpoint_before_is_used(tmp_path, caplog):
    network = PoseNetwork(small_config(backbone="test_resnet"))
    path = tmp_path / "checkpoint.pt"
    for epoch in (1, 2):
        save_checkpoint(path, network, network.config, training={"epoch": epoch}, keep_previous=True)
    whole, before = path.read_bytes(), previous_path(path).read_bytes()
    for trial in range(40):
        path.write_bytes(damaged_bytes(whole, trial))
        caplog.clear()
        assert load_checkpoint(path)["training"] == {"epoch": 1}, trial
        assert "using the one before it" in caplog.text
    path.write_bytes(whole)
    assert load_checkpoint(path)["training"] == {"epoch": 2}
    assert previous_path(path).read_bytes() == before


def test_where_the_last_checkpoint_is_missing_the_one_before_is_used_and_two_damaged_ones_are_both_named(checkpoint):
    checkpoint.rename(previous_path(checkpoint))
    assert load_checkpoint(checkpoint)["training"] == {"epoch": 3}  # killed between two renames
    checkpoint.write_bytes(b"nothing")
    previous_path(checkpoint).write_bytes(b"nothing either")
    with pytest.raises(
        GraphposeError, match=r"checkpoint\.pt' cannot be read.*before it.*previous\.pt' cannot be read"
    ):
        load_checkpoint(checkpoint)


def test_torch_loads_a_checkpoint_without_graphpose(checkpoint):
    assert torch.load(checkpoint, weights_only=True)["training"] == {"epoch": 3}


@pytest.mark.slow
def test_a_full_file_system_leaves_the_checkpoint_whole(tmp_path):
    network = PoseNetwork(small_config(backbone="test_resnet"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a file system of 3 MB")
    try:
        path = tmp_path / "checkpoint.pt"
        save_checkpoint(path, network, network.config, training={"epoch": 1}, keep_previous=True)
        assert 2 * path.stat().st_size > 3 * 2**20  # a second one does not fit
        with pytest.raises(GraphposeError, match=r"checkpoint\.pt' could not be written: No space left on device"):
            save_checkpoint(path, network, network.config, training={"epoch": 2}, keep_previous=True)
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
        assert load_checkpoint(path)["training"] == {"epoch": 1}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_pose_statistics_travel_with_a_network_and_those_shipped_do_not(tmp_path, checkpoint):
    assert "statistics" not in load_checkpoint(checkpoint)
    assert load_network(checkpoint).statistics() is shipped_statistics(COCO)
    own = dataclasses.replace(shipped_statistics(COCO), mean=2 * shipped_statistics(COCO).mean)
    network = PoseNetwork(small_config(adjacency="soft", statistics="train"), pose_statistics=own)
    torch.testing.assert_close(network.keypoint_graph.matrix, soft_adjacency(own).float())
    save_checkpoint(tmp_path / "c.pt", network, network.config)
    pack(tmp_path / "c.safetensors", network, decoder={}, usage={})
    for path in (tmp_path / "c.pt", tmp_path / "c.safetensors"):
        loaded = load_network(path)
        assert torch.equal(loaded.keypoint_graph.matrix, network.keypoint_graph.matrix)
        for statistics in (loaded.statistics(), loaded.fold().pose_statistics):
            np.testing.assert_array_equal(statistics.mean, own.mean)
