"""A run's folder beside the records of other observers."""

import datetime
from pathlib import Path

import pytest

from experiments.running.records import AtomicFileStorage


@pytest.mark.parametrize("numbers", [(1, 1, 2), (1, 7, 1), (3, 3, "3"), ("mine", "mine", 1)])
def test_a_number_that_is_taken_here_is_no_end_of_the_run(tmp_path: Path, numbers: tuple[int | str, ...]) -> None:
    """A data base is asked before the folder, and Sacred hands its number on."""
    folders = []
    for number in (None, *numbers):
        observer = AtomicFileStorage(str(tmp_path))
        info = {"name": "x", "base_dir": str(tmp_path), "sources": [], "dependencies": [], "repositories": []}
        moment = datetime.datetime(2026, 1, 1)
        used = observer.started_event(info, "main", {}, moment, {"seed": 1}, {}, number)
        assert number is None or used == number  # the run is known elsewhere by it
        folders.append(observer.dir)
        assert (Path(observer.dir) / "config.json").exists()
    assert len(set(folders)) == 4
