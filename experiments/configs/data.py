"""Settings of the data sets, their loaders, and the evaluation."""

from __future__ import annotations

import dataclasses
import os
from typing import Literal

from graphpose.data.config import TrainSetConfig
from graphpose.errors import GraphposeError
from graphpose.fields.config import FusionConfig, Merge


@dataclasses.dataclass(frozen=True)
class SkeletonConfig:
    """What a run knows better about the skeleton than its annotation file.

    Attributes:
        flip_pairs: pairs of keypoints that change places in a mirror image, by name or by number from 1, in place of
            those of the file and its names; [] for none, None for the file's.

    Raises:
        GraphposeError: a keypoint is paired with itself, or stands in two pairs.
    """

    flip_pairs: tuple[tuple[str | int, str | int], ...] | None = None

    def __post_init__(self) -> None:
        seen: list[str | int] = []
        for a, b in self.flip_pairs or ():
            if a == b:
                raise GraphposeError(f"skeleton.flip_pairs pairs '{a}' with itself; leave out what stays in its place")
            twice = next((end for end in (a, b) if end in seen), None)
            if twice is not None:
                raise GraphposeError(f"skeleton.flip_pairs has '{twice}' in two pairs; a keypoint has one counterpart")
            seen += [a, b]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What a run trains on, how it is loaded, and how it is evaluated.

    Attributes:
        data: "demo" renders scenes; "coco", "crowdpose" and "mpii" read files and score by their own rules.
        image_size: side of the square training crops, pixels.
        long_edge: evaluation resizes the long edge to it, pixels; None keeps images as they are.
        enlarge: evaluation resizes images with a shorter long edge, too.
        batch_size: images per step of each process.
        evaluation_batch_size: images per step of evaluation.
        workers: loader processes, 0 loads in the process that trains; None takes 2 on a CPU, and on CUDA one for each
            core that is left, at most 16.
        cache: keep the training images in memory.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:<index>".
        demo_train_scenes: training scenes of "demo".
        demo_val_scenes: evaluation scenes of "demo".
        demo_max_persons: most persons in a scene of "demo".
        train_annotations: annotation file of all but "demo", relative to ``data_root``.
        train_images: folder of its images, relative to ``data_root``.
        train_sets: several sets in place of ``train_annotations``, read into the skeleton of ``val_annotations``; of
            each annotations, images, weight and options, see :class:`~graphpose.data.config.TrainSetConfig`.
        annotations: one annotation file in place of ``train_annotations``, relative to ``data_root``; without
            ``val_annotations`` a part of its images is evaluated on and not trained on.
        images: folder of its images, relative to ``data_root``; and of those of ``val_annotations``, unless
            ``val_images`` names another.
        val_share: share of the images of ``annotations`` that are evaluated on; which ones follows from their names,
            and copies of one picture or frames of one video stay together.
        epoch_images: images of an epoch of ``train_sets``; 0 for the sum of weight times images.
        feature_passes: with ``given_features``, how often the trunk looks at what an epoch on images would take. Epoch
            after epoch takes one pass after the other and begins anew.
        features: with ``given_features``, folder that the features are kept in, for all runs that can use them.
        val_annotations: annotation file for evaluation, relative to ``data_root``.
        val_images: folder of its images, relative to ``data_root``.
        category: name or id of the keypoint category, for annotation files with several.
        data_root: folder of the data sets; GRAPHPOSE_DATA of the environment unless it is set.
        image_ids: train and evaluate on these images of the training set only; empty for all.
        max_detections: poses per image that count in the metric.
        evaluator: "pycocotools" or "fast" (faster-coco-eval).
        test_flip: fuse the fields of the mirror image before decoding.
        test_scales: look at these sizes, relative to ``long_edge``.
        test_merge: how they come together: "fields" or "poses", see :class:`~graphpose.fields.config.FusionConfig`.
        contact_sheet_images: evaluation images whose poses are drawn at the end.

    Raises:
        GraphposeError: a number that is too small, or test scales that cannot be fused.
    """

    data: Literal["demo", "coco", "crowdpose", "mpii"] = "demo"
    image_size: int = 401
    long_edge: int | None = 641
    enlarge: bool = True
    batch_size: int = 8
    evaluation_batch_size: int = 1
    workers: int | None = None
    cache: bool = False
    device: str = "auto"
    demo_train_scenes: int = 12000
    demo_val_scenes: int = 200
    demo_max_persons: int = 6
    train_annotations: str = ""
    train_images: str = ""
    annotations: str = ""
    images: str = ""
    val_share: float = 0.2
    train_sets: tuple[TrainSetConfig, ...] = ()
    epoch_images: int = 0
    feature_passes: int = 4
    features: str = "runs/features"
    val_annotations: str = ""
    val_images: str = ""
    category: str | int | None = None
    data_root: str = dataclasses.field(default_factory=lambda: os.environ.get("GRAPHPOSE_DATA", ""))
    image_ids: tuple[int, ...] = ()
    max_detections: int = 20
    evaluator: Literal["pycocotools", "fast"] = "pycocotools"
    test_flip: bool = False
    test_scales: tuple[float, ...] | float = (1.0,)
    test_merge: Merge = "fields"
    contact_sheet_images: int = 12

    def __post_init__(self) -> None:
        counts = ("image_size", "batch_size", "evaluation_batch_size", "demo_train_scenes", "demo_val_scenes")
        for key in (*counts, "feature_passes"):
            if getattr(self, key) < 1:
                raise GraphposeError(f"{key}={getattr(self, key)} must be a positive whole number")
        for key in ("workers", "contact_sheet_images", "epoch_images"):
            if (getattr(self, key) or 0) < 0:
                raise GraphposeError(f"{key}={getattr(self, key)} must not be negative")
        if not 0 < self.val_share < 1:
            raise GraphposeError(f"val_share={self.val_share} must lie between 0 and 1")
        if self.annotations or self.images:
            self._check_one_file()
        if self.train_sets:
            self._check_train_sets()
        elif self.epoch_images:
            raise GraphposeError(f"epoch_images={self.epoch_images} without train_sets; one set is seen once an epoch")
        _ = self.fusion  # refuses scales that cannot be fused

    def _check_one_file(self) -> None:
        if self.data == "demo":
            raise GraphposeError("annotations with data=demo; rendered scenes are no file, use run.py with own")
        for key in ("train_annotations", "train_images", "train_sets", "image_ids"):
            if getattr(self, key):
                raise GraphposeError(f"annotations and {key}; give one of both")
        for key, other in (("annotations", "images"), ("images", "annotations")):
            if not getattr(self, key):
                raise GraphposeError(f"{other}={getattr(self, other)} without {key}; both are needed")

    @property
    def divided(self) -> bool:
        """Whether training and evaluation set are parts of one file."""
        return bool(self.annotations) and not self.val_annotations

    def _check_train_sets(self) -> None:
        if self.data == "demo":
            raise GraphposeError("train_sets with data=demo; rendered scenes are no set of files, name data=coco")
        for key in ("train_annotations", "train_images", "image_ids"):
            if getattr(self, key):
                raise GraphposeError(f"train_sets and {key}={getattr(self, key)}; give one of both")
        names = [one.name for one in self.train_sets]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise GraphposeError(f"train_sets: two sets have the name '{twice}'; give each its own `name`")

    @property
    def fusion(self) -> FusionConfig:
        """The views that evaluation looks at."""
        scales = self.test_scales if isinstance(self.test_scales, tuple) else (self.test_scales,)
        return FusionConfig(self.test_flip, scales, self.test_merge)

    @property
    def protocol(self) -> Literal["coco", "crowdpose", "mpii"]:
        """Whose rules the poses are scored by; rendered scenes go by COCO's."""
        return "coco" if self.data == "demo" else self.data
