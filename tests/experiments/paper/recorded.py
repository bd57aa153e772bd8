"""Run folders of tables as Sacred leaves them."""

import datetime
import json
from pathlib import Path

from experiments.paper import rows as paper_tables
from experiments.paper import runs as table_runs

EXPERIMENTS = Path(__file__).parents[3] / "experiments"


def now(seconds_ago=0.0):
    utc = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    return (utc - datetime.timedelta(seconds=seconds_ago)).isoformat()


def attempt(run, status, number=1, metrics=None, checkpoint=False, silent=0.0, trace=None):
    """A run folder as Sacred leaves it."""
    folder = run.folder / str(number)
    folder.mkdir(parents=True)
    stop = now(silent) if status in ("COMPLETED", "FAILED", "INTERRUPTED") else None
    record = {
        "status": status, "start_time": now(silent + 60), "stop_time": stop, "heartbeat": now(silent),
        "fail_trace": trace, "host": {"cpu": "Processor 5000"},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "info.json").write_text(json.dumps({"sources": {"commit": "abcdef0123456789"}}))
    if metrics is not None:
        (folder / "evaluation.json").write_text(json.dumps(metrics))
    if checkpoint:
        (folder / "checkpoint.pt").write_bytes(b"")
    return folder


def runs_of(row_name, root, table="table1", data="demo", seeds=1, **extra):
    """The runs of one row of a table."""
    row = next(row for row in paper_tables.TABLES[table].rows if row.name == row_name)
    return table_runs.expand(row, data, seeds, extra, root)
