"""The Sacred experiment in the process of a test: for what a run does, where how it is started does not matter."""

import importlib
from pathlib import Path
from types import ModuleType

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def import_run(monkeypatch, folder: Path) -> ModuleType:
    """experiments/run.py, started from ``folder``."""
    monkeypatch.chdir(folder)
    return importlib.import_module("experiments.run")


def launch(run: ModuleType, *arguments: str) -> None:
    """What ``python experiments/run.py ARGUMENTS`` does once everything is imported."""
    run.experiment.observers.clear()
    run.command_line(["run.py", *arguments])
