"""Runs that are killed, told to stop or fail, as Sacred records them, and how they go on."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.configs.named import DEFAULTS
from experiments.running import records, training
from experiments.running.launch import sacred_arguments
from experiments.running.resume import refuse_changes, stored_configuration
from graphpose.checkpoint import load_checkpoint, save_checkpoint
from graphpose.device import describe_device
from graphpose.errors import GraphposeError
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from tests.experiments.in_process import EXPERIMENTS, import_run, launch

TINY = [
    "backbone=test_resnet", "demo_train_scenes=12", "demo_val_scenes=3", "image_size=64", "augment.long_edge=64",
    "batch_size=4", "contact_sheet_images=1", "evaluate_every=2", "seed=3", "device=cpu",
]  # fmt: skip
# kills the process in the middle of a step: epoch 3, second step
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
from experiments import run
from graphpose.training.trainer import Trainer
gradients = Trainer._gradients
def kill(self, *arguments):
    if (self.epoch, self.step) == (2, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return gradients(self, *arguments)
Trainer._gradients = kill
run.command_line(["run.py", *sys.argv[1:]])
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    return import_run(monkeypatch, tmp_path)


def read(path: str):
    return json.loads(Path(path).read_text())


def losses_and_metrics(folder: str) -> dict:
    found = read(f"{folder}/metrics.json")
    kept = {name: values for name, values in found.items() if name.startswith(("train.loss.", "val."))}
    return {name: (values["steps"], values["values"]) for name, values in kept.items()}


def same_bits(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same_bits(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.slow
def test_six_epochs_are_two_a_sigkill_in_the_third_and_the_rest_bit_for_bit(run, tmp_path):
    launch(run, "with", *TINY, "epochs=6", "workers=0")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(EXPERIMENTS.parent), "with", *TINY, "epochs=6", "workers=1",
         "checkpoint_every_steps=1"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    state = load_checkpoint(Path("runs/2/checkpoint.pt"))["training"]
    assert (state["epoch"], state["step"]) == (2, 1)
    assert read("runs/2/run.json")["status"] == "RUNNING"
    launch(run, "with", "resume=2")
    straight, resumed = (load_checkpoint(Path(f"runs/{number}/checkpoint.pt")) for number in (1, 3))
    for key in ("network", "ema", "config", "decoder"):
        assert same_bits(straight[key], resumed[key]), key
    for key in ("epoch", "step", "optimizer", "updates", "scaler", "ema_steps"):
        assert same_bits(straight["training"][key], resumed["training"][key]), key
    assert losses_and_metrics("runs/1") == losses_and_metrics("runs/3")
    assert losses_and_metrics("runs/3")["train.loss.total"][0] == [1, 2, 3, 4, 5, 6]
    assert read("runs/3/info.json")["resumed_from"] == {"checkpoint": "runs/2/checkpoint.pt", "epoch": 2, "step": 1}
    assert read("runs/3/config.json")["checkpoint_every_steps"] == 1  # the configuration is the run's


@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_epochs_and_refuses_to_become_another(run, capsys):
    launch(run, "with", *TINY, "epochs=1", "workers=0")
    assert Path("runs/1/best.pt").exists()
    launch(run, "with", "resume=runs/1", "epochs=2")
    assert "epoch 1/2" not in capsys.readouterr().out.split("epoch 1/1")[-1]
    assert losses_and_metrics("runs/2")["train.loss.total"][0] == [1, 2]
    with pytest.raises(SystemExit):
        launch(run, "with", "resume=1", "adjacency=none")
    assert "adjacency=none, but the run to resume has adjacency=dynamic" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="there is no run 'runs/9'; 'runs' has 2, 1"):
        launch(run, "with", "resume=9")


def test_a_run_that_was_stored_before_a_key_came_is_resumed_with_its_default():
    stored = {key: value for key, value in DEFAULTS.items() if key != "graph_pool"}
    stored["loss"] = {key: value for key, value in DEFAULTS["loss"].items() if key != "intermediate"}
    refuse_changes(DEFAULTS, stored)
    changed = DEFAULTS | {"loss": DEFAULTS["loss"] | {"pif_offset": 9.0}}
    with pytest.raises(GraphposeError, match=r"loss\.pif_offset=9\.0, but the run to resume has loss\.pif_offset=4\.0"):
        refuse_changes(changed, stored)


def test_the_same_name_in_another_folder_and_a_file_written_anew_are_other_checkpoints(tmp_path, monkeypatch):
    config = PoseNetworkConfig(backbone="test_resnet", adjacency="none")
    network = PoseNetwork(config)
    for folder, batch_size in (("a", 4), ("b", 8), ("b", 16)):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        training_state = {"configuration": {"batch_size": batch_size}}
        save_checkpoint(Path("checkpoint.pt"), network, config, training=training_state)
        assert stored_configuration(Path("checkpoint.pt")) == {"batch_size": batch_size}


def test_a_folder_of_runs_is_read_wherever_it_stands_among_the_words(run):
    for words in (["-F", "there", "with", "epochs=1"], ["with", "epochs=1", "-Fthere"], ["--file_storage=there"]):
        run.experiment.observers.clear()
        expected = ["run.py", *(word for word in words if word in ("with", "epochs=1"))]
        assert sacred_arguments(run.experiment, ["run.py", *words]) == expected
        (observer,) = run.experiment.observers
        assert (type(observer).__name__, observer.basedir) == ("AtomicFileStorage", "there")
    run.experiment.observers.clear()
    assert sacred_arguments(run.experiment, ["run.py", "print_config", "-F", "there"]) == ["run.py", "print_config"]
    assert run.experiment.observers == []


def at_step(monkeypatch, epoch: int, step: int, action) -> None:
    train_step = training.Trainer.train_step

    def stepped(self, batch):
        if (self.epoch, self.step) == (epoch, step):
            action(self)
        return train_step(self, batch)

    monkeypatch.setattr(training.Trainer, "train_step", stepped)


@pytest.mark.slow
def test_sigterm_is_recorded_as_an_interruption_with_a_checkpoint_of_that_step(run, monkeypatch, capsys):
    at_step(monkeypatch, 1, 1, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        launch(run, "with", *TINY, "epochs=3", "workers=0")
    assert stopped.value.code == 128 + signal.SIGTERM
    assert (
        "stopped by SIGTERM after epoch 1 and 2 steps; the checkpoint is 'runs/1/checkpoint.pt'"
        in (printed := capsys.readouterr()).err
    )
    assert printed.out.startswith(f"{describe_device(torch.device('cpu'))}\n")
    assert read("runs/1/run.json")["status"] == "INTERRUPTED"
    state = load_checkpoint(Path("runs/1/checkpoint.pt"))["training"]
    assert (state["epoch"], state["step"]) == (1, 2)


@pytest.mark.slow
def test_sigterm_while_samples_are_made_leaves_a_run_to_go_on_with(run, monkeypatch, capsys):
    def filling(self, workers, progress):
        for made in range(1, 100):
            if made == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield made
        raise AssertionError("it goes on")

    with monkeypatch.context() as patch:
        patch.setattr(training.CachedDataset, "fill", filling)
        with pytest.raises(SystemExit):
            launch(run, "with", *TINY, "epochs=1", "workers=0")
    assert "stopped by SIGTERM after epoch 0 and 0 steps" in capsys.readouterr().err
    assert read("runs/1/run.json")["status"] == "INTERRUPTED"
    launch(run, "with", "resume=1")
    assert "12 samples made in" in capsys.readouterr().out
    assert read("runs/2/run.json")["status"] == "COMPLETED"


def kill_worker(trainer) -> None:
    os.kill(trainer.loader._iterator._workers[0].pid, signal.SIGKILL)


def fail_observer(trainer) -> None:
    from experiments import run

    run.experiment.current_run._failed_observers.append(run.experiment.current_run.observers[0])


def full_disk(trainer) -> None:
    def fail(*_):
        raise OSError(28, "No space left on device")

    torch.save, trainer.whole_save = fail, torch.save


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "message"),
    [
        (kill_worker, "a loader process died"),
        (fail_observer, "AtomicFileStorage failed .* no longer recorded"),
        (full_disk, r"checkpoint 'runs/1/checkpoint\.pt' could not be written: No space left on device"),
    ],
)
def test_what_breaks_fails_the_run_with_one_line_and_leaves_a_usable_checkpoint(
    run, monkeypatch, capsys, action, message
):
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", torch.save)  # put back afterwards
        at_step(patch, 1, 1, action)
        with pytest.raises(SystemExit) as ended:
            launch(run, "with", *TINY, "epochs=3", "workers=1")
    assert ended.value.code == 1
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert re.search(message, errors), errors
    assert "go on from the last checkpoint with resume=runs/1" in errors
    record = read("runs/1/run.json")
    assert record["status"] == "FAILED"
    # a death is told between two steps; these epochs are too short for a checkpoint each
    epoch = load_checkpoint(Path("runs/1/checkpoint.pt"))["training"]["epoch"]
    assert epoch == {kill_worker: 1, fail_observer: 1, full_disk: 0}[action]
    launch(run, "with", "resume=1", "workers=0")
    assert read("runs/2/run.json")["status"] == "COMPLETED"


@pytest.mark.slow
def test_only_the_first_rank_is_recorded_and_a_folder_of_runs_is_where_resume_looks(run, monkeypatch):
    launch(run, "-F", "elsewhere", "with", *TINY, "epochs=1", "workers=0")
    assert Path("elsewhere/1/checkpoint.pt").exists()
    assert not Path("runs").exists()
    run.experiment.observers.clear()
    arguments = ["run.py", "-m", "host:27017:runs", "-F", "elsewhere", "with", "resume=1"]
    assert sacred_arguments(run.experiment, arguments) == [
        "run.py", "-m", "host:27017:runs", "with", "resumed", "resume=elsewhere/1/checkpoint.pt"
    ]  # fmt: skip
    (observer,) = run.experiment.observers
    assert (type(observer).__name__, observer.basedir) == ("AtomicFileStorage", "elsewhere")
    run.experiment.observers.clear()
    monkeypatch.setenv("RANK", "1")
    assert sacred_arguments(run.experiment, arguments) == [
        "run.py", "--unobserved", "--loglevel=WARNING", "with", "resumed", "resume=elsewhere/1/checkpoint.pt"
    ]  # fmt: skip
    without = sacred_arguments(run.experiment, ["run.py", "-m", "host:27017:runs"])
    assert without == ["run.py", "--unobserved", "--loglevel=WARNING"]


def test_without_arguments_the_demo_is_recorded_under_runs(run):
    assert sacred_arguments(run.experiment, ["run.py"]) == ["run.py"]
    (observer,) = run.experiment.observers
    assert Path(observer.basedir) == Path("runs")
    run.experiment.observers.clear()


@pytest.mark.slow
def test_the_record_has_versions_sources_and_commit_but_no_progress_bars(run):
    launch(run, "with", *TINY, "epochs=1", "workers=0")
    record, info = read("runs/1/run.json")["experiment"], read("runs/1/info.json")
    assert {"torch", "timm", "numpy"} <= {text.split("==")[0] for text in record["dependencies"]}
    sources = {name for name, _ in record["sources"]}
    assert {"experiments/run.py", "experiments/configs/settings.py", "graphpose/training/trainer.py"} <= sources
    assert len(info["sources"].get("commit", "0" * 40)) == 40
    text = "epoch 1\nepoch 2:  10%|█ | 1/10\repoch 2:  20%|██ | 2/10"
    assert records.without_progress_bars(text) == "epoch 1\n"


@pytest.mark.slow
def test_sqlite_and_tinydb_keep_the_run_where_their_packages_are_installed(run, tmp_path):
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed: no SQL observer")
    pytest.importorskip("tinydb", reason="TinyDB is not installed")
    pytest.importorskip("hashfs", reason="hashfs is not installed: no TinyDB observer")
    launch(run, "-s", f"sqlite:///{tmp_path}/runs.sqlite", "-t", "tiny", "with", *TINY, "epochs=1", "workers=0")
    import sqlite3

    with sqlite3.connect(tmp_path / "runs.sqlite") as database:
        assert database.execute("select status from run").fetchall() == [("COMPLETED",)]
        names = {name for (name,) in database.execute("select filename from artifact")}
    assert {"checkpoint.pt", "contact_sheet.png"} <= names
    [entry] = json.loads((tmp_path / "tiny" / "metadata.json").read_text())["runs"].values()
    assert entry["status"] == "COMPLETED"
