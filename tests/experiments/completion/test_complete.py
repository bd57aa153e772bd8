"""The command that completes poses: its table, what it keeps, and what it refuses."""

import json
import math

import numpy as np
import pytest

from experiments.complete import main
from experiments.completion.report import Table
from experiments.completion.rows import ROWS, Completion, Result, Row, Settings
from graphpose.data.demo.dataset import DemoDataset
from graphpose.errors import GraphposeError
from graphpose.graphs.dataset import KeypointGraphDataset


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Persons of rendered scenes as annotation files; the test starts beside them."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("train", 0), ("test", 1)):
        (tmp_path / f"{name}.json").write_text(json.dumps(DemoDataset(30, seed=seed).ground_truth()))
    return ["--train", "train.json", "--test", "test.json"]


SMALL = ["--set", "persons=40", "epochs=1", "width=8", "depth=1", "--seeds", "2"]


@pytest.mark.slow
def test_table_is_written_and_what_is_done_is_not_done_again(files, tmp_path, capsys, monkeypatch):
    rows = ["--rows", "mean pose", "ridge", "GCN, identity", "GCN, hand_crafted", "GAT, soft", "GAT, full"]
    assert main([*files, *rows, *SMALL, "--page", "docs/results.md"]) == 0
    page = (tmp_path / "docs/results.md").read_text()
    assert "| GCN, hand_crafted | 0." in page
    assert "| GAT, soft | 0." in page
    assert "| as full | 2 |" in page
    assert "`python experiments/complete.py --train train.json --test test.json --rows 'mean pose' ridge" in page
    picture = next((tmp_path / "docs/results").glob("*.png"))
    assert f"(results/{picture.name})" in page
    printed = capsys.readouterr().out
    assert printed.count(" CPU s\n") == 2 * 5  # GAT sees the same in soft and full: once
    kept = {path: path.read_bytes() for path in (tmp_path / "runs/completion").rglob("*-[12].npz")}
    assert len(kept) == 2 * 5
    monkeypatch.setattr(Completion, "_compute", lambda *_: pytest.fail("it was done before"))
    assert main([*files, *rows, *SMALL, "--list"]) == 0
    assert main([*files, *rows, *SMALL, "--page", "docs/results.md"]) == 0
    assert (tmp_path / "docs/results.md").read_text() == page


@pytest.mark.slow
def test_a_seed_is_the_same_again_and_another_is_not(files, tmp_path):
    settings = Settings(persons=40, epochs=1, width=8, depth=1)
    train, test = (KeypointGraphDataset(f"{name}.json", root=tmp_path / "persons", min_keypoints=8)
                   for name in ("train", "test"))  # fmt: skip
    first, again = (Completion(train, test, settings, tmp_path / name) for name in ("a", "b"))
    row = Row("GraphConv", "dynamic")
    assert first.result(row, 1).error == again.result(row, 1).error
    assert first.result(row, 1).error != first.result(row, 2).error
    assert first.known(row, 3) is None
    first.path(row, 1).write_bytes(b"no")
    with pytest.raises(GraphposeError, match=r"GraphConv-dynamic-1\.npz is damaged .* delete it"):
        first.known(row, 1)


def test_differences_are_paired_over_seeds_and_their_noise_by_hand(files, tmp_path):
    settings = Settings(persons=5, min_keypoints=8)
    train, test = (KeypointGraphDataset(f"{name}.json", root=tmp_path / "persons", min_keypoints=8)
                   for name in ("train", "test"))  # fmt: skip
    completion = Completion(train, test, settings, tmp_path)
    hidden = completion.test.hidden.sum(1).double().numpy()

    def result(error: float) -> Result:
        return Result(error, error, [], error * hidden, 1.0, 10)

    base, other = Row("GCN", "hand_crafted"), Row("GCN", "full")
    results = {base: {1: result(0.1), 2: result(0.3)}, other: {1: result(0.2), 2: result(0.42), 3: None}}
    table = Table([base, other], results, completion)
    paired, noise = table.difference(other)
    assert paired.mean == pytest.approx(0.11)
    assert paired.high - paired.mean == pytest.approx(12.706 * 0.01, rel=1e-3)  # t of one degree, s = 0.0141 / √2
    assert noise == pytest.approx(0, abs=1e-12)  # every person differs by the same for each hidden keypoint
    assert table.difference(base) is None
    deviation, degrees = table.pooled()
    assert (deviation, degrees) == (pytest.approx(math.sqrt((0.02 + 0.0242) / 2)), 2)
    uneven = np.where(np.arange(len(hidden)) % 2, 2, 0) * hidden
    results[other][2] = results[other][1] = Result(0.2, 0.2, [], uneven, 1.0, 10)
    assert table.difference(other)[1] > 0.01


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rows", "GCN, fool"], "unknown row 'GCN, fool'; choose of mean pose; ridge"),
        (["--seeds", "0"], "--seeds 0: at least one is needed"),
        (["--set", "epoch=3"], "--set epoch=3: no such setting; there are persons=10000"),
        (["--set", "epochs=three"], "'three' is no int"),
        (["--set", "share=1"], "share is 1.0; a number below 1 is needed"),
        (["--set", "width=10"], "width is 10; a multiple of 4 is needed"),
        (["--set", "keep=8"], "keep 8 of min_keypoints 8 leaves none to hide"),
        (["--set", "persons=-1"], "persons is -1; a positive number is needed"),
        ([], "persons 10000: there are "),
    ],
)
def test_wrong_words_are_refused(files, capsys, words, message):
    assert main([*files, *words]) == 2
    assert message in capsys.readouterr().err


def test_files_are_given_both_or_not_at_all(files, capsys, monkeypatch):
    assert main(files[:2]) == 2
    assert "--train and --test belong together" in capsys.readouterr().err
    monkeypatch.delenv("GRAPHPOSE_DATA", raising=False)
    assert main([]) == 2
    assert "in GRAPHPOSE_DATA" in capsys.readouterr().err


def test_rows_are_five_graphs_under_three_layers_and_baselines():
    assert len(ROWS) == 4 + 15
    assert len({row.name for row in ROWS}) == len(ROWS)
