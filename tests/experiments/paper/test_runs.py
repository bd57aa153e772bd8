"""Runs behind tables: which there are, in what state, and bringing them to their end."""

import json
import threading

import pytest

from experiments.paper import runs as table_runs
from experiments.paper.schedule import train_missing
from graphpose.errors import GraphposeError
from tests.experiments.paper.recorded import attempt, now, runs_of


def test_two_tables_share_the_runs_they_have_in_common(tmp_path):
    first = runs_of("DGCN-A_d", tmp_path, "table1", seeds=2)
    assert [run.folder for run in first] == [run.folder for run in runs_of("F16", tmp_path, "table3", seeds=2)]
    # Table 6 names the backbone that Table 1 has anyway
    assert first[0].folder == runs_of("DGCN-50", tmp_path, "table6")[0].folder
    assert first[0].folder == runs_of("Laplace offsets", tmp_path, "ablations")[0].folder
    others = [
        *runs_of("baseline", tmp_path), *runs_of("DGCN-A_d", tmp_path, data="coco_local"),
        *runs_of("DGCN-A_d", tmp_path, epochs="1"),
    ]  # fmt: skip
    assert len({run.folder for run in [*first, *others]}) == 5


def test_a_row_is_typed_as_run_py_takes_it(tmp_path):
    (run,) = runs_of("F16 & F8", tmp_path, "table3", epochs="2")
    assert run.arguments == ["demo", "epochs=2", "strides=[16, 8]", "seed=1"]  # dynamic is what demo is anyway
    (run,) = runs_of("without non-local block", tmp_path, "ablations")
    assert "non_local=False" in run.arguments
    (run,) = runs_of("DGCN-ResNet50 (CrowdPose)", tmp_path, "table5", data="paper")
    assert run.arguments == ["crowdpose", "seed=1"]
    (run,) = runs_of("DGCN-101", tmp_path, "table6")
    assert "backbone=regnetx_004" in run.arguments  # a stand-in on the demo data


def test_the_state_of_a_run_is_read_from_its_last_attempt(tmp_path):
    cases = [
        ("missing", None, {}),
        ("done", "COMPLETED", {"metrics": {"AP": 0.5}}),
        ("running", "RUNNING", {"silent": 5.0}),
        ("interrupted", "RUNNING", {"silent": 500.0}),  # a killed process leaves RUNNING behind
        ("interrupted", "INTERRUPTED", {}),
        ("failed", "FAILED", {"trace": ["Traceback …\n", "GraphposeError: the loss is not finite\n"]}),
    ]
    for number, (state, status, details) in enumerate(cases, start=1):
        run = runs_of("baseline", tmp_path, seeds=number)[-1]
        if status:
            attempt(run, status, **details)
        found = table_runs.outcome(run)
        assert found.state == state
        assert found.reason == ("GraphposeError: the loss is not finite" if state == "failed" else "")
    assert found.commit == "abcdef0123456789"
    assert found.machine == "Processor 5000"
    assert found.seconds == pytest.approx(60, abs=1)


def test_an_interrupted_run_goes_on_from_its_newest_checkpoint(tmp_path):
    (run,) = runs_of("baseline", tmp_path)
    assert not any(word.startswith("resume=") for word in run.command)
    first = attempt(run, "INTERRUPTED", 1, checkpoint=True)
    attempt(run, "FAILED", 2)  # before its first checkpoint
    assert run.command[-1] == f"resume={first / 'checkpoint.pt'}"
    last = attempt(run, "INTERRUPTED", 10, checkpoint=True)
    assert run.command[-1] == f"resume={last / 'checkpoint.pt'}"
    attempt(run, "COMPLETED", 11, metrics={"AP": 0.4})
    assert table_runs.outcome(run).seconds == pytest.approx(240, abs=1)  # of all four attempts


