"""The runs behind a table: which there are, in what state, and running those that are missing.

A run is known by what it was started with (named configuration, settings, seed), so two tables that need the same one
share it. Each has a folder of its own, in which Sacred numbers the attempts.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from experiments.configs.named import DEFAULTS, NAMED, configured, typed
from experiments.configs.settings import build_settings
from experiments.paper.rows import DEMO_BACKBONES, Row
from experiments.paper.trainings import TrainingProcesses
from graphpose.checksum import file_sha256
from graphpose.errors import GraphposeError
from graphpose.nn.config import SHIPPED, SHIPPED_NAME

State = Literal["missing", "running", "interrupted", "failed", "done"]

# Sacred renews the heartbeat of a run every ten seconds.
DEAD_AFTER_SECONDS = 90

# Where a run is made does not make it another run.
MACHINE_KEYS = ("data_root", "device", "workers", "features")

# Keys that came after runs had been made, with the value at which they leave a run what it was without them.
LATER_KEYS: dict[str, Any] = {
    "annotations": "",
    "images": "",
    "val_share": 0.2,
    "skeleton.flip_pairs": None,
    "category": None,
    "decoder.join_spread_floor": 0.02,
    "decoder.join_max_scale_deviation": 5.0,
    "baseline_learning_rate_factor": 1.0,
    "decoder.max_copies": 4,
    "decoder.straggler_reach": 2.0,
    "decoder.straggler_share": 0.2,
    "norm_eps": None,
    "scale_activation": "softplus",
    "scale_factor": 1.0,
    "spread_activation": "linear",
    "train_sets": [],
    "epoch_images": 0,
    "crowd.mosaic": 0.0,
    "crowd.paste": 0.0,
    "crowd.paste_size": [0.2, 0.6],
    "crowd.mosaic_side": 2,
    "frozen_stride": 0,
    "augment.person_size": None,
    "tf32": "convolutions",
    "deterministic": False,
    "graph_layer": "dgcn",
    "given_features": False,
    "feature_passes": 4,
    "sample": False,
    "modes": 4,
    "enlarge": True,
    "test_merge": "fields",
    "decoder.expected_oks": False,
    "decoder.complete_poses": False,
}

# Keys whose value may be a file: what it holds makes the run, wherever it lies.
FILE_KEYS = ("pretrained", "adjacency")

REFUSAL = "refused.txt"  # why the last start of a run came to nothing, beside its attempts

SCRIPT = Path(__file__).parents[1] / "run.py"


@dataclasses.dataclass(frozen=True)
class TableRun:
    """One training run.

    Attributes:
        named: named configuration of ``experiments/run.py``.
        settings: keys that differ from it, in the order of their names.
        seed: Sacred's seed.
        root: folder of all runs of tables.
    """

    named: str
    settings: tuple[tuple[str, str], ...]
    seed: int
    root: Path

    @property
    def arguments(self) -> list[str]:
        """What follows ``with`` on the command line."""
        return [self.named, *(f"{key}={value}" for key, value in self.settings), f"seed={self.seed}"]

    @property
    def device(self) -> str:
        """Where it trains."""
        return dict(self.settings).get("device", "auto")

    @property
    def folder(self) -> Path:
        """Folder of the run's attempts; another one after the named configuration itself has changed."""
        usual = identifying(DEFAULTS | NAMED[self.named])
        if isinstance(usual["pretrained"], str):
            usual["pretrained"] = file_digest(usual["pretrained"])
        settings = tuple(
            (key, file_digest(value) if key in FILE_KEYS else value)
            for key, value in self.settings
            if key not in MACHINE_KEYS
        )
        known = json.dumps([dataclasses.replace(self, settings=settings).arguments, usual], sort_keys=True)
        digest = hashlib.sha256(known.encode()).hexdigest()[:12]
        return self.root / f"{self.named}-{digest}"

    @property
    def attempts(self) -> list[Path]:
        """Run folders that Sacred has made, oldest first."""
        if not self.folder.is_dir():
            return []
        numbered = [path for path in self.folder.iterdir() if path.name.isdigit() and (path / "run.json").is_file()]
        return sorted(numbered, key=lambda path: int(path.name))

    @property
    def command(self) -> list[str]:
        """The command that starts the run or takes up the last attempt with a checkpoint."""
        command = [sys.executable, str(SCRIPT), "-F", str(self.folder), "with", *self.arguments]
        with_checkpoint = [path for path in self.attempts if (path / "checkpoint.pt").is_file()]
        return [*command, f"resume={with_checkpoint[-1] / 'checkpoint.pt'}"] if with_checkpoint else command


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What is known of a run.

    Attributes:
        state: where it stands.
        metrics: of a run that is done.
        seconds: that all its attempts took.
        reason: last line of the error of a failed run.
        commit: of the sources, where it was recorded.
        machine: where it ran.
        heartbeat: of the last attempt, as Sacred wrote it.
    """

    state: State
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""
    commit: str = ""
    machine: str = ""
    heartbeat: str = ""


def identifying(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a run is known by: without :data:`MACHINE_KEYS`, and without those of
    :data:`LATER_KEYS` that change nothing."""

    def kept(key: str, value: Any) -> bool:
        return key not in MACHINE_KEYS and (key not in LATER_KEYS or LATER_KEYS[key] != value)

    identity = {
        key: {name: one for name, one in value.items() if kept(f"{key}.{name}", one)}
        if isinstance(value, Mapping)
        else value
        for key, value in config.items()
        if kept(key, value)
    }
    return {key: value for key, value in identity.items() if value != {}}  # a group all of whose keys came later


