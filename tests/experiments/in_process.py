"""The Sacred experiment in the process of a test: for what a run does, where how it is started does not matter."""

import importlib
from pathlib import Path
from types import ModuleType

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def import_run(monkeypatch, folder: Path) -> ModuleType:
    """experiments/run.py, started from ``folder`` as if nothing had run in this process before."""
    monkeypatch.chdir(folder)
    run = importlib.import_module("experiments.run")
    run.experiment.observers.clear()
    return run


def launch(run: ModuleType, *arguments: str) -> None:
    """What ``python experiments/run.py ARGUMENTS`` does once everything is imported."""
    run.experiment.observers.clear()  # of the run before
    run.command_line(["run.py", *arguments])
