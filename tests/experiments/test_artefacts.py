"""What a run leaves besides its figures is optional: whatever goes wrong with it, the run is complete."""

import json
from pathlib import Path

import cv2
import pytest

from experiments.running import plots
from experiments.running.training import write_artefacts
from graphpose.data.demo.dataset import DemoDataset
from graphpose.errors import GraphposeError
from graphpose.inference.evaluate import Evaluation

EVALUATION = Evaluation({"AP": 0.5}, [], [], {})
HISTORY = [{"loss.total": 2.0}, {"loss.total": 1.0, "val.AP": 0.5}]


class Damaged(DemoDataset):
    """Scenes of which some cannot be read."""

    unreadable: tuple[int, ...] = ()

    def __getitem__(self, index: int):
        if index in self.unreadable:
            raise GraphposeError(f"image scene_{index}.png is truncated")
        return super().__getitem__(index)


@pytest.mark.parametrize("unreadable", [(0,), (1, 2), (0, 1, 2, 3, 4), ()])
def test_the_contact_sheet_has_the_first_images_that_can_be_read(tmp_path: Path, unreadable, capsys) -> None:
    dataset = Damaged(5, size=64)
    dataset.unreadable = unreadable
    write_artefacts(tmp_path, EVALUATION, HISTORY, dataset, 3)
    readable = min(3, 5 - len(unreadable))
    sheet = cv2.imread(str(tmp_path / "contact_sheet.png")) if readable else None
    assert (sheet is not None) == (readable > 0)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"AP": 0.5}
    assert (tmp_path / "loss_curve.png").exists()
    said = capsys.readouterr().err
    assert all(f"not on the contact sheet: image scene_{n}.png is truncated" in said for n in unreadable if n < 3)


@pytest.mark.parametrize(
    "error", [GraphposeError("full"), OSError(28, "No space left"), ValueError("nan"), MemoryError()]
)
@pytest.mark.parametrize("name", ["contact_sheet", "loss_curve"])
def test_a_picture_that_cannot_be_made_is_a_line(tmp_path: Path, monkeypatch, capsys, name: str, error) -> None:
    def fail(*_) -> None:
        raise error

    monkeypatch.setattr(plots, name, fail)
    write_artefacts(tmp_path, EVALUATION, HISTORY, DemoDataset(2, size=64), 2)
    assert f"no {name.replace('_', ' ')}: {type(error).__name__}" in capsys.readouterr().err
    other = {"contact_sheet": "loss_curve", "loss_curve": "contact_sheet"}[name]
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", "results.json", f"{other}.png"}
