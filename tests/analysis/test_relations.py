"""The command on learned relations: seeds, noise, two settings, any skeleton, and the effect of an edge."""

import csv
from pathlib import Path

import pytest

from analysis.relations import main
from graphpose.skeleton import Skeleton
from tests.analysis.relation_runs import made_run

KITE = Skeleton("kite", ("top", "left", "right", "tail"), ((0, 1), (0, 2)), (0.1,) * 4)


def test_what_was_planted_in_three_seeds_stands_out_and_nothing_else(tmp_path, capsys):
    runs = [made_run(tmp_path / str(seed), seed, edge=1.5) for seed in (1, 2, 3)]
    assert main([*map(str, runs), "--out", str(tmp_path / "out"), "--permutations", "99"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("**: 1 of 272 relations stands out of the noise of 3 seeds:") == 4
    assert printed.count("| left_wrist | right_wrist | 3.") == 4
    assert "| layer | ρ with −M_d (p) | ρ with A_h (p) | ρ between seeds (p) |" in printed
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "relations.md", "relations.csv", "heat_maps.png", "bodies.png", "evolution.html"
    }  # fmt: skip
    rows = list(csv.DictReader((out / "relations.csv").open()))
    assert len(rows) == 4 * 272
    named = {(row["takes"], row["from"]) for row in rows if row["stands_out"] == "1"}
    assert named == {("left_wrist", "right_wrist")}
    assert (out / "relations.md").read_text() in printed


def test_noise_alone_names_nothing_and_one_seed_claims_nothing(tmp_path, capsys):
    runs = [made_run(tmp_path / str(seed), seed, edge=0.0) for seed in (1, 2, 3)]
    assert main([*map(str, runs), "--out", str(tmp_path / "out"), "--permutations", "9"]) == 0
    assert capsys.readouterr().out.count("none of 272 relations stand out of the noise of 3 seeds.") == 4
    assert main([str(runs[0]), "--out", str(tmp_path / "one"), "--permutations", "9"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("one seed, so the noise is unknown") == 4
    assert "stand out" not in printed


def test_two_settings_are_told_apart_by_what_differs_and_compared(tmp_path, capsys):
    runs = [made_run(tmp_path / str(seed), seed, edge=0.0) for seed in (1, 2, 3)]
    runs += [made_run(tmp_path / str(seed), seed, edge=1.5, epochs=9) for seed in (4, 5, 6)]
    assert main([*map(str, runs), "--out", str(tmp_path / "out"), "--permutations", "9"]) == 0
    printed = capsys.readouterr().out
    assert "## epochs=2 − epochs=9" in printed
    assert printed.count("1 of 272 relations differ beyond noise; the largest difference is 2.") == 4
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        "heat_maps_1.png", "heat_maps_2.png", "bodies_1.png", "bodies_2.png", "difference.png"
    }  # fmt: skip


def test_a_skeleton_without_statistics(tmp_path, capsys):
    run = made_run(tmp_path / "1", 1, edge=0.0, skeleton=KITE, adjacency="full")
    assert main([str(run), "--out", str(tmp_path / "out"), "--permutations", "9"]) == 0
    printed = capsys.readouterr().out
    assert "There are no pose statistics for this skeleton, so no M_d." in printed
    assert "| top | " in printed
    assert main([str(run), "--out", str(tmp_path / "out"), "--effect", "1"]) == 2
    assert "has keypoints of 'coco', not of 'kite'; give --annotations and --data" in capsys.readouterr().err


def test_effects_are_printed_with_their_noise(tmp_path, capsys, monkeypatch):
    run = made_run(tmp_path / "1", 1, edge=1.5)
    asked = []

    def effects(network, decoder, loader, truth, edges, *, resamples):
        asked.append((len(truth["images"]), edges, resamples))
        change = [{"AP": (-0.1, -0.2, -0.05), "AR": (0, 0, 0)}, {"AP": (0.01, -0.1, 0.1), "AR": (0, 0, 0)}]
        return {"AP": (0.5, 0.4, 0.6)}, dict(zip(edges, change, strict=True))

    monkeypatch.setattr("graphpose.inference.edge_effects.edge_effects", effects)
    words = [str(run), "--out", str(tmp_path / "out"), "--permutations", "9", "--effect", "2", "--resamples", "5"]
    assert main([*words, "--images", "3"]) == 0
    assert asked[0][::2] == (3, 5)
    assert asked[0][1][0] == (9, 10)
    printed = capsys.readouterr().out
    assert "3 images: demo scenes of the evaluation's stream). AP with all: 0.500 [0.400, 0.600]." in printed
    assert "| left_wrist | right_wrist | 3." in printed
    assert "| -0.1000 [-0.2000, -0.0500] | +0.0000 [+0.0000, +0.0000] |" in printed
    assert "1 of 2 leave out 0, of which chance alone would make 0.1" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--permutations", "0"], "--permutations 0: at least 1 is needed"),
        (["--annotations", "x.json"], "--annotations and --data belong together"),
        (["--images", "0"], "--images 0: at least 1 is needed"),
    ],
)
def test_wrong_words_are_refused(tmp_path, capsys, words, message):
    assert main([str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_relations_is_named(tmp_path, capsys):
    run = made_run(tmp_path / "1", 1, edge=0.0, adjacency="identity")
    assert main([str(run), "--out", str(tmp_path / "out")]) == 2
    assert "adjacency=identity has no W_d; train one with adjacency=dynamic" in capsys.readouterr().err
    assert main([str(Path(tmp_path, "nothing"))]) == 2
    assert "nothing" in capsys.readouterr().err
