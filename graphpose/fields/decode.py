"""Fields → poses.

Candidates (confident PIF cells) gather into peaks; confident PAF cells vote for pairs of peaks; poses grow along the
pairs, the best first; fragments of one person are joined by the data set's pose statistics. Each step is a compiled
function of its own module, :mod:`~graphpose.fields.decoding.grouping` has their order, this one their settings.
Nothing is kept between images.

Convention: lengths are in cells unless said otherwise; poses come out in pixels.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch import Tensor

from graphpose.errors import GraphposeError
from graphpose.fields.completing import PoseCompletion
from graphpose.fields.config import DecoderConfig
from graphpose.fields.decoding.grouping import Grouped, group_fields
from graphpose.fields.decoding.growth import best_poses
from graphpose.fields.decoding.joining import join_fragments
from graphpose.fields.decoding.tables import decoder_tables
from graphpose.fields.pose import Poses
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.graphs.statistics import PoseStatistics, has_shipped_statistics, shipped_statistics


class Decoder:
    """Decodes the fields of one skeleton; thread-safe and without memory of earlier images.

    Args:
        spec: skeleton and stride of the fields.
        config: thresholds.
        statistics: pose statistics of the data set, in units of sqrt(person area), for joining the fragments of a
            person, and for completing poses; without them, or with join_fragments=False, fragments stay apart.

    Raises:
        GraphposeError: join_fragments=True or complete_poses=True without statistics.
    """

    def __init__(
        self, spec: FieldSpec, config: DecoderConfig | None = None, statistics: PoseStatistics | None = None
    ) -> None:
        self.spec = spec
        self.config = config if config is not None else DecoderConfig()
        for name in ("join_fragments", "complete_poses"):
            if getattr(self.config, name) and statistics is None:
                raise GraphposeError(
                    f"{name}=True needs statistics in units of sqrt(person area), and skeleton "
                    f"'{spec.skeleton.name}' has none; train with statistics=train, or set {name}=False"
                )
        self._completion: PoseCompletion | None = None
        if self.config.complete_poses and statistics is not None:
            self._completion = PoseCompletion(statistics, spec.skeleton)
        self.statistics = statistics
        self._tables = decoder_tables(spec.skeleton, self.config, statistics if self.joins else None)

    def __call__(
        self, pif: np.ndarray | Tensor, paf: np.ndarray | Tensor, image_size: tuple[int, int] | None = None
    ) -> Poses:
        """Poses of one image.

        Args:
            pif: (K, 5, h, w), confidences are probabilities.
            paf: (M, 7, h, w), likewise.
            image_size: height and width of the image in pixels; None takes the whole field.

        Returns:
            Poses, best first, at most max_poses, every keypoint inside the image; the same for the same fields,
            whatever was decoded before.

        Raises:
            GraphposeError: when the shapes do not fit the skeleton or each other.
        """
        return self.completed(self.found(pif, paf, image_size), image_size or self._covered(pif.shape))

    @property
    def joins(self) -> bool:
        """Whether fragments of a person are joined."""
        return self.statistics is not None and self.config.join_fragments is not False

    def found(
        self, pif: np.ndarray | Tensor, paf: np.ndarray | Tensor, image_size: tuple[int, int] | None = None
    ) -> Poses:
        """As :meth:`__call__`, without what ``complete_poses`` infers: poses of what the fields show."""
        pif, paf = _array(pif), _array(paf)
        self._check(pif.shape, paf.shape)
        return self._poses(group_fields(pif, paf, self._tables), image_size or self._covered(pif.shape))

    def completed(self, poses: Poses, image_size: tuple[int, int]) -> Poses:
        """Poses of an image of some height and width in pixels, completed where the settings ask for that."""
        return poses if self._completion is None else self._completion(poses, image_size)

    def decode_batch(
        self,
        pif: Tensor,
        paf: Tensor,
        workers: int | None = None,
        image_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[Poses]:
        """Poses of B images at once; see :meth:`__call__`.

        Args:
            pif: (B, K, 5, h, w), confidences are probabilities. What is on a GPU is copied whole; copies that do not
                hold up the host are :func:`graphpose.inference.batches.fields_of_batches`'s.
            paf: (B, M, 7, h, w), likewise.
            workers: threads; None takes one for each core.
            image_sizes: height and width of each image in pixels; None takes the whole fields.

        Returns:
            Poses of each image, in order, the same as of one image at a time.
        """
        if image_sizes is not None and len(image_sizes) != len(pif):
            raise GraphposeError(f"{len(image_sizes)} image sizes for {len(pif)} images: one is needed per image")
        if len(pif) != len(paf):
            raise GraphposeError(f"PIF of {len(pif)} images and PAF of {len(paf)}: one of each is needed per image")
        if len(pif) == 0:
            return []
        self._check(pif.shape[1:], paf.shape[1:])
        pifs, pafs = _array(pif), _array(paf)
        return in_threads(lambda i: self(pifs[i], pafs[i], image_sizes[i] if image_sizes else None), len(pif), workers)

    def _covered(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width in pixels that fields (…, h, w) cover."""
        return shape[-2] * self.spec.stride, shape[-1] * self.spec.stride

    def _check(self, pif: Sequence[int], paf: Sequence[int]) -> None:
        """Refuses shapes of one image's fields that do not fit."""
        skeleton = self.spec.skeleton
        if len(pif) != 4 or tuple(pif[:2]) != (skeleton.num_keypoints, len(PIF)):
            raise GraphposeError(
                f"PIF of shape {tuple(pif)} does not fit the skeleton '{skeleton.name}'; "
                f"({skeleton.num_keypoints}, {len(PIF)}, h, w) is needed"
            )
        needed = (skeleton.num_limbs, len(PAF), *pif[2:])
        if tuple(paf) != needed:
            raise GraphposeError(
                f"PAF of shape {tuple(paf)} does not fit the skeleton '{skeleton.name}' and the PIF; {needed} is needed"
            )

    def _poses(self, grouped: Grouped, image_size: tuple[int, int]) -> Poses:
        """Poses in pixels of one image."""
        poses, scores, disputed = grouped
        if disputed:
            poses, scores = best_poses(join_fragments(poses, self._tables), self._tables.settings)
        stride = self.spec.stride
        height, width = image_size
        places = poses.keypoints[:, :, :2]
        places *= np.float32(stride)
        np.maximum(places, 0, out=places)
        np.minimum(places, np.array([width - 1, height - 1], np.float32), out=places)
        return Poses(poses.keypoints, scores, poses.scales * np.float32(stride), self.spec.skeleton)


