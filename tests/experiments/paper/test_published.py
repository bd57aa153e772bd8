"""Baseline rows from published weights: which there are, evaluated once, and gone on with where it stopped."""

import dataclasses
import json
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from experiments import tables
from experiments.paper import published
from experiments.paper.rows import PUBLISHED_TABLES, TABLE_4, TABLE_6, Row
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.demo.files import write_demo
from graphpose.data.loader import make_loader
from graphpose.data.open import open_dataset
from graphpose.data.transforms import EvalTransform
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decode import build_decoder
from graphpose.inference.evaluate import evaluate
from graphpose.openpifpaf.published import PUBLISHED
from tests.openpifpaf.originals import original, write

ROW = Row("tiny", {"adjacency": "none", "backbone": "resnet18"}, {"AP": 0.5})
# random fields are nearly everywhere below the usual thresholds
LOW = {"keypoint_threshold": 0.01, "limb_threshold": 0.01, "peak_threshold": 0.01, "min_score": 0.0, "max_poses": 3}


def test_the_published_rows_are_the_papers_baselines_on_coco():
    found = {
        name: [f"{row.name}: {network}" for row, network in published.published_rows(table).items()]
        for name, table in PUBLISHED_TABLES.items()
    }
    depths = (50, 101, 152)
    assert found == {
        "table1": ["baseline: pifpaf-resnet50"],
        "table3": ["baseline: pifpaf-resnet50"],
        "table4": [f"baseline-{depth}: pifpaf-resnet{depth}" for depth in depths],
        "table5": ["baseline-ResNeXt50: pifpaf-resnext50"],
        "table6": [f"PifPaf-{depth}: pifpaf-resnet{depth}" for depth in depths],
    }
    for table in PUBLISHED_TABLES.values():  # their authors' figures are those that the paper cites
        for row, network in published.published_rows(table).items():
            assert row.paper["AP"] == PUBLISHED[network].ap


@pytest.fixture
def scenes(tmp_path) -> Path:
    """Four rendered scenes as a COCO-format data set."""
    write_demo(tmp_path / "scenes", DemoDataset(4, seed=7, size=64, max_persons=2))
    return tmp_path / "scenes"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return write(original("v0.8"), tmp_path_factory.mktemp("weights") / "random.pkl")


def evaluation(scenes: Path, weights: Path, root: Path, **changes) -> published.PublishedEvaluation:
    extra = {"data_root": str(scenes), "val_annotations": "annotations.json", "val_images": "images", "long_edge": 64}
    settings = published.evaluation_settings("coco", extra | changes)
    return published.PublishedEvaluation(ROW, "pifpaf-resnet50", weights, settings, LOW, root)


