"""The command graphpose predict on folders and films: its files, stops, resumes and refusals."""

import csv
import io
import json
import os
import signal
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from graphpose.cli import main
from graphpose.data.demo.dataset import DemoDataset
from graphpose.errors import GraphposeError
from graphpose.fields.pose import Poses
from graphpose.inference.job import predict_sources
from graphpose.inference.outputs import OutputConfig, Outputs
from graphpose.inference.predict import Predictor
from graphpose.inference.sources import find_sources
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import COCO
from tests.inference.films import write_film


class NoFields:
    def finish(self):
        return None, None


class GreyPredictor(Predictor):
    """Finds as many persons as the mean grey of an image says, without a network."""

    def _begin(self, batch):
        return None, NoFields()

    def _decode(self, waiting, batch, fields, seconds):
        for one in waiting:
            count = int(one.frame.image.mean()) % 4
            keypoints = np.zeros((count, 17, 3), np.float32)
            keypoints[:, :, :2] = np.arange(34).reshape(17, 2) + 0.125 * np.arange(count)[:, None, None]
            keypoints[:, :, 2] = 0.5
            scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
            one.poses = Poses(keypoints, scores, np.ones((count, 17), np.float32), COCO)


@pytest.fixture(scope="module")
def predictor():
    return GreyPredictor(PoseNetwork(PoseNetworkConfig(backbone="regnetx_002", stem_pool=True, adjacency="none")))


@pytest.fixture(scope="module")
def pictures():
    return [DemoDataset(12, size=64)[i].image for i in range(12)]


@pytest.fixture
def folder(tmp_path, pictures):
    """Two files of one name, a broken one between them, and a film."""
    root = tmp_path / "in"
    for name, image in zip(("a/x.jpg", "b/w.jpg", "b/x.jpg"), pictures, strict=False):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), image[..., ::-1])
    (root / "b" / "w.jpg").write_bytes((root / "b" / "w.jpg").read_bytes()[:300])
    write_film(root / "film.avi", pictures * 3)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(predictor, source, out, **options):
    config = OutputConfig(out, **({"json": True, "csv": True} | options))
    return predict_sources(predictor, find_sources([source]), config, say=lambda line: None, log=io.StringIO())


