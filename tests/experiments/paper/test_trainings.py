"""Training processes of a table."""

import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from experiments.paper import trainings
from graphpose.errors import GraphposeError

pytestmark = pytest.mark.slow  # processes

SHOW = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'), os.environ.get('OMP_NUM_THREADS'), flush=True)"


def start(training, path, code, **options):
    """A process in a thread, once it has written a line to ``path``."""
    output = path.open("w")
    thread = threading.Thread(
        target=training.run, args=([sys.executable, "-c", code],), kwargs={"stdout": output, **options}
    )
    thread.start()
    while not path.read_text().endswith("\n"):
        time.sleep(0.01)
    return thread


def test_processes_side_by_side_see_the_gpu_that_fewest_have(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    training = trainings.TrainingProcesses(["2", "GPU-abc"])
    wait = SHOW + "; import time; time.sleep(60)"
    threads = [start(training, tmp_path / str(i), wait) for i in range(2)]
    last = start(training, tmp_path / "2", wait, env={"OMP_NUM_THREADS": "7"})
    training.stop()
    for thread in (*threads, last):
        thread.join()
    seen = [(tmp_path / str(i)).read_text().split() for i in range(3)]
    assert seen == [["2", "1"], ["GPU-abc", "1"], ["2", "7"]]


@pytest.mark.parametrize("gpus", [[], ["0"]])
def test_without_several_gpus_processes_see_what_this_one_sees(tmp_path, monkeypatch, gpus):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    start(trainings.TrainingProcesses(gpus), tmp_path / "seen", SHOW).join()
    assert (tmp_path / "seen").read_text().split()[0] == "all"


def test_gpus_have_the_names_that_this_process_was_given(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert trainings.gpus_for(["auto", "cuda"]) == ["0", "1"]
    assert trainings.gpus_for(["auto", "cuda:1"]) == []  # it would not find that one
    assert trainings.gpus_for(["cpu"]) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    assert trainings.gpus_for(["auto"]) == ["5", "3"]


def test_a_stopped_table_starts_nothing_more():
    training = trainings.TrainingProcesses()
    training.stop()
    assert training.run([sys.executable, "-c", "raise SystemExit(3)"]) == -signal.SIGTERM


def test_a_run_belongs_to_one_process_until_that_ends(tmp_path):
    """Also when it ends by SIGKILL."""
    hold = (
        f"import sys; sys.path.insert(0, {str(trainings.Path(trainings.__file__).parents[2])!r})\n"
        f"from experiments.paper.trainings import Path, locked\n"
        f"with locked(Path({str(tmp_path / 'run')!r})):\n    print('held', flush=True); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    with (
        pytest.raises(GraphposeError, match="run is being trained by another process"),
        trainings.locked(tmp_path / "run"),
    ):
        pass
    other.kill()
    other.wait()
    with trainings.locked(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    with trainings.locked(tmp_path / "run"):  # it was released
        pass


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GraphposeError, match="run cannot be written to"), trainings.locked(tmp_path / "file" / "run"):
        pass