@functools.cache
def file_digest(path: str) -> str:
    """What a file of weights is known by wherever it lies: its bytes. The text itself where it names no file."""
    path = str(SHIPPED) if path == SHIPPED_NAME else path
    return file_sha256(path) if Path(path).is_file() else path


def headline(settings: Mapping[str, Any]) -> list[str]:
    """Settings as they stand in a table's name: not those of the machine, and of a file of weights only its name."""
    return [
        f"{key}={Path(str(value)).name if key in FILE_KEYS else value}"
        for key, value in settings.items()
        if key not in MACHINE_KEYS
    ]


def expand(row: Row, data: str, seeds: int, extra: Mapping[str, Any], root: Path) -> list[TableRun]:
    """The runs of a row, one per seed.

    Args:
        row: of a table.
        data: named configuration; "paper" for the row's own.
        seeds: how many; 1, 2, ….
        extra: settings on top of the row's.
        root: folder of all runs of tables.

    Raises:
        GraphposeError: a setting that ``run.py`` would refuse.
    """
    named = row.data if data == "paper" else data
    settings: dict[str, Any] = {**row.settings, **extra}
    if named == "demo" and "backbone" in row.settings and "backbone" not in extra:
        settings["backbone"] = DEMO_BACKBONES[row.settings["backbone"]]
    settings = {key: typed(value) for key, value in settings.items()}
    build_settings(configured(named, settings))
    different = {key: str(value) for key, value in settings.items() if value != _configured_value(named, key)}
    return [TableRun(named, tuple(sorted(different.items())), seed, root) for seed in range(1, seeds + 1)]


def _configured_value(named: str, key: str) -> Any:
    """What a named configuration has at a key anyway; None where it has no such key."""
    value: Any = DEFAULTS | NAMED[named]
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def outcome(run: TableRun) -> Outcome:
    """State of a run from the record of its attempts."""
    attempts = run.attempts
    refusal = run.folder / REFUSAL
    if refusal.is_file():
        return Outcome("failed", reason=refusal.read_text())
    if not attempts:
        return Outcome("missing")
    records = [_read(path / "run.json") for path in attempts]
    seconds = sum(_seconds(record) for record in records)
    last, path = records[-1], attempts[-1]
    facts: dict[str, Any] = {
        "seconds": seconds,
        "machine": _machine(last.get("host", {})),
        "commit": _commit(path),
        "heartbeat": str(last.get("heartbeat") or ""),
    }
    status = last.get("status")
    if status == "COMPLETED" and (path / "evaluation.json").is_file():
        return Outcome("done", _read(path / "evaluation.json"), **facts)
    if status == "RUNNING" and _silent_seconds(last) < DEAD_AFTER_SECONDS:
        return Outcome("running", **facts)
    if status in ("RUNNING", "INTERRUPTED", "TIMEOUT"):
        return Outcome("interrupted", **facts)
    trace = last.get("fail_trace") or [f"status {status}"]
    return Outcome("failed", reason=str(trace[-1]).strip().splitlines()[-1], **facts)


