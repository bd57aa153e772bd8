"""Rows of the table and what one seed of one of them gives; every result is kept, so that a table can go on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.completion import baselines
from experiments.completion.network import LAYERS, CompletionNetwork, predict, train
from experiments.completion.task import Poses, hidden_poses
from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import ADJACENCIES
from graphpose.graphs.dataset import KeypointGraphDataset

TEST_SEED = 0  # of what is hidden of the test persons: the same for every row and seed


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a result depends on beside its row, its seed and the annotations.

    Attributes:
        persons: trained on, drawn anew by every seed.
        min_keypoints: labelled keypoints that a person must have, in training and test.
        share: of the labelled keypoints that are hidden.
        keep: keypoints that always stay visible.
        width: features per keypoint of the networks.
        depth: their graph layers.
        epochs: their training.
        batch_size: persons to a step.
        learning_rate: highest of the schedule.
    """

    persons: int = 10_000
    min_keypoints: int = 8
    share: float = 0.3
    keep: int = 3
    width: int = 32
    depth: int = 3
    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise GraphposeError(f"{field.name} is {value}; a positive number is needed")
        if not self.share < 1:
            raise GraphposeError(f"share is {self.share}; a number below 1 is needed")
        if self.width % 4:
            raise GraphposeError(f"width is {self.width}; a multiple of 4 is needed")
        if self.keep >= self.min_keypoints:
            raise GraphposeError(f"keep {self.keep} of min_keypoints {self.min_keypoints} leaves none to hide")


@dataclasses.dataclass(frozen=True)
class Row:
    """A way to complete poses.

    Attributes:
        layer: a baseline ("mean pose", "ridge", "Gaussian"), "none" for a dense network, or a name in LAYERS.
        adjacency: of a graph network; empty otherwise.
        same_as: adjacency whose runs are this row's, too, for its layer sees the same in both.
    """

    layer: str
    adjacency: str = ""
    same_as: str = ""

    @property
    def name(self) -> str:
        """As the table has it."""
        if self.adjacency:
            return f"{self.layer}, {self.adjacency}"
        return "dense network, no graph" if self.layer == "none" else self.layer


BASELINES = (Row("mean pose"), Row("ridge"), Row("Gaussian"), Row("none"))
# GAT reads whether an edge is there, and A_s has them all.
ROWS = (
    *BASELINES,
    *(Row(layer, a, "full" if (layer, a) == ("GAT", "soft") else "") for layer in LAYERS for a in ADJACENCIES),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What one seed of a row gives on the test persons.

    Attributes:
        error: mean distance of all hidden keypoints, in scales.
        rms: root of their mean square.
        by_keypoint: K mean distances; nan where a keypoint was never hidden.
        by_person: (N,) sums of the distances of a person's hidden keypoints.
        cpu_seconds: of training or fitting.
        parameters: of the network; 0 for a baseline.
    """

    error: float
    rms: float
    by_keypoint: list[float]
    by_person: np.ndarray
    cpu_seconds: float
    parameters: int

    @classmethod
    def of(cls, poses: Poses, predicted: Tensor, cpu_seconds: float, parameters: int) -> Result:
        """Score predictions of the hidden keypoints."""
        distance = poses.distances(predicted).double()  # (N, K)
        count = poses.hidden.sum()
        return cls(
            error=float(distance.sum() / count),
            rms=float((distance**2).sum() / count) ** 0.5,
            by_keypoint=(distance.sum(0) / poses.hidden.sum(0)).tolist(),
            by_person=distance.sum(1).numpy(),
            cpu_seconds=cpu_seconds,
            parameters=parameters,
        )


class Completion:
    """The rows on one pair of annotation files, with the folder that keeps their results.

    Args:
        train: persons to learn from; has those of ``min_keypoints`` only.
        test: persons to score on.
        settings: of all rows.
        folder: below which results are kept, by what they depend on.

    Raises:
        GraphposeError: the files have different skeletons, or too few persons.
    """

    def __init__(
        self, train: KeypointGraphDataset, test: KeypointGraphDataset, settings: Settings, folder: Path
    ) -> None:
        if train.skeleton.keypoints != test.skeleton.keypoints:
            raise GraphposeError(f"training has keypoints of '{train.skeleton.name}', test of '{test.skeleton.name}'")
        if len(train) < settings.persons:
            raise GraphposeError(
                f"persons {settings.persons}: there are {len(train)} with {settings.min_keypoints} keypoints or more"
            )
        self.train, self.settings = train, settings
        self.skeleton = train.skeleton
        generator = torch.Generator().manual_seed(TEST_SEED)
        self.test = hidden_poses(test, settings.share, settings.keep, generator)
        files = [Path(one.processed_paths[0]).name for one in (train, test)]
        depends_on = json.dumps([dataclasses.asdict(settings), *files])
        self.folder = folder / hashlib.sha256(depends_on.encode()).hexdigest()[:12]

    def path(self, row: Row, seed: int) -> Path:
        """File of a result."""
        words = [row.layer.replace(" ", "_"), row.same_as or row.adjacency, str(seed)]
        return self.folder / ("-".join(word for word in words if word) + ".npz")

    def known(self, row: Row, seed: int) -> Result | None:
        """A result that was kept; None where there is none yet."""
        path = self.path(row, seed)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                return Result(**json.loads(str(file["figures"])), by_person=file["by_person"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GraphposeError(f"{path} is damaged ({error}); delete it, and it is made again") from None

    def result(self, row: Row, seed: int) -> Result:
        """A result, kept or made now."""
        made = self.known(row, seed)
        if made is None:
            made = self._compute(row, seed)
            figures = {key: value for key, value in dataclasses.asdict(made).items() if key != "by_person"}
            path = self.path(row, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.savez_compressed(file, figures=np.array(json.dumps(figures)), by_person=made.by_person)
            temporary.replace(path)
        return made

    def _compute(self, row: Row, seed: int) -> Result:
        settings = self.settings
        torch.manual_seed(seed)  # weights and drawn graphs
        generator = torch.Generator().manual_seed(seed)  # persons, their order, and what is hidden of them
        own = self.train[torch.randperm(len(self.train), generator=generator)[: settings.persons]]
        pos, labelled = own.stacked("pos"), own.stacked("mask")
        whole = Poses(pos, labelled, torch.zeros_like(labelled))
        start = time.process_time()
        parameters = 0
        if row.layer == "mean pose":
            predicted = baselines.predict_mean_pose(baselines.mean_pose(whole), self.test)
        elif row.layer == "ridge":
            poses = hidden_poses(own, settings.share, settings.keep, generator)
            predicted = baselines.predict_ridge(baselines.fit_ridge(poses), self.test)
        elif row.layer == "Gaussian":
            predicted = baselines.predict_gaussian(baselines.fit_gaussian(whole), self.test)
        else:
            mean = baselines.mean_pose(whole)
            network = CompletionNetwork(
                row.layer, self.skeleton, row.adjacency, mean, width=settings.width, depth=settings.depth
            )
            train(
                network,
                pos,
                labelled,
                share=settings.share,
                keep=settings.keep,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                generator=generator,
            )
            parameters = sum(parameter.numel() for parameter in network.parameters())
            predicted = predict(network, self.test)
        return Result.of(self.test, predicted, time.process_time() - start, parameters)