def test_all_outputs_of_one_run(predictor, folder, tmp_path):
    out = tmp_path / "out"
    summary = run(predictor, folder, out)
    assert (summary.done, summary.failed, summary.status) == (38, 1, 1)
    assert contents(out).keys() == {
        "a/x.jpg.poses.png", "a/x.jpg.predictions.json", "b/x.jpg.poses.png", "b/x.jpg.predictions.json",
        "film.avi.openpifpaf.json", "film.avi.poses.mp4", "images.json", "keypoints.csv", "results.json",
    }  # fmt: skip
    images = json.loads((out / "images.json").read_text())
    assert [image["id"] for image in images] == list(range(1, 40))
    assert "b/w.jpg" in images[1]["file_name"]
    assert "cannot be decoded" in images[1]["error"] or "truncated" in images[1]["error"]
    assert images[5] == {"id": 6, "file_name": "film.avi", "frame": 2, "height": 64, "width": 64}
    results = json.loads((out / "results.json").read_text())
    assert len(results) == summary.persons
    assert {result["image_id"] for result in results} <= {i["id"] for i in images} - {2}
    of_b = [result for result in results if result["image_id"] == 3]
    layout = json.loads((out / "b" / "x.jpg.predictions.json").read_text())
    assert [one["keypoints"] for one in layout] == [[round(v, 2) for v in one["keypoints"]] for one in of_b]
    lines = [json.loads(line) for line in (out / "film.avi.openpifpaf.json").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(36))
    with open(out / "keypoints.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary.persons
    assert [float(row["nose_x"]) for row in rows] == [result["keypoints"][0] for result in results]
    with find_sources([out / "film.avi.poses.mp4"]).items[0].open() as reader:
        assert (reader.count, reader.rate) == (36, 12.0)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(predictor, folder, tmp_path, batch_size):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    config = {"batch_size": batch_size, "say": lambda line: None, "log": io.StringIO()}
    sources = find_sources([folder])
    (folder / "b" / "w.jpg").unlink()
    sources = find_sources([folder])
    predict_sources(predictor, sources, OutputConfig(straight, json=True, csv=True, track=True), **config)
    frames = []

    class Interrupting(GreyPredictor):
        def _begin(self, batch):
            frames.extend(batch)
            if len(frames) > 20 and len(frames) - len(batch) <= 20:
                signal.raise_signal(signal.SIGINT)
            return super()._begin(batch)

    interrupting = Interrupting(predictor.network)
    summary = predict_sources(interrupting, sources, OutputConfig(stopped, json=True, csv=True, track=True), **config)
    assert summary.status == 130
    assert 10 < summary.done <= 21
    halfway = json.loads((stopped / "images.json").read_text())
    assert len(halfway) == summary.done
    results = json.loads((stopped / "results.json").read_text())
    assert {result["image_id"] for result in results} <= {image["id"] for image in halfway}
    with find_sources([stopped / "film.avi.poses.mp4"]).items[0].open() as reader:
        assert reader.count == summary.done - 2
    assert not [name for name in contents(stopped) if "part" in name]
    resumed = predict_sources(
        predictor, sources, OutputConfig(stopped, json=True, csv=True, track=True, resume=True), **config
    )
    assert (resumed.done, resumed.known, resumed.status) == (38, summary.done, 0)
    assert contents(stopped) == contents(straight)


def test_sigterm_stops_as_ctrl_c_does(predictor, folder, tmp_path):
    class Terminated(GreyPredictor):
        def _begin(self, batch):
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    summary = run(Terminated(predictor.network), folder, tmp_path / "out")
    assert summary.status == 128 + signal.SIGTERM
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_leaves_whole_files_and_says_how_many_were_done(predictor, folder, tmp_path, monkeypatch):
    extend, out = Outputs.write, tmp_path / "out"

    def write(self, frame, poses):
        if frame.image_id == 12:
            monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        return extend(self, frame, poses)

    monkeypatch.setattr(Outputs, "write", write)
    with pytest.raises(GraphposeError, match=r"No space left on device \(10 frames are done; --resume goes on\)"):
        run(predictor, folder, out)
    assert len(json.loads((out / "images.json").read_text())) == 11
    json.loads((out / "results.json").read_text())
    monkeypatch.undo()
    assert run(predictor, folder, out, resume=True).known == 10
    straight = run(predictor, folder, tmp_path / "straight")
    assert straight.done == 38
    for name in ("results.json", "keypoints.csv", "film.avi.openpifpaf.json"):
        first, second = (contents(f)[name].splitlines() for f in (out, tmp_path / "straight"))
        assert first == second, name


def test_what_was_found_is_written_where_a_line_cannot_be_said(predictor, folder, tmp_path):
    def say(line):
        if "b/x.jpg" in line:
            raise UnicodeEncodeError("ascii", "é", 0, 1, "no such letter")

    with pytest.raises(UnicodeEncodeError):
        predict_sources(predictor, find_sources([folder]), OutputConfig(tmp_path / "out"), say=say, log=io.StringIO())
    images = json.loads((tmp_path / "out" / "images.json").read_text())
    assert "a/x.jpg" in {image["file_name"] for image in images}
    assert isinstance(json.loads((tmp_path / "out" / "results.json").read_text()), list)


def test_nothing_is_overwritten_unless_asked_to(predictor, folder, tmp_path):
    out = tmp_path / "out"
    run(predictor, folder / "a", out)
    before = contents(out)
    with pytest.raises(GraphposeError, match=r"results\.json' exists already; --resume .* --overwrite"):
        run(predictor, folder / "a", out)
    for name in ("results.json", "images.json", "keypoints.csv"):
        (out / name).unlink()
    with pytest.raises(GraphposeError, match=r"x\.jpg\.predictions\.json' exists already"):
        run(predictor, folder / "a", out)
    run(predictor, folder / "a", out, overwrite=True)
    assert contents(out) == before
    with pytest.raises(GraphposeError, match="contradict"):
        OutputConfig(out, overwrite=True, resume=True)


def test_another_list_of_images_cannot_be_resumed(predictor, folder, tmp_path):
    run(predictor, folder / "film.avi", tmp_path / "out")
    (tmp_path / "in" / "a.avi").write_bytes((folder / "film.avi").read_bytes())
    with pytest.raises(GraphposeError, match=r"film.avi, frame 0 is number 37 and was number 1"):
        predict_sources(
            predictor,
            find_sources([folder / "a.avi", folder / "film.avi"]),
            OutputConfig(tmp_path / "out", resume=True),
            log=io.StringIO(),
        )


def test_an_image_that_was_broken_is_read_again_on_resume(predictor, folder, pictures, tmp_path):
    out = tmp_path / "out"
    assert run(predictor, folder / "b", out).status == 1
    cv2.imwrite(str(folder / "b" / "w.jpg"), pictures[1][..., ::-1])
    summary = run(predictor, folder / "b", out, resume=True)
    assert (summary.done, summary.known, summary.status) == (2, 1, 0)
    images = json.loads((out / "images.json").read_text())
    assert {image["file_name"]: image["id"] for image in images} == {"w.jpg": 1, "x.jpg": 2}


def test_tracks_are_in_every_output_and_begin_anew_with_each_film_and_folder(predictor, folder, pictures, tmp_path):
    somebody = next(picture for picture in pictures if int(picture.mean()) % 4 >= 2)
    for n in range(3):
        (folder / "c").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "c" / f"{n}.png"), somebody[..., ::-1])
    write_film(folder / "film2.avi", pictures * 2)
    out = tmp_path / "out"
    run(predictor, folder, out, track=True)
    results = json.loads((out / "results.json").read_text())
    images = {image["id"]: image for image in json.loads((out / "images.json").read_text())}
    tracks = {}
    for result in results:
        tracks.setdefault(images[result["image_id"]]["file_name"], []).append(result["track_id"])
    assert tracks["c/0.png"] == tracks["c/1.png"] == tracks["c/2.png"]  # one picture three times
    assert min(tracks["film.avi"]) == min(tracks["film2.avi"]) == 1
    assert tracks["film.avi"][: len(tracks["film2.avi"])] == tracks["film2.avi"]
    with open(out / "keypoints.csv", newline="") as file:
        assert [int(row["track_id"]) for row in csv.DictReader(file)] == [result["track_id"] for result in results]
    layout = json.loads((out / "c" / "1.png.predictions.json").read_text())
    assert [one["id_"] for one in layout] == tracks["c/1.png"]