def threads_of(jobs: int) -> int:
    """Threads of each of so many runs side by side."""
    return max(1, (os.cpu_count() or 1) // jobs)


def refuse_running(run: TableRun, trainings: TrainingProcesses) -> None:
    """Make sure that nobody trains this run, waiting until a heart that a killed process left has gone cold.

    Raises:
        GraphposeError: it beats, or the trainings were stopped meanwhile.
    """
    first = outcome(run)
    if first.state == "running":
        print_line(f"{run.folder} was alive moments ago; waiting for its next sign of life, or for none")
    while (now := outcome(run)).state == "running":
        if now.heartbeat != first.heartbeat:
            raise GraphposeError(f"{run.folder} is being trained by another process; wait for it, or stop it first")
        if trainings.stopped:
            raise GraphposeError(f"the run {' '.join(run.arguments)} was not taken up again")
        time.sleep(1)


def print_line(line: str) -> None:
    """Print a line in one piece, beside those of other threads."""
    print(f"{line}\n", end="", flush=True)


def execute(run: TableRun, trainings: TrainingProcesses, threads: int | None = None) -> Outcome:
    """Start a run that is missing, or continue one that was interrupted or has failed; wait for its end.

    Args:
        run: what to train.
        trainings: that it becomes one of.
        threads: of the CPU, where several runs go on side by side; what it prints then goes to output.txt in its
            folder. None leaves both as they are.

    Raises:
        GraphposeError: the run was interrupted, or refused before there was a record of it; that is known as its
            failure then.
    """
    before = len(run.attempts)
    run.folder.mkdir(parents=True, exist_ok=True)
    refusal = run.folder / REFUSAL
    refusal.unlink(missing_ok=True)
    (run.folder / "request.json").write_text(json.dumps({"with": run.arguments}, indent=1))
    if threads is None:
        code = trainings.run(run.command)
    else:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        with (run.folder / "output.txt").open("a") as output:
            code = trainings.run(run.command, env=environment, stdout=output, stderr=output)
    if code >= 0 and len(run.attempts) == before:
        place = "above" if threads is None else f"in {run.folder / 'output.txt'}"
        refusal.write_text(f"run.py ended with status {code} before the run began")
        raise GraphposeError(f"{' '.join(run.arguments)}: {refusal.read_text()}, see its message {place}")
    after = outcome(run)
    if after.state in ("missing", "interrupted", "running"):  # a killed process cannot say so itself
        raise GraphposeError(
            f"the run {' '.join(run.arguments)} was interrupted (status {code}); start the table again to go on with it"
        )
    return after


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise GraphposeError(
            f"{path} is not a readable record of a run ({error}); move it away to have the run made again"
        ) from None


def _commit(attempt: Path) -> str:
    """Commit of the sources as the run noted it in its info.json; empty where it could not."""
    info = _read(attempt / "info.json") if (attempt / "info.json").is_file() else {}
    sources = info.get("sources", {})
    return str(sources.get("commit", "")) if isinstance(sources, Mapping) else ""


def _time(record: Mapping[str, Any], key: str) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(record[key]) if record.get(key) else None


def _seconds(record: Mapping[str, Any]) -> float:
    start, end = _time(record, "start_time"), _time(record, "stop_time") or _time(record, "heartbeat")
    return (end - start).total_seconds() if start and end else 0.0


def _silent_seconds(record: Mapping[str, Any]) -> float:
    beat = _time(record, "heartbeat") or _time(record, "start_time")
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)  # Sacred writes UTC without a zone
    return (now - beat).total_seconds() if beat else float("inf")


def _machine(host: Mapping[str, Any]) -> str:
    gpus = [gpu.get("model", "GPU") for gpu in host.get("gpus", {}).get("gpus", [])]
    return ", ".join(filter(None, [*gpus, str(host.get("cpu", ""))]))