def test_only_what_is_missing_is_trained_and_failures_stay_until_asked(tmp_path, monkeypatch):
    done, failed, fresh = (runs_of(name, tmp_path)[0] for name in ("baseline", "GCN-A_I", "GCN-A_h"))
    attempt(done, "COMPLETED", metrics={"AP": 0.5})
    attempt(failed, "FAILED", trace=["no"])
    started = []

    def train(_, command):
        run = next(run for run in (done, failed, fresh) if str(run.folder) in command)
        started.append(run)
        attempt(run, "COMPLETED", len(run.attempts) + 1, metrics={"AP": 0.6})
        return 0

    monkeypatch.setattr(table_runs.TrainingProcesses, "run", train)
    rows = {row: runs for row, runs in zip("abc", ([done], [failed], [fresh]), strict=True)}
    train_missing(rows, retry_failed=False)
    assert started == [fresh]
    train_missing(rows, retry_failed=True)
    assert started == [fresh, failed]
    assert json.loads((fresh.folder / "request.json").read_text())["with"] == fresh.arguments


def test_runs_side_by_side_share_the_cores_and_write_apart(tmp_path, monkeypatch):
    runs = [runs_of(name, tmp_path)[0] for name in ("baseline", "GCN-A_h", "GCN-A_s")]
    monkeypatch.setattr(table_runs.os, "cpu_count", lambda: 6)
    both_here, threads = threading.Barrier(2), []

    def train(_, command, env, stdout, stderr):
        if len(threads) < 2:
            threads.append(env["OMP_NUM_THREADS"])
            both_here.wait(timeout=10)  # breaks unless two are here at once
        run = next(run for run in runs if str(run.folder) in command)
        stdout.write("trained\n")
        attempt(run, "COMPLETED", metrics={"AP": 0.6})
        return 0

    monkeypatch.setattr(table_runs.TrainingProcesses, "run", train)
    train_missing({"row": runs}, retry_failed=False, jobs=2)
    assert threads == ["3", "3"]
    assert all((run.folder / "output.txt").read_text() == "trained\n" for run in runs)
    assert all(table_runs.outcome(run).state == "done" for run in runs)


def test_a_killed_run_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    killed, never_began, whole = (runs_of(name, tmp_path)[0] for name in ("GCN-A_I", "GCN-A_h", "GCN-A_s"))

    def train(_, command):
        if str(whole.folder) in command:
            attempt(whole, "COMPLETED", metrics={"AP": 0.6})
            return 0
        if str(killed.folder) in command:
            attempt(killed, "RUNNING", silent=1.0)
        return -9

    monkeypatch.setattr(table_runs.TrainingProcesses, "run", train)
    sentences = train_missing({"row": [killed, never_began, whole]}, retry_failed=False)
    assert len(sentences) == 2
    assert all("was interrupted (status -9); start the table again" in sentence for sentence in sentences)
    assert table_runs.outcome(whole).state == "done"


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path, monkeypatch):
    (run,) = runs_of("baseline", tmp_path)
    attempt(run, "RUNNING", silent=5.0)

    def beat(_):
        record = json.loads((run.folder / "1" / "run.json").read_text())
        (run.folder / "1" / "run.json").write_text(json.dumps(record | {"heartbeat": now()}))

    monkeypatch.setattr(table_runs.time, "sleep", beat)
    (sentence,) = train_missing({"row": [run]}, retry_failed=False)
    assert "is being trained by another process" in sentence


def test_a_run_that_has_no_record_yet_is_not_started_twice(tmp_path, monkeypatch):
    """Two tables that share it, the second started before the first one's process has got as far as its record."""
    (run,) = runs_of("DGCN-A_d", tmp_path)
    assert [run] == runs_of("F16", tmp_path, "table3")
    sentences = []

    def train(_, command):
        sentences.append(train_missing({"table3": [run]}, retry_failed=False))
        attempt(run, "COMPLETED", metrics={"AP": 0.6})
        return 0

    monkeypatch.setattr(table_runs.TrainingProcesses, "run", train)
    assert train_missing({"table1": [run]}, retry_failed=False) == []
    assert sentences == [[f"{run.folder} is being trained by another process; wait for it, or stop it first"]]
    assert len(run.attempts) == 1


