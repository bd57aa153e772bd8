"""All files of one run of ``graphpose predict``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.fields.pose import Poses
from graphpose.inference.frames import Frame
from graphpose.inference.report import Report
from graphpose.inference.sources import DEFAULT_RATE
from graphpose.inference.tracking import Tracker
from graphpose.inference.writers import (
    AppendedFile,
    JsonArray,
    KeypointTable,
    Record,
    VideoWriter,
    encode_image,
    openpifpaf_records,
    read_records,
    require_pyarrow,
    write_parquet,
    write_whole,
)
from graphpose.skeleton import Skeleton
from graphpose.visualize import draw_poses

RESULTS, IMAGES, TABLE, PARQUET = "results.json", "images.json", "keypoints.csv", "keypoints.parquet"
REPORT, FINISHED = "report.html", "finished.json"
DRAWN_SCORE = 0.3  # of a pose that is drawn where no least score is named: people, not noise
DRAWING, DRAWN_VIDEO = ".poses.png", ".poses.mp4"
OPENPIFPAF_IMAGE, OPENPIFPAF_VIDEO = ".predictions.json", ".openpifpaf.json"


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """What is written where.

    Attributes:
        folder: of everything; made where it is missing.
        draw: ``NAME.poses.png`` beside each image's name, ``NAME.poses.mp4`` for videos.
        json: a file in OpenPifPaf's layout for each image, and one with a line for each frame of a video.
        csv: ``keypoints.csv``.
        parquet: ``keypoints.parquet``, with ``keypoints.csv``.
        report: ``report.html``, a page with the pictures and a slider over the score.
        shard: (n, of) of a list that is predicted in parts: this is part n, from 1; its files say so in their names.
        min_score: poses with less are left out of everything; None keeps all, but draws none below DRAWN_SCORE.
        max_persons: of a frame, at most; None for any number.
        keypoints: names of those that are kept; None for all.
        labels: draw the number of each track.
        track: give persons a "track_id" over the frames of a video, or the images of a folder in their order.
        overwrite: replace files of an earlier run.
        resume: go on with an earlier run's files.
    """

    folder: Path
    draw: bool = True
    json: bool = False
    csv: bool = False
    parquet: bool = False
    track: bool = False
    report: bool = False
    shard: tuple[int, int] | None = None
    min_score: float | None = None
    max_persons: int | None = None
    keypoints: tuple[str, ...] | None = None
    labels: bool = True
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.overwrite and self.resume:
            raise GraphposeError("overwrite and resume contradict each other: choose one")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise GraphposeError(f"shard {self.shard[0]}/{self.shard[1]} must be n/of with n from 1 to of")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise GraphposeError(f"least score {self.min_score} must lie in 0 … 1")
        if self.max_persons is not None and self.max_persons < 1:
            raise GraphposeError(f"at most {self.max_persons} persons: it must be 1 or more")
        if self.folder.exists() and not self.folder.is_dir():
            raise GraphposeError(f"'{self.folder}' is a file; predictions are written to a folder")
        if self.parquet:
            require_pyarrow()

    def path(self, name: str) -> Path:
        """Of one of the files that there is one of in a run."""
        return self.folder / (name if self.shard is None else shard_name(name, *self.shard))


def shard_name(name: str, number: int, of: int) -> str:
    """What part ``number`` of ``of`` calls a file: "results.03-of-64.json"."""
    stem, suffix = name.rsplit(".", 1)
    return f"{stem}.{number:0{len(str(of))}d}-of-{of}.{suffix}"


class Outputs:
    """Writes predictions frame by frame; after each all files are whole.

    ``results.json`` has the poses in COCO's results format. ``images.json`` says which image an id is: file_name,
    height and width, "frame" in videos (from 0), or "error" for one that could not be read.

    Args:
        config: what is written where.
        skeleton: of the poses.

    Attributes:
        known: frames that an earlier run has done, by name and index.

    Raises:
        GraphposeError: there is something that would be overwritten, or a file cannot be read or written.
    """

    def __init__(self, config: OutputConfig, skeleton: Skeleton) -> None:
        self.config = config
        self.skeleton = skeleton
        for name in config.keypoints or ():
            skeleton.index(name)  # refuses those that it does not have, before any work
        images: list[Record] = []
        results: list[Record] = []
        if config.resume and config.path(IMAGES).exists():
            images = read_records(config.path(IMAGES), lambda image: "error" not in image)
            done = {image["id"] for image in images}
            results = read_records(config.path(RESULTS), lambda result: result["image_id"] in done)
            if any(len(result["keypoints"]) != 3 * skeleton.num_keypoints for result in results):
                raise GraphposeError(
                    f"{config.path(RESULTS)} has poses of another skeleton than '{skeleton.name}', the network's; "
                    f"resume with the same checkpoint, or choose another folder"
                )
        elif not config.overwrite:
            names = (RESULTS, IMAGES, TABLE, PARQUET, REPORT)
            self._refuse_existing(*(config.path(name) for name in names))
            self._refuse_existing(config.folder / RESULTS)  # that parts would be joined to
        config.path(FINISHED).unlink(missing_ok=True)
        self.known: dict[tuple[str, int | None], Record] = {(i["file_name"], i.get("frame")): i for i in images}
        self._known_results: dict[int, list[Record]] = {image["id"]: [] for image in images}
        for result in results:
            self._known_results[result["image_id"]].append(result)
        self._results = JsonArray(config.path(RESULTS), results)
        self._images = JsonArray(config.path(IMAGES), images)
        self._table: KeypointTable | None = None
        if config.csv or config.parquet:
            rows = [row for i in images for row in KeypointTable.rows(i, self._known_results[i["id"]])]
            self._table = KeypointTable(config.path(TABLE), skeleton.keypoints, rows)
        self._report = Report(skeleton) if config.report else None
        self._tracker: tuple[str, Tracker] | None = None
        self._video: tuple[str, VideoWriter] | None = None
        self._lines: tuple[str, AppendedFile] | None = None

    def is_known(self, name: str, index: int | None) -> bool:
        """Whether an earlier run has done this frame."""
        return (name, index) in self.known

    def write(self, frame: Frame[Any], poses: Poses | None) -> list[Record]:
        """Write all of one frame.

        Args:
            frame: with its image, an error, or known of an earlier run.
            poses: None where it has an error or is known.

        Returns:
            Its COCO results.

        Raises:
            GraphposeError: a file cannot be written, or exists; or an earlier run has another image in this place.
        """
        if frame.known:
            image = self.known[frame.name, frame.index]
            if image["id"] != frame.image_id:
                raise GraphposeError(
                    f"the list of images has changed: {frame.label} is number {frame.image_id} and was number "
                    f"{image['id']}; resume with the same sources, or choose another folder than "
                    f"'{self.config.folder}'"
                )
            results = self._known_results.pop(image["id"])
            if self._report is not None:
                self._report.pass_earlier()
            self._track_again(frame, results)
            self._write_video(frame, results)
            return results
        if poses is None:
            self._images.extend([{"id": frame.image_id, **_place(frame), "error": str(frame.error)}])
            if self._report is not None:
                self._report.add_unread(frame.label, str(frame.error))
            return []
        assert frame.image is not None
        height, width = frame.image.shape[:2]
        image = {"id": frame.image_id, **_place(frame), "height": height, "width": width}
        poses = poses.selected(
            min_score=self.config.min_score or 0.0,
            max_persons=self.config.max_persons,
            keypoints=self.config.keypoints,
        )
        results = poses.to_coco(frame.image_id)
        if self.config.track:
            for result, area in zip(results, poses.areas, strict=True):
                result["area"] = round(float(area), 3)
            self._track(frame, results)
        if frame.index is None:
            self._write_files(frame, results)
        else:
            self._write_video(frame, results)
        if self._table is not None:
            self._table.extend(KeypointTable.rows(image, results))
        if self._report is not None:
            self._report.add(frame.label, frame.image, results)
        self._results.extend(results)
        self._images.extend([image])
        return results

    @property
    def least_drawn(self) -> float:
        """Least score of a pose that is drawn."""
        return DRAWN_SCORE if self.config.min_score is None else 0.0

    def finish(self) -> None:
        """Say that all sources came to their end; of a part, for :func:`graphpose.inference.merge.merge`."""
        if self.config.shard is not None:
            write_whole(self.config.path(FINISHED), b"{}\n")

    def close(self) -> None:
        """End all files."""
        with contextlib.ExitStack() as stack:
            if self._table is not None and self.config.parquet:
                stack.callback(write_parquet, self.config.path(TABLE), self.config.path(PARQUET))
            if self._report is not None:
                stack.callback(self._report.write, self.config.path(REPORT), self.least_drawn)
            for file in (self._table, self._results, self._images):
                if file is not None:
                    stack.callback(file.close)
            stack.callback(self._close_video)

    def _track(self, frame: Frame[Any], results: list[Record]) -> None:
        """Give each result its "track_id". What is tracked is what is written, so that a resumed run tracks alike."""
        sequence = frame.name if frame.index is not None else frame.name.rpartition("/")[0]
        if self._tracker is None or self._tracker[0] != sequence:
            self._tracker = (sequence, Tracker(self.skeleton))
        keypoints = np.array([result["keypoints"] for result in results], np.float64)
        ids = self._tracker[1].update(
            keypoints.reshape(len(results), self.skeleton.num_keypoints, 3),
            np.array([result["area"] for result in results], np.float64),
            np.array([result["score"] for result in results], np.float64),
        )
        for result, identity in zip(results, ids.tolist(), strict=True):
            if identity:
                result["track_id"] = identity

    def _track_again(self, frame: Frame[Any], results: list[Record]) -> None:
        """Bring the tracker to where it was after a frame of an earlier run."""
        if self.config.track and any("area" not in result for result in results):
            raise GraphposeError(
                f"the earlier run in '{self.config.folder}' did not track; resume without --track, or start anew"
            )
        if self.config.track:
            self._track(frame, results)

    def _write_files(self, frame: Frame[Any], results: list[Record]) -> None:
        if self.config.json:
            self._write_file(frame.name + OPENPIFPAF_IMAGE, json.dumps(openpifpaf_records(results)).encode())
        if self.config.draw:
            path = self.config.folder / (frame.name + DRAWING)
            self._write_file(frame.name + DRAWING, encode_image(path, self._drawn(frame, results)))

    def _write_file(self, name: str, content: bytes) -> None:
        write_whole(self._new_path(name), content)

    def _write_video(self, frame: Frame[Any], results: list[Record]) -> None:
        """A frame of a video; those of an earlier run are drawn anew, since a video cannot be gone on with."""
        if frame.index is None or (frame.image is None and not self.config.json):
            return
        self._close_video(unless=frame.name)
        if self.config.json:
            if self._lines is None:
                self._lines = (frame.name, self._new_lines(frame.name + OPENPIFPAF_VIDEO))
            line = {"frame": frame.index, "predictions": openpifpaf_records(results)}
            self._lines[1].append(json.dumps(line) + "\n")
        if self.config.draw and frame.image is not None:
            if self._video is None:
                path = self._new_path(frame.name + DRAWN_VIDEO)
                size = (frame.image.shape[0], frame.image.shape[1])
                self._video = (frame.name, VideoWriter(path, frame.rate or DEFAULT_RATE, size))
            self._video[1].write(self._drawn(frame, results))

    def _new_path(self, name: str) -> Path:
        path = self.config.folder / name
        if not self.config.resume and not self.config.overwrite:
            self._refuse_existing(path)
        return path

    def _new_lines(self, name: str) -> AppendedFile:
        return AppendedFile(self._new_path(name), "")

    def _close_video(self, unless: str | None = None) -> None:
        """End the files of one video, before those of another."""
        if self._lines is not None and self._lines[0] != unless:
            self._lines[1].close()
            self._lines = None
        if self._video is not None and self._video[0] != unless:
            video, self._video = self._video[1], None
            video.close()

    def _drawn(self, frame: Frame[Any], results: list[Record]) -> np.ndarray:
        assert frame.image is not None
        shown = [result for result in results if result["score"] >= self.least_drawn]
        keypoints = np.array([result["keypoints"] for result in shown], np.float64)
        ids = [result.get("track_id", 0) for result in shown]
        return draw_poses(
            frame.image,
            keypoints.reshape(-1, self.skeleton.num_keypoints, 3),
            self.skeleton,
            labels=[str(n or "") for n in ids] if self.config.track and self.config.labels else None,
            colours=ids if self.config.track else "sides",
        )

    def _refuse_existing(self, *paths: Path) -> None:
        for path in paths:
            if path.exists():
                raise GraphposeError(
                    f"'{path}' exists already; --resume goes on with the run that made it, --overwrite replaces it, "
                    f"--out names another folder"
                )


def _place(frame: Frame[Any]) -> Record:
    return {"file_name": frame.name} if frame.index is None else {"file_name": frame.name, "frame": frame.index}
