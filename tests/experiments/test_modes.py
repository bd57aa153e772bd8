"""Runs with graphs of several kinds of poses: found in the training set, resumed, and begun from another network."""

import json

import pytest
import torch

from experiments.configs.named import configured
from experiments.configs.settings import build_settings
from experiments.running.build import build_datasets, build_network, run_modes, run_statistics
from graphpose.checkpoint import load_checkpoint, load_network, save_checkpoint
from graphpose.errors import GraphposeError
from graphpose.graphs.dataset_statistics import dataset_modes
from graphpose.graphs.mode_statistics import mode_adjacencies
from graphpose.nn.network import PoseNetwork
from tests.experiments.in_process import import_run, launch

TINY = {"backbone": "test_resnet", "demo_train_scenes": 12, "demo_val_scenes": 2, "image_size": 96}


def settings_of(**changes):
    return build_settings(configured("demo", {**TINY, "adjacency": "modes", "modes": 2, **changes}))


@pytest.fixture(scope="module")
def train():
    return build_datasets(settings_of().data, 1)[0]


def test_kinds_of_a_run_are_those_of_its_training_set_unless_it_says_otherwise(train, tmp_path, capsys):
    expected = dataset_modes(train, 2).statistics
    for statistics in ("train", None):
        network = settings_of(statistics=statistics).network
        kinds = run_modes(network, train)
        assert [kind.to_dict() for kind in kinds] == [kind.to_dict() for kind in expected]
        assert run_statistics(network, train).provenance["persons"] == sum(k.provenance["persons"] for k in kinds)
    assert capsys.readouterr().out.splitlines()[0].startswith("kind of poses 1 of 2: ")
    for number, kind in enumerate(expected, start=1):
        kind.save(tmp_path / f"kind-{number}.json")
    assert run_modes(settings_of(statistics=str(tmp_path)).network, train)[1].provenance["kind"] == "2 of 2"
    assert run_statistics(settings_of(statistics=str(tmp_path)).network, train).provenance["kinds"] == [
        "1 of 2",
        "2 of 2",
    ]
    assert run_modes(settings_of(modes=1).network, train) == ()
    with pytest.raises(GraphposeError, match=r"modes=3 .* that folder has 2 kinds of poses; set modes=2"):
        run_statistics(settings_of(modes=3, statistics=str(tmp_path)).network, train)
    with pytest.raises(GraphposeError, match=r"folder of kinds of poses 'nowhere' does not exist"):
        run_statistics(settings_of(statistics="nowhere").network, train)
    with pytest.raises(GraphposeError, match=r"modes=999 with statistics=train: 999 kinds of \d+ poses"):
        run_modes(settings_of(modes=999).network, train)


def test_a_pretrained_gate_keeps_the_kinds_that_it_knows_and_a_baseline_gets_new_ones(train, tmp_path):
    config = settings_of().network
    kinds = dataset_modes(train, 2).statistics
    known = tuple(reversed(kinds))
    network = PoseNetwork(config, mode_statistics=known)
    torch.nn.init.normal_(network.keypoint_graph.gate.weight)
    save_checkpoint(tmp_path / "modes.pt", network, network.config)
    settings = settings_of(pretrained=str(tmp_path / "modes.pt")).network
    content = load_checkpoint(tmp_path / "modes.pt")
    chosen = run_modes(settings, train, content)
    assert [kind.to_dict() for kind in chosen] == [kind.to_dict() for kind in known]
    begun = build_network(settings, pretrained=content, statistics=run_statistics(settings, train), modes=chosen)
    assert torch.equal(begun.keypoint_graph.gate.weight, network.keypoint_graph.gate.weight)
    assert torch.equal(begun.keypoint_graph.matrix, network.keypoint_graph.matrix)
    for number, kind in enumerate(kinds, start=1):
        kind.save(tmp_path / f"kind-{number}.json")
    (tmp_path / "kinds").mkdir()
    for number in (1, 2):
        (tmp_path / f"kind-{number}.json").rename(tmp_path / "kinds" / f"kind-{number}.json")
    others = settings_of(pretrained=str(tmp_path / "modes.pt"), statistics=str(tmp_path / "kinds")).network
    with pytest.raises(GraphposeError, match=r"kind '1 of 2' is not that of the network in pretrained="):
        run_modes(others, train, content)

    baseline = PoseNetwork(build_settings(configured("demo", {**TINY, "adjacency": None})).network)
    save_checkpoint(tmp_path / "baseline.pt", baseline, baseline.config)
    settings = settings_of(pretrained=str(tmp_path / "baseline.pt")).network
    content = load_checkpoint(tmp_path / "baseline.pt")
    begun = build_network(settings, pretrained=content, modes=run_modes(settings, train, content))
    torch.testing.assert_close(begun.keypoint_graph.matrix, mode_adjacencies(kinds).float())
    before, after = (dict(one.backbone.named_parameters()) for one in (baseline, begun))
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.slow
def test_a_run_learns_its_gate_and_is_resumed_with_its_kinds(tmp_path, monkeypatch, capsys):
    run = import_run(monkeypatch, tmp_path)
    settings = [*(f"{key}={value}" for key, value in TINY.items()), "adjacency=modes", "modes=2", "statistics=train"]
    settings += ["seed=1", "batch_size=3", "evaluate_every=9", "contact_sheet_images=0", "upsample=2"]
    launch(run, "-F", "first", "with", "demo", *settings, "epochs=1")
    assert "kind of poses 2 of 2: " in capsys.readouterr().out
    launch(run, "-F", "then", "with", "demo", *settings, "epochs=2", "resume=first/1")
    assert "kind of poses" not in capsys.readouterr().out
    first, then = (load_network(path, ema=False) for path in ("first/1", "then/1"))
    weights = [network.keypoint_graph.gate.weight for network in (first, then)]
    assert bool((weights[0] != 0).any())
    assert not torch.equal(*weights)
    assert [kind.to_dict() for kind in then.mode_statistics] == [kind.to_dict() for kind in first.mode_statistics]
    assert torch.equal(then.keypoint_graph.matrix, first.keypoint_graph.matrix)
    assert json.loads((tmp_path / "first/1/config.json").read_text())["modes"] == 2
