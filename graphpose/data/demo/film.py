"""A made film: persons of the demo who walk past, before and behind each other, with known identities."""

from __future__ import annotations

import dataclasses

import numpy as np

from graphpose.data.demo.backdrop import backdrop, finish
from graphpose.data.demo.body import Proportions, pose_body, walking_angles
from graphpose.data.demo.figure import dress
from graphpose.data.demo.outfit import Outfit
from graphpose.data.demo.palette import palette
from graphpose.data.demo.render import MAX_PERSONS, Placed, paint_colours, place, project
from graphpose.data.demo.scene import settle
from graphpose.data.sample import Persons, Sample
from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO

_LIGHT = np.array((-0.6, -0.8))


@dataclasses.dataclass(frozen=True)
class _Walker:
    """Somebody who walks to and fro.

    Attributes:
        proportions: of the body; outfit: what is worn; colours: of it; elevation: of the camera, degrees.
        scale: pixels per stature; floor: y of the mid-hip, pixels.
        x: where the walk starts, pixels; speed: pixels per frame, to the right at first where it is positive.
        ends: x at which it turns back.
        cadence: radians of a double step per frame; phase: where in it the walk starts.
    """

    proportions: Proportions
    outfit: Outfit
    colours: np.ndarray
    elevation: float
    scale: float
    floor: float
    x: float
    speed: float
    ends: tuple[float, float]
    cadence: float
    phase: float

    def at(self, frame: int) -> Placed:
        """The figure in a frame."""
        low, high = self.ends
        way = (self.x - low + self.speed * frame) % (2 * (high - low))  # there and back
        there = way < high - low
        x = low + way if there else 2 * high - low - way
        right = there == (self.speed > 0)
        angles = walking_angles(self.phase + self.cadence * frame)
        body = pose_body(angles, self.proportions, 65.0 if right else -65.0, self.elevation)
        return place(project(dress(body, self.outfit)), self.scale, np.array((x, self.floor)), _LIGHT)


class DemoFilm:
    """Frames of a made film; a sequence as of a data set, whose ``persons.ids`` are identities, from 0.

    Persons walk at their own speeds before a fixed backdrop, hide each other and turn back at the sides. Who is nearly
    hidden in a frame is not annotated in it.

    Args:
        length: number of frames.
        seed: of the film.
        size: pixels on a side.
        persons: how many there are.

    Raises:
        GraphposeError: a number of persons that cannot be drawn, or no frame.
    """

    skeleton = COCO

    def __init__(self, length: int, seed: int = 0, size: int = 160, persons: int = 6) -> None:
        if length < 1 or not 1 <= persons <= MAX_PERSONS:
            raise GraphposeError(
                f"a film of {length} frames and {persons} persons: 1 and 1 to {MAX_PERSONS} are needed"
            )
        self.length = length
        self.size = size
        rng = np.random.default_rng(np.random.SeedSequence([seed, 7]))
        self._backdrop = backdrop(rng, size)
        background = tuple(self._backdrop.reshape(-1, 3).mean(axis=0).tolist())
        self._grain = int(rng.integers(2**31))
        walkers = [self._walker(rng, background) for _ in range(persons)]
        self._walkers = sorted(walkers, key=lambda walker: walker.scale)  # from far to near

    def _walker(self, rng: np.random.Generator, background: tuple[float, float, float]) -> _Walker:
        size = self.size
        scale = size * rng.uniform(0.42, 0.75)
        return _Walker(
            Proportions.sample(rng),
            Outfit.sample(rng),
            palette(rng, background),
            elevation=float(rng.uniform(0, 8)),
            scale=scale,
            floor=size * 0.97 - 0.53 * scale - rng.uniform(0, 0.05) * size,
            x=float(rng.uniform(0.05, 0.95) * size),
            speed=float(rng.choice((-1, 1)) * rng.uniform(0.01, 0.05) * scale),
            ends=(-0.05 * size, 1.05 * size),
            cadence=float(rng.uniform(0.35, 0.7)),
            phase=float(rng.uniform(0, 2 * np.pi)),
        )

    def __len__(self) -> int:
        return self.length

    def persons(self, frame: int) -> Persons:
        """Annotations of a frame, without its picture."""
        return self._frame(frame)[1]

    def __getitem__(self, frame: int) -> Sample:
        """A frame with its annotations."""
        if not 0 <= frame < self.length:
            raise IndexError(f"the film has {self.length} frames, there is no index {frame}")
        placed, persons = self._frame(frame)
        image = self._backdrop.copy()
        for identity, figure in placed:
            paint_colours(image, figure, self._walkers[identity].colours)
        image = finish(image, np.random.default_rng(self._grain))
        return Sample(image, persons, np.zeros(image.shape[:2], bool), frame + 1, f"frame_{frame:05d}.png")

    def _frame(self, frame: int) -> tuple[list[tuple[int, Placed]], Persons]:
        """Everybody in the picture from far to near, and those of them who can be seen."""
        placed = [(identity, walker.at(frame)) for identity, walker in enumerate(self._walkers)]
        inside = [(i, p) for i, p in placed if p.box[2] > 0 and p.box[0] < self.size - 1]
        if not inside:
            return inside, Persons.empty(self.skeleton.num_keypoints)
        scene = settle(self.size, [figure for _, figure in inside], [])
        identities = [next(i for i, p in inside if p is figure) for figure in scene.persons]
        seen = (scene.keypoints[:, :, 2] == 2).sum(axis=1) >= 4
        return inside, Persons(
            keypoints=scene.keypoints[seen],
            bbox=scene.boxes[seen],
            area=scene.areas[seen],
            iscrowd=np.zeros(int(seen.sum()), bool),
            ids=np.array(identities, np.int64)[seen],
        )
