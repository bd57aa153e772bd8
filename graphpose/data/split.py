"""Dividing one annotation file into images to train on and images to evaluate on."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping

import numpy as np

from graphpose.data.annotations.table import Annotations, Images
from graphpose.errors import GraphposeError


def split_images(annotations: Annotations, share: float = 0.2) -> tuple[list[int], list[int]]:
    """Ids of the images to train on and of those to evaluate on.

    Which image is which follows from its name alone: it does not depend on a seed, on the order of the file or on the
    other images, but for those near the border. Images that belong together are on the same side (:func:`groups_of`).
    Images with and without labelled persons are divided apart, so that both sides have persons.

    Args:
        annotations: of the file.
        share: of the images that are evaluated on, above 0 and below 1.

    Returns:
        Two lists in the file's order that share no id and no group; each has an image with a labelled person.

    Raises:
        GraphposeError: a share outside of its range, or fewer than two groups with labelled persons.
    """
    if not 0 < share < 1:
        raise GraphposeError(f"the share {share} of images to evaluate on must lie between 0 and 1")
    images = annotations.images
    groups = groups_of(images)
    with_persons = {groups[index] for index in np.unique(annotations.image_index[annotations.labelled]).tolist()}
    if len(with_persons) < 2:
        raise GraphposeError(
            f"{annotations.path} cannot be divided: {_how_few(annotations, len(with_persons))}, and what is trained on "
            "must not be scored. Name a second file for evaluation, or annotate more"
        )
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    held_out = _first_by_hash({group: members[group] for group in with_persons}, share, least=1)
    held_out |= _first_by_hash({group: members[group] for group in members.keys() - with_persons}, share, least=0)
    ids = images.ids.tolist()
    val = {ids[index] for group in held_out for index in members[group]}
    return [one for one in ids if one not in val], [one for one in ids if one in val]


def groups_of(images: Images) -> list[Hashable]:
    """For each image what it belongs to: images of one video, and copies of one picture, have the same.

    Copies are records of one file name, and what Roboflow's export makes of a picture by augmentation
    (``street_jpg.rf.2f1a….jpg``). An image of which nothing is known belongs to itself.
    """
    names = images.groups or [""] * len(images)
    found: list[Hashable] = []
    for image_id, file_name, group in zip(images.ids.tolist(), images.file_names, names, strict=True):
        found.append(group or re.sub(r"\.rf\.[0-9A-Za-z]{8,}(?=\.)", "", file_name) or image_id)
    return found


def _first_by_hash(groups: Mapping[Hashable, list[int]], share: float, least: int) -> set[Hashable]:
    """The groups with the lowest hashes that hold ``share`` of the images, at least ``least`` of them and never all."""
    wanted = share * sum(map(len, groups.values()))
    chosen: set[Hashable] = set()
    count = 0.0
    for group in sorted(groups, key=lambda group: (hashlib.sha256(str(group).encode()).digest(), str(group))):
        nearer = abs(count + len(groups[group]) - wanted) < abs(count - wanted)
        if len(chosen) + 1 >= len(groups) or not (nearer or len(chosen) < least):
            break
        chosen.add(group)
        count += len(groups[group])
    return chosen


def _how_few(annotations: Annotations, groups: int) -> str:
    images = len(np.unique(annotations.image_index[annotations.labelled]))
    if images < 2:
        return f"{'one image has' if images else 'no image has'} labelled persons"
    assert groups == 1
    return f"its {images} images with labelled persons are all of one video or copies of one picture"
