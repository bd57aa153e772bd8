"""What Sacred keeps and shows of a run: observers, explained keys, captured output, versions, artefacts."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sacred import Experiment
from sacred.config.config_dict import ConfigDict
from sacred.config.config_summary import ConfigSummary
from sacred.dependencies import gather_sources_and_dependencies
from sacred.observers import FileStorageObserver
from sacred.run import Run
from sacred.serializer import flatten
from sacred.utils import apply_backspaces_and_linefeeds

from graphpose.errors import GraphposeError


class LateExperiment(Experiment):
    """An Experiment whose record lists what is imported when a run is made; Sacred lists it when one is defined."""

    def get_experiment_info(self) -> dict[str, Any]:
        """Name, sources and dependencies."""
        _, self.sources, self.dependencies = gather_sources_and_dependencies(
            {"__file__": self.mainfile.filename}, self.save_git_info, self.base_dir
        )
        return super().get_experiment_info()


class ExplainedConfig(ConfigDict):
    """Default values whose keys Sacred's ``print_config`` explains.

    Args:
        values: of every key.
        explanations: a line for each key, those of a group as "loss.pif_offset".
    """

    def __init__(self, values: dict[str, Any], explanations: dict[str, str]) -> None:
        super().__init__(values)
        self.explanations = explanations

    def __call__(self, *arguments: Any, **others: Any) -> ConfigSummary:
        summary = super().__call__(*arguments, **others)
        summary.docs = self.explanations
        return summary


class AtomicFileStorage(FileStorageObserver):
    """A FileStorageObserver whose JSON files are always whole, also when the run is killed or the disk full."""

    def _make_run_dir(self, _id: str | int | None) -> None:
        """The next free number where another observer, as a data base, chose one that is taken here."""
        taken = _id is not None and (Path(self.basedir) / str(_id)).exists()
        super()._make_run_dir(None if taken else _id)

    def save_json(self, obj: Any, filename: str) -> None:
        """Temporary file, then rename."""
        path = Path(self.dir) / filename
        temporary = path.with_name(f".{filename}.tmp")
        try:
            temporary.write_text(json.dumps(flatten(obj), sort_keys=True, indent=2))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def run_folder(run: Run) -> Path:
    """The folder of the run's FileStorageObserver, or runs/unobserved."""
    for observer in run.observers:
        if isinstance(observer, FileStorageObserver):
            return Path(observer.dir)
    return Path("runs/unobserved")


def require_writable(folder: Path) -> None:
    """Make the folder of runs; GraphposeError when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise GraphposeError(
            f"the folder '{folder.absolute()}' for the record cannot be written to ({error.strerror}); start "
            "from another folder or name one with -F"
        ) from None


def require_observers(run: Run) -> None:
    """GraphposeError naming an observer that has failed; Sacred itself would go on without a record."""
    if run._failed_observers:
        names = ", ".join(type(observer).__name__ for observer in run._failed_observers)
        raise GraphposeError(f"{names} failed (Sacred's warning above says why), so this run is no longer recorded")


def send_artefacts(run: Run, files: Iterable[Path]) -> None:
    """Files to the observers that are elsewhere; a FileStorageObserver's folder is where they already are."""
    for path in files:
        if path.is_file():
            for observer in run.observers:
                if not isinstance(observer, FileStorageObserver):
                    run._safe_call(observer, "artifact_event", name=path.name, filename=str(path))


def source_version(folder: Path) -> dict[str, Any]:
    """Commit of the sources and whether they differ from it; empty where git does not know them."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout

    try:
        return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(git("status", "--porcelain", "-uno").strip())}
    except (OSError, subprocess.CalledProcessError):
        return {}


def without_progress_bars(text: str) -> str:
    """Captured output as it would stand on a terminal, without the bar that is just being drawn."""
    text = apply_backspaces_and_linefeeds(text)
    lines, newline, last = text.rpartition("\n")
    return lines + newline + ("" if "%|" in last else last)
