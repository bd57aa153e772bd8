"""The demo's scenes as files, for everything that reads a data set from disk."""

from __future__ import annotations

import json
from pathlib import Path

from graphpose.data.demo.dataset import DemoDataset
from graphpose.errors import GraphposeError
from graphpose.visualize import save_image

ANNOTATIONS, IMAGES = "annotations.json", "images"


def write_demo(folder: Path, dataset: DemoDataset) -> None:
    """Write scenes as PNG files with annotations in COCO's keypoint format; read back, they are equal to the samples.

    Args:
        folder: gets annotations.json and images/; made where it is missing.
        dataset: the scenes.

    Raises:
        GraphposeError: there is a data set in the folder already, or it cannot be written to.
    """
    if (folder / ANNOTATIONS).exists():
        raise GraphposeError(f"'{folder}' has an {ANNOTATIONS} already; choose another folder")
    try:
        for index in range(len(dataset)):
            sample = dataset[index]
            save_image(folder / IMAGES / sample.file_name, sample.image)
        (folder / ANNOTATIONS).write_text(json.dumps(dataset.ground_truth()))  # last: with it the data set is whole
    except OSError as error:
        raise GraphposeError(f"'{folder}' cannot be written to ({error.strerror}); choose another folder") from None
