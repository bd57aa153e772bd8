"""The error analysis as typed on the command line."""

import csv
import json
import runpy
from pathlib import Path
from typing import Any

import cv2
import pytest

from graphpose.data.demo.dataset import DemoDataset

SCRIPT = Path(__file__).parents[2] / "analysis" / "errors.py"
main = runpy.run_path(str(SCRIPT))["main"]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three demo scenes as a COCO-format set, and results that miss the last person and exchange one person's eyes."""
    dataset = DemoDataset(3, seed=4, size=160)
    truth = dataset.ground_truth()
    for index, image in enumerate(truth["images"]):
        cv2.imwrite(str(tmp_path / image["file_name"]), dataset[index].image[..., ::-1])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    results: list[dict[str, Any]] = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": list(a["keypoints"]), "score": 0.9}
        for a in truth["annotations"][:-1]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    return {"annotations": tmp_path / "truth.json", "results": tmp_path / "results.json", "images": tmp_path}


def arguments(files: dict[str, Path], out: Path) -> list[str]:
    return [*(part for name, path in files.items() for part in (f"--{name}", str(path))), "--out", str(out)]


def test_table_figure_and_the_worst_images_are_written(files: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main([*arguments(files, out), "--worst", "2"]) == 0
    assert "| missed_person | +0." in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"errors.md", "errors.csv", "errors.png", "worst.csv", "worst"}
    rows = list(csv.DictReader((out / "errors.csv").open()))
    by_name = {(row["group"], row["name"]): row for row in rows}
    assert by_name["all", "all"]["missed_person"] == "1"
    assert float(by_name["all", "all"]["good %"]) == 100
    assert float(by_name["AP gained", "missed_person"]["AP"]) > 0
    assert float(by_name["AP gained", "jitter"]["AP"]) == 0
    assert sum(row["group"] == "keypoint" for row in rows) == 17
    worst = list(csv.DictReader((out / "worst.csv").open()))
    assert [float(row["cost"]) for row in worst] == pytest.approx([1, 0, 0])
    assert worst[0]["image_id"] == str(json.loads(files["annotations"].read_text())["annotations"][-1]["image_id"])
    drawn = sorted((out / "worst").iterdir())
    assert len(drawn) == 2
    assert cv2.imread(str(drawn[0])).shape == (160, 160, 3)
    assert cv2.imread(str(out / "errors.png")).shape[1] > 1000


def test_ids_of_annotations_and_categories_change_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    assert main(arguments(files, tmp_path / "as it is")) == 0
    truth, results = (json.loads(files[name].read_text()) for name in ("annotations", "results"))
    for number, annotation in enumerate(truth["annotations"]):
        annotation["id"] = number
    for record in (*truth["annotations"], *results):
        record["category_id"] = 7
    truth["categories"][0]["id"] = 7
    files["annotations"].write_text(json.dumps(truth))
    files["results"].write_text(json.dumps(results))
    assert main(arguments(files, tmp_path / "renumbered")) == 0
    tables = [(tmp_path / name / "errors.csv").read_text() for name in ("as it is", "renumbered")]
    assert tables[0] == tables[1]


def test_an_image_that_cannot_be_read_is_named_and_the_rest_is_written(
    files: dict[str, Path], tmp_path: Path, capsys: Any
):
    truth = json.loads(files["annotations"].read_text())
    (tmp_path / truth["images"][0]["file_name"]).unlink()
    assert main(arguments(files, tmp_path / "out")) == 0
    assert truth["images"][0]["file_name"] in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "worst").iterdir())) == 2


@pytest.mark.parametrize("content", ["", "{}", '[{"image_id": 1}]'])
def test_what_is_no_results_file_is_one_line_and_status_2(
    files: dict[str, Path], tmp_path: Path, content: str, capsys: Any
):
    files["results"].write_text(content)
    assert main(arguments(files, tmp_path / "out")) == 2
    assert "results" in capsys.readouterr().err