def at_once(one: published.PublishedEvaluation, scenes: Path):
    network, decoder = one.network()
    dataset = open_dataset(scenes / "annotations.json", scenes / "images")
    loader = make_loader(dataset, EvalTransform(64), 1, shuffle=False)
    return evaluate(network, build_decoder(network.spec, decoder), loader, dataset.ground_truth())


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on_with_the_next_image(scenes, weights, tmp_path, monkeypatch):
    one = evaluation(scenes, weights, tmp_path / "runs")
    whole, seen = published.predict_batches, []

    def interrupted(network, decoder, batches, **options):
        for batch, poses in whole(network, decoder, batches, **options):
            if len(seen) == 2:
                raise KeyboardInterrupt
            seen.extend(batch.image_ids)
            yield batch, poses

    monkeypatch.setattr(published, "predict_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.run()
    assert published.state_of(one) == "2 images done"
    with open(one.folder / "poses.jsonl", "a") as file:
        file.write('{"image_id": 3, "poses": [{"im')  # the power failed
    seen.append(None)
    figures = one.run()
    assert len(seen) == 5
    assert published.state_of(one) == "done"
    expected = at_once(one, scenes)
    assert expected.results
    assert {key: figures[key] for key in expected.metrics} == expected.metrics
    assert [pose for poses in one.poses().values() for pose in poses] == expected.results
    parameters = sum(p.numel() for p in one.network()[0].parameters())
    assert figures["MiB"] == pytest.approx(parameters * 4 / 2**20)
    monkeypatch.setattr(published, "predict_batches", None)
    assert one.run() == figures  # kept


def test_an_evaluation_is_known_by_what_decides_its_figures(scenes, weights, tmp_path):
    one = evaluation(scenes, weights, tmp_path)
    other = write(original("v0.8"), tmp_path / "random.pkl")
    elsewhere = tmp_path / "elsewhere"
    scenes.rename(elsewhere)
    assert evaluation(elsewhere, weights, tmp_path, workers=3, device="cpu").folder.name == one_name(one, elsewhere)
    changed = [
        evaluation(elsewhere, other, tmp_path),
        evaluation(elsewhere, weights, tmp_path, test_flip=True),
        evaluation(elsewhere, weights, tmp_path, long_edge=97),
        dataclasses.replace(evaluation(elsewhere, weights, tmp_path), overrides={}),
    ]
    assert len({one.folder for one in [*changed, evaluation(elsewhere, weights, tmp_path)]}) == 5


def one_name(one: published.PublishedEvaluation, moved: Path) -> str:
    data = dataclasses.replace(one.settings.data, data_root=str(moved))
    return dataclasses.replace(one, settings=dataclasses.replace(one.settings, data=data)).folder.name


def test_a_checkpoint_stands_for_the_file_that_it_was_made_of(scenes, weights, tmp_path):
    from graphpose.cli import main

    assert main(["import", str(weights), "--out", str(tmp_path / "baseline.pt")]) == 0
    network, decoder = evaluation(scenes, tmp_path / "baseline.pt", tmp_path).network()
    direct, same = evaluation(scenes, weights, tmp_path).network()
    assert decoder == same
    assert decoder == DecoderConfig.from_dict(dataclasses.asdict(decoder) | LOW)
    assert decoder.full_limb_weight == 9
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), direct.parameters(), strict=True))


def test_images_that_cannot_be_read_are_no_figure_but_the_others_are_kept(scenes, weights, tmp_path):
    one = evaluation(scenes, weights, tmp_path / "runs")
    path = next((scenes / "images").iterdir())
    content = path.read_bytes()
    path.write_bytes(b"no image")
    with pytest.raises(GraphposeError, match=r"1 of 4 images cannot be read, the first: .*; put them there and start"):
        one.run()
    assert published.state_of(one) == "3 images done"
    path.write_bytes(content)
    assert one.run()["AP"] >= 0


def test_another_network_than_the_rows_is_refused(scenes, weights, tmp_path):
    one = evaluation(scenes, weights, tmp_path / "runs")
    wrong = dataclasses.replace(one, row=dataclasses.replace(ROW, settings={"adjacency": "none"}))
    with pytest.raises(GraphposeError, match="is a resnet18 with adjacency 'none', but the row tiny is a resnet50"):
        wrong.run()


@pytest.fixture
def offline(tmp_path, monkeypatch) -> list[str]:
    """Addresses that were asked for in vain."""
    asked = []

    def refuse(address, path, **options):
        asked.append(address)
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return asked