def build_decoder(
    spec: FieldSpec, config: DecoderConfig | None = None, statistics: PoseStatistics | None = None
) -> Decoder:
    """The decoder of a skeleton with the pose statistics of its network, where the settings ask for them.

    Args:
        spec: of the network.
        config: None takes the defaults.
        statistics: the network's :attr:`~graphpose.nn.network.PoseNetwork.pose_statistics`; None takes those shipped
            for the skeleton. Where ``join_fragments`` does not say, fragments are joined by the network's own, or by
            shipped ones that were measured in sqrt(person area).

    Raises:
        GraphposeError: no statistics in units of sqrt(person area) where ``join_fragments`` or ``complete_poses`` asks
            for them.
    """
    config = config or DecoderConfig()
    if config.join_fragments is False and not config.complete_poses:
        return Decoder(spec, config)
    if statistics is None and has_shipped_statistics(spec.skeleton):
        shipped = shipped_statistics(spec.skeleton)
        by_default = shipped.scale_rule == "sqrt_area"
        if config.complete_poses and config.join_fragments is None and not by_default:
            config = dataclasses.replace(config, join_fragments=False)
        statistics = shipped if config.join_fragments or config.complete_poses or by_default else None
    return Decoder(spec, config, statistics and statistics.in_sqrt_area())


def _array(field: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(field, Tensor):
        field = field.detach().to("cpu").numpy()
    return np.ascontiguousarray(field, np.float32)


def in_threads(decode: Callable[[int], Poses], count: int, workers: int | None = None) -> list[Poses]:
    """``decode`` of 0 … count − 1 by ``workers`` threads, this one included, None for one per core; compiled functions
    release the GIL."""
    workers = min(count, workers or os.cpu_count() or 1)
    if workers <= 1:
        return [decode(i) for i in range(count)]
    poses: dict[int, Poses] = {}
    images = iter(range(count))

    def work() -> None:
        for i in images:  # each image is taken by one thread
            poses[i] = decode(i)

    with ThreadPoolExecutor(workers - 1) as pool:
        others = [pool.submit(work) for _ in range(workers - 1)]
        work()
    for other in others:
        other.result()
    return [poses[i] for i in range(count)]