def test_a_heart_that_a_killed_process_left_goes_cold(tmp_path, monkeypatch):
    (run,) = runs_of("baseline", tmp_path)
    attempt(run, "RUNNING", silent=5.0)
    monkeypatch.setattr(table_runs, "DEAD_AFTER_SECONDS", 6)
    table_runs.refuse_running(run, table_runs.TrainingProcesses())
    assert table_runs.outcome(run).state == "interrupted"


def test_a_stopped_table_does_not_wait_for_a_heart(tmp_path, monkeypatch):
    (run,) = runs_of("baseline", tmp_path)
    attempt(run, "RUNNING", silent=5.0)
    trainings = table_runs.TrainingProcesses()
    monkeypatch.setattr(table_runs.time, "sleep", lambda _: trainings.stop())
    with pytest.raises(GraphposeError, match="demo adjacency=none seed=1 was not taken up again"):
        table_runs.refuse_running(run, trainings)


@pytest.mark.parametrize("attempts", [0, 1])
def test_a_run_that_is_refused_counts_as_failed(tmp_path, monkeypatch, attempts):
    """Whether it is the first attempt or one to go on with an interrupted run."""
    (run,) = runs_of("baseline", tmp_path)
    for number in range(attempts):
        attempt(run, "INTERRUPTED", number + 1)
    monkeypatch.setattr(table_runs.TrainingProcesses, "run", lambda *_, **__: 1)
    (sentence,) = train_missing({"row": [run]}, retry_failed=False)
    before_it_began = "run.py ended with status 1 before the run began"
    assert sentence == f"demo adjacency=none seed=1: {before_it_began}, see its message above"
    assert table_runs.outcome(run) == table_runs.Outcome("failed", reason=before_it_began)
    assert train_missing({"row": [run]}, retry_failed=False) == []
    (sentence,) = train_missing({"row": [run]}, retry_failed=True, jobs=2)
    assert sentence.endswith(f"see its message in {run.folder / 'output.txt'}")

    def train(*_, **__):
        attempt(run, "COMPLETED", attempts + 1, metrics={"AP": 0.6})
        return 0

    monkeypatch.setattr(table_runs.TrainingProcesses, "run", train)
    assert train_missing({"row": [run]}, retry_failed=True) == []
    assert table_runs.outcome(run).state == "done"


def test_a_setting_that_no_run_takes_is_refused_before_anything_starts(tmp_path):
    for settings, message in (
        ({"adjacncy": "x"}, "unknown configuration key 'adjacncy'; did you mean adjacency"),
        ({"loss.pif_ofset": 2}, "'loss.pif_ofset'; did you mean loss.pif_offset"),
        ({"los.pif_offset": 2}, "there is no group 'los', only augment, crowd, decoder, loss"),
        ({"batch_size": 0}, "batch_size=0 must be"),
    ):
        with pytest.raises(GraphposeError, match=message):
            runs_of("baseline", tmp_path, **settings)
    with pytest.raises(GraphposeError, match="'cooc' is no named configuration; choose one of demo, own, coco"):
        runs_of("baseline", tmp_path, data="cooc")


def test_a_run_from_a_baseline_is_known_by_the_baselines_bytes(tmp_path, monkeypatch):
    """Where the named configuration names the file as where a setting does."""
    monkeypatch.chdir(tmp_path)
    folders = []
    for content in (b"one", b"another", b"one"):
        (tmp_path / "baseline.pt").write_bytes(content)
        table_runs.file_digest.cache_clear()
        (run,) = runs_of("DGCN-A_d", tmp_path, data="coco_from_pifpaf")
        folders.append(run.folder)
    assert folders[0] == folders[2] != folders[1]
    assert run.arguments == ["coco_from_pifpaf", "seed=1"]