def test_a_run_without_tracks_cannot_be_resumed_with_them(predictor, folder, tmp_path):
    run(predictor, folder / "film.avi", tmp_path / "out")
    with pytest.raises(GraphposeError, match="did not track"):
        run(predictor, folder / "film.avi", tmp_path / "out", track=True, resume=True)


def test_scores_numbers_and_keypoints_can_be_chosen(predictor, folder, tmp_path):
    def results(**options):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        run(predictor, folder / "film.avi", out, **options)
        return json.loads((out / "results.json").read_text())

    everything = results()
    assert {result["score"] > 0.6 for result in everything} == {True, False}
    assert results(min_score=0.6) == [result for result in everything if result["score"] >= 0.6]
    alone = results(max_persons=1)
    assert len(alone) == len({result["image_id"] for result in everything})
    nose = results(keypoints=("nose",))
    assert len(nose) == len(everything)
    assert {sum(c > 0 for c in result["keypoints"][2::3]) for result in nose} == {1}
    with pytest.raises(GraphposeError, match="has no keypoint 'noses'"):
        results(keypoints=("noses",))
    for wrong in ({"min_score": 2.0}, {"max_persons": 0}):
        with pytest.raises(GraphposeError, match=r"(least score 2|at most 0 persons)"):
            OutputConfig(tmp_path, **wrong)


def test_a_report_has_every_frame_and_a_resumed_run_of_another_skeleton_is_refused(predictor, folder, tmp_path):
    out = tmp_path / "out"
    run(predictor, folder, out, report=True)
    page = (out / "report.html").read_text()
    assert page.count("<figure>") == 38
    assert "film.avi, frame 35" in page
    results = json.loads((out / "results.json").read_text())
    for result in results:
        result["keypoints"] = result["keypoints"][:42]
    (out / "results.json").write_text(json.dumps(results))
    with pytest.raises(GraphposeError, match="poses of another skeleton than 'coco'"):
        run(predictor, folder, out, resume=True)


def test_a_folder_for_predictions_that_is_a_file_is_refused(tmp_path, folder, capsys):
    (tmp_path / "file").write_text("")
    assert main(["predict", str(folder), "--out", str(tmp_path / "file")]) == 2
    assert "is a file; predictions are written to a folder" in capsys.readouterr().err


def test_progress_in_a_log_is_lines_with_rate_and_time_left(predictor, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("graphpose.inference.job.LOG_SECONDS", 0.0)
    log = io.StringIO()
    predict_sources(predictor, find_sources([folder]), OutputConfig(tmp_path / "out"), log=log)
    assert "20 of 39 frames, " in log.getvalue()
    assert "/s, 0:0" in log.getvalue()
    assert "left" in log.getvalue()


def test_predicting_in_a_thread_needs_no_signals(predictor, folder, tmp_path):
    summaries = []
    thread = threading.Thread(target=lambda: summaries.append(run(predictor, folder, tmp_path / "out")))
    thread.start()
    thread.join()
    assert summaries[0].done == 38
