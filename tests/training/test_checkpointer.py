"""Checkpoints within an epoch, being told to stop, and what happens when something breaks."""

import contextlib
import os
import resource
import signal

import pytest

from graphpose.checkpoint import load_checkpoint, previous_path
from graphpose.data.demo.dataset import DemoDataset
from graphpose.errors import GraphposeError
from graphpose.nn.losses import PoseLoss
from graphpose.training.checkpointer import LEAST_SECONDS, Checkpointer
from graphpose.training.stop import Interrupted, StopRequest
from tests.training.tiny import tiny_trainer


def checkpointer(trainer, path, stop=None):
    return Checkpointer(trainer, path, {}, {}, stop or StopRequest())


@pytest.mark.slow
def test_checkpoints_are_written_every_so_many_steps_and_the_one_before_is_kept(tmp_path):
    trainer = tiny_trainer(checkpoint_every_steps=1)
    trainer.train_epoch(checkpointer(trainer, tmp_path / "c.pt").after_step)
    assert load_checkpoint(tmp_path / "c.pt")["training"]["step"] == 4
    assert load_checkpoint(previous_path(tmp_path / "c.pt"))["training"]["step"] == 3


def test_epochs_of_a_moment_do_not_get_a_checkpoint_each(tmp_path, monkeypatch):
    saver = checkpointer(tiny_trainer(), tmp_path / "c.pt")
    saver.after_epoch()
    assert not (tmp_path / "c.pt").exists()
    later = saver._saved + LEAST_SECONDS
    monkeypatch.setattr("graphpose.training.checkpointer.time.monotonic", lambda: later)
    saver.after_epoch()
    assert (tmp_path / "c.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_next_step_and_interrupts(tmp_path, number):
    trainer = tiny_trainer()
    handler = signal.getsignal(number)
    with StopRequest() as stop:
        saver = checkpointer(trainer, tmp_path / "c.pt", stop)

        def after_step() -> None:
            if trainer.step == 2:
                os.kill(os.getpid(), number)
            saver.after_step()

        with pytest.raises(Interrupted, match=rf"stopped by {number.name} after epoch 0 and 2 steps; .*c\.pt"):
            trainer.train_epoch(after_step)
    assert load_checkpoint(tmp_path / "c.pt")["training"]["step"] == 2
    assert signal.getsignal(number) == handler


def test_an_evaluation_ends_between_two_batches_when_told_to_stop(tmp_path):
    with StopRequest() as stop:
        batches = checkpointer(tiny_trainer(), tmp_path / "c.pt", stop).guard([1, 2, 3])
        assert next(batches) == 1
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            next(batches)


@pytest.mark.slow
def test_a_loader_process_that_is_killed_ends_training_by_name_and_all_steps_can_be_saved(tmp_path):
    trainer = tiny_trainer(scenes=40, workers=1)

    def after_step() -> None:
        if trainer.step == 2:
            os.kill(trainer.loader._iterator._workers[0].pid, signal.SIGKILL)

    with contextlib.closing(trainer.loader), pytest.raises(GraphposeError, match="a loader process died"):
        trainer.train_epoch(after_step)
    if not trainer.in_step:
        trainer.save(tmp_path / "c.pt")
        assert load_checkpoint(tmp_path / "c.pt")["training"]["step"] == trainer.step


@pytest.mark.slow
def test_a_loader_process_that_is_killed_does_not_hide_another_error():
    class Broken(DemoDataset):
        def __getitem__(self, index):
            raise RuntimeError("no such thing")

    trainer = tiny_trainer(dataset=Broken(4, seed=1, size=64), workers=1)
    with contextlib.closing(trainer.loader), pytest.raises(RuntimeError, match="no such thing"):
        trainer.train_epoch()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_the_second_epoch_leaves_the_checkpoint_of_the_step_before(tmp_path):
    class Poisoned(PoseLoss):
        def forward(self, *arguments):
            parts = super().forward(*arguments)
            return {**parts, "total": parts["total"] * float("nan")} if trainer.epoch and trainer.step == 2 else parts

    trainer = tiny_trainer(checkpoint_every_steps=1)
    trainer.loss = Poisoned()
    saver = checkpointer(trainer, tmp_path / "c.pt")
    trainer.train_epoch(saver.after_step)
    with pytest.raises(GraphposeError, match=r"not finite .*total nan\) on image ids \[\d+, \d+\]"):
        trainer.train_epoch(saver.after_step)
    assert trainer.in_step
    before = (tmp_path / "c.pt").read_bytes()
    saver.after_failure()
    assert (tmp_path / "c.pt").read_bytes() == before
    training = load_checkpoint(tmp_path / "c.pt")["training"]
    assert (training["epoch"], training["step"]) == (1, 2)
    resumed = tiny_trainer()
    resumed.restore(load_checkpoint(tmp_path / "c.pt"))
    resumed.train_epoch()


def test_a_full_disk_ends_the_run_and_the_checkpoint_before_stays_whole(tmp_path):
    trainer = tiny_trainer()
    trainer.save(tmp_path / "c.pt", keep_previous=True)
    size = (tmp_path / "c.pt").stat().st_size
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for share in (0.0, 0.3, 0.6, 0.9, 0.9999):  # the disk is full after so much of the new file
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), hard))
        try:
            with pytest.raises(GraphposeError, match=r"checkpoint '.*c\.pt' could not be written: File too large"):
                trainer.save(tmp_path / "c.pt", keep_previous=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]
        assert load_checkpoint(tmp_path / "c.pt")["training"]["epoch"] == 0


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(GraphposeError, match=r"checkpoint '.*file/c\.pt' could not be written: "):
        tiny_trainer().save(tmp_path / "file" / "c.pt")