def test_a_run_keeps_the_folder_it_was_made_in(tmp_path):
    """Under these names runs lie on disks. A key that comes later goes into LATER_KEYS; these names do not change."""
    names = [
        (runs_of("DGCN-A_d", tmp_path), "demo-c5deb30e7052"),
        (runs_of("F16 & F8", tmp_path, "table3", epochs="2"), "demo-6fe37570f55a"),
        (runs_of("baseline", tmp_path, data="coco_local", workers="5"), "coco_local-6a7a4024dc1c"),
        (runs_of("GCN-A_s", tmp_path, data="paper", **{"decoder.min_score": "0.3"}), "coco-3fc2dab1a2c1"),
        (runs_of("DGCN-50", tmp_path, "table8", data="paper"), "mpii-60192b294b92"),
    ]
    assert [run.folder.name for (run,), _ in names] == [name for _, name in names]


def test_a_key_that_came_later_makes_another_run_only_where_it_changes_something(tmp_path, monkeypatch):
    (before,), (soft,) = runs_of("baseline", tmp_path), runs_of("GCN-A_s", tmp_path, gamma="2.0")
    names = [before.folder, soft.folder]
    monkeypatch.setitem(table_runs.LATER_KEYS, "momentum_of_tests", 0.5)
    monkeypatch.setitem(table_runs.LATER_KEYS, "decoder.threshold_of_tests", 3)
    later = {"momentum_of_tests": 0.5, "decoder": table_runs.DEFAULTS["decoder"] | {"threshold_of_tests": 3}}
    demo = {"decoder": table_runs.NAMED["demo"]["decoder"] | {"threshold_of_tests": 3}}
    for key, value in later.items():
        monkeypatch.setitem(table_runs.DEFAULTS, key, value)
    monkeypatch.setitem(table_runs.NAMED, "demo", table_runs.NAMED["demo"] | demo)
    assert [before.folder, soft.folder] == names
    monkeypatch.setitem(table_runs.NAMED["demo"]["decoder"], "threshold_of_tests", 4)
    assert before.folder not in names


@pytest.mark.slow
def test_where_a_run_is_made_does_not_make_it_another_run(tmp_path):
    common = {"row_name": "baseline", "root": tmp_path, "data": "coco_local"}
    here, there, other = (tmp_path / name / "model.safetensors" for name in ("here", "there", "other"))
    for path in (here, there, other):
        path.parent.mkdir()
        path.write_bytes(b"other" if path is other else b"weights")
        path.with_suffix(".npy").write_bytes(path.read_bytes())
    (run,) = runs_of(**common, pretrained=str(here))
    (elsewhere,) = runs_of(**common, pretrained=str(there), workers="7", data_root="/sets")
    assert elsewhere.folder == run.folder
    assert elsewhere.arguments == [
        "coco_local", "adjacency=none", "data_root=/sets", f"pretrained={there}", "workers=7", "seed=1"
    ]  # fmt: skip
    assert elsewhere.device == "auto"
    different = [
        {"pretrained": str(other)}, {"pretrained": "True"}, {"pretrained": "missing.pth"},
        {"adjacency": str(there.with_suffix(".npy"))}, {"adjacency": str(other.with_suffix(".npy"))},
        {"statistics": "a/stats.npz"}, {"statistics": "b/stats.npz"},
        {"train_annotations": "a/train.json"}, {"train_annotations": "b/train.json"},
    ]  # fmt: skip
    assert len({runs_of(**common, **settings)[0].folder for settings in different} | {run.folder}) == 10
    graphs = [runs_of(**common, adjacency=str(path.with_suffix(".npy")))[0] for path in (here, there)]
    assert graphs[0].folder == graphs[1].folder
    assert table_runs.headline({"pretrained": str(here), "workers": 7, "epochs": 3}) == [
        "pretrained=model.safetensors", "epochs=3"
    ]  # fmt: skip
