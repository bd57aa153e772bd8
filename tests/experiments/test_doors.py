"""The commands of experiments/ answer before anything heavy is imported."""

import json
import subprocess
import sys

import pytest

from tests.experiments.in_process import EXPERIMENTS

HEAVY = {"torch", "timm", "numba", "torch_geometric", "scipy", "matplotlib", "cv2"}
IMPORTED = """
import json, runpy, sys
script = sys.argv.pop(1)
try:
    sys.argv[0] = script
    runpy.run_path(script, run_name="__main__")
except SystemExit:
    pass
print()
print(json.dumps([name for name in sys.modules if "." not in name]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words", "shown"),
    [
        ("run.py", ["help"], "coco_eight"),
        ("run.py", ["print_config", "with", "mpii"], "join_fragments = False"),
        ("run.py", ["with", "adjacensy=none"], "did you mean adjacency?"),
        ("tables.py", ["table1", "--list"], "with coco adjacency=none seed=1"),
        ("tables.py", ["table1", "--help"], "--retry-failed"),
        ("benchmark.py", ["--help"], "network"),
        ("benchmark.py", ["decode", "--help"], "--noise"),
    ],
)
def test_a_command_that_does_no_work_imports_nothing_heavy(tmp_path, script, words, shown):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, str(EXPERIMENTS / script), *words],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown in done.stdout + done.stderr
    assert not HEAVY & set(json.loads(done.stdout.splitlines()[-1]))
    assert not (tmp_path / "runs" / "1").exists()
