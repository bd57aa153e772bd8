"""A sheet of a data set's own annotations, to be looked at before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphpose.data.coco import CocoDataset
from graphpose.errors import GraphposeError
from graphpose.visualize import contact_sheet, draw_poses, save_image

TILE = 320  # pixels


def write_sheet(path: Path, dataset: CocoDataset, count: int = 11, seed: int = 0) -> int:
    """Draw random annotated images, and a mirror image as training makes it, whose colours show the flip pairs.

    Args:
        path: the .png or .jpg.
        dataset: annotations and their images; those that cannot be read are passed over.
        count: images at most, besides the mirror image.
        seed: of the choice.

    Returns:
        How many images were drawn.

    Raises:
        GraphposeError: no annotated image can be read.
    """
    table, skeleton = dataset.annotations, dataset.skeleton
    annotated = np.unique(table.image_index[table.labelled])
    tiles: list[np.ndarray] = []
    titles: list[str] = []
    mirrored: np.ndarray | None = None
    for index in np.random.default_rng(seed).permutation(annotated).tolist():
        if len(tiles) == count:
            break
        try:
            image = dataset[index].image
        except GraphposeError:
            continue
        persons = table.rows(index)
        keypoints = table.keypoints[persons][table.labelled[persons]]
        zoom = max(1.0, TILE / max(image.shape[:2]))  # small images get legible skeletons
        tiles.append(draw_poses(image, keypoints, skeleton, zoom=zoom))
        titles.append(f"{table.images.ids[index]}: {table.images.file_names[index]}")
        if mirrored is None:
            flipped = keypoints[:, list(skeleton.flip)]
            flipped[:, :, 0] = np.where(flipped[:, :, 2] > 0, image.shape[1] - 1 - flipped[:, :, 0], 0)
            mirrored = draw_poses(np.ascontiguousarray(image[:, ::-1]), flipped, skeleton, zoom=zoom)
    if mirrored is None:
        raise GraphposeError(f"{table.path}: no annotated image can be read from {dataset.images}; nothing is drawn")
    pairs = sum(k < other for k, other in enumerate(skeleton.flip))
    title = f"mirror image of the first, {pairs} flip pairs" if skeleton.mirrors else "mirrored: no flip pairs known"
    save_image(path, contact_sheet([*tiles, mirrored], 4, [*titles, title], tile=TILE))
    return len(tiles)