def test_offline_one_line_says_what_to_download_and_where_to_put_it(offline, tmp_path, capsys):
    common = ["table6", "--published", "--runs", str(tmp_path / "runs"), "--page", str(tmp_path / "page.md")]
    assert tables.main(common) == 2
    line, _ = capsys.readouterr().err.splitlines()
    addresses = [PUBLISHED[f"pifpaf-resnet{depth}"].address for depth in (50, 101, 152)]
    assert line == (
        "tables.py: not here (<urlopen error Name or service not known>): download " + ", ".join(addresses)
        + f" and put them into '{tmp_path}/hub/checkpoints', or name files, as --published resnet50=FILE"
    )  # fmt: skip
    assert offline == addresses[:1]  # the second would fail as slowly
    assert "| PifPaf-101 | – | – (0.657) |" in (tmp_path / "page.md").read_text()
    assert tables.main([*common, "--list"]) == 0
    assert capsys.readouterr().out.count("no weights") == 3
    assert len(offline) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--published", "resnet18=x"], "--published resnet18=x: must be NAME=FILE with a name of resnet50"),
        (["--published", "resnet50"], "--published resnet50: must be NAME=FILE"),
        (["--published", "resnet50=nowhere.pkl"], "--published resnet50=nowhere.pkl: there is no file 'nowhere.pkl'"),
        (["--published", "--set", "epochs=3"], "--set epochs: nothing is trained with --published; it takes long_edge"),
        (["--published", "--set", "decoder.min_scor=3"], "did you mean decoder.min_score"),
        (["--published", "--data", "demo"], "--data demo: the published networks are of COCO"),
        (["--published", "--minutes", "3"], "--published and --minutes contradict each other"),
        (["--published", "--rows", "DGCN-A_d"], "--rows DGCN-A_d: the table has no such row; choose among baseline"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(offline, tmp_path, capsys, options, message):
    command = ["table1", "--runs", str(tmp_path / "runs"), "--page", str(tmp_path / "p.md"), *options]
    assert tables.main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_every_figure_stands_beside_the_papers(tmp_path, scenes, weights):
    figures = {"AP": 0.6301, "AP50": 0.8512, "APL": -1.0, "MiB": 96.04}
    one = evaluation(scenes, weights, tmp_path / "runs")
    one.folder.mkdir(parents=True)
    (one.folder / "evaluation.json").write_text(json.dumps(figures))
    first, second, *_ = published.published_rows(TABLE_6)
    text = published.published_markdown(TABLE_6, {first: one, second: None}, "coco", "command", comparable=True)
    (line,) = [line for line in text.splitlines() if line.startswith("| PifPaf-50")]
    assert f"random.pkl ({published.file_digest(str(weights))[:8]})" in line  # not the published one
    assert "| 0.630 (0.626) | 0.851 (0.851) |" in line
    assert "| – (0.674) |" in line  # nobody is large
    assert line.endswith("| +0.004 | done |")
    assert "| PifPaf-101 | – | – (0.657) |" in text
    baseline = next(iter(published.published_rows(TABLE_4)))
    assert "0.630 (0.626) | 96.0 (96.0)" in published.published_markdown(TABLE_4, {baseline: one}, "coco", "", True)
    rows = published.published_csv(TABLE_6, {first: one}).splitlines()
    assert rows[1].startswith("PifPaf-50,AP,0.6301,0.626,random.pkl")


@pytest.mark.slow
def test_a_table_is_made_of_a_file_and_its_figures_are_those_of_the_next_table(offline, scenes, tmp_path, monkeypatch):
    torch.manual_seed(0)
    file = write(original("v0.8", "resnet50"), tmp_path / "mine.pkl")
    common = [
        "--published", f"resnet50={file}", "--runs", str(tmp_path / "runs"), "--page", str(tmp_path / "page.md"),
        "--set", f"data_root={scenes}", "val_annotations=annotations.json", "val_images=images", "long_edge=64",
    ]  # fmt: skip
    assert tables.main(["table1", *common]) == 0
    text = (tmp_path / "page.md").read_text()
    assert "| baseline | mine.pkl (" in text
    assert str(tmp_path) not in text
    assert "(0.626) |" in text
    monkeypatch.setattr(published.PublishedEvaluation, "network", None)  # not evaluated again
    assert tables.main(["table4", "--rows", "baseline-50", *common]) == 0
    assert "| 96.5 (96.0) |" in (tmp_path / "page.md").read_text()
    assert list((tmp_path / "runs").glob("*.csv"))
