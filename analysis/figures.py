"""A sheet of results like the paper's Figure 4: images with the poses that one or several checkpoints find in them.

    python analysis/figures.py IMAGES… --checkpoint runs/1/checkpoint.pt --out figure4.png
    python analysis/figures.py IMAGES… --checkpoint none.pt dynamic.pt --out compare.png   # a column for each
    python analysis/figures.py --demo 12 --checkpoint runs/1/checkpoint.pt --out demo.png

prints the number of poses drawn in each image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from graphpose.data.demo.dataset import DemoDataset
from graphpose.errors import GraphposeError, escape_output
from graphpose.inference.predict import Predictor
from graphpose.inference.sources import ImageFile, find_sources
from graphpose.visualize import contact_sheet, draw_poses, save_image

DEMO_SEED = 2**31  # of the scenes that demo runs are evaluated on


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="figures.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="*", type=Path, help="image files or folders")
    parser.add_argument("--demo", type=int, default=0, metavar="N", help="draw the first N held-out demo scenes")
    parser.add_argument("--demo-size", type=int, default=160, help="pixels of a demo scene (default: 160)")
    parser.add_argument("--checkpoint", nargs="+", type=Path, required=True, help="one column of pictures for each")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    parser.add_argument(
        "--long-edge", type=int, help="pixels of the long edge, 0 for as is (default: the checkpoint's)"
    )
    parser.add_argument("--min-score", type=float, default=0.1, help="weaker poses are not drawn (default: 0.1)")
    parser.add_argument("--columns", type=int, default=4, help="images side by side, one checkpoint (default: 4)")
    parser.add_argument("--tile", type=int, default=320, help="pixels of a picture's longer side (default: 320)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    return parser


def pictures(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    """Name and (H, W, 3) uint8 RGB pixels of every image asked for."""
    for item in find_sources(options.images).items if options.images else ():
        if not isinstance(item, ImageFile):
            raise GraphposeError(f"'{item.name}' is a video; a sheet is made of images")
        yield item.name, item.read()
    for sample in (DemoDataset(options.demo, seed=DEMO_SEED, size=options.demo_size)[i] for i in range(options.demo)):
        yield f"demo scene {sample.image_id}", sample.image


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw one sheet; returns the exit status."""
    escape_output()
    options = build_parser().parse_args(arguments)
    try:
        if not options.images and not options.demo:
            raise GraphposeError("there is nothing to draw: name images or folders, or give --demo N")
        predictors = [
            Predictor.from_checkpoint(path, device=options.device, long_edge=options.long_edge)
            for path in options.checkpoint
        ]
        several = len(predictors) > 1
        tiles, titles = [], []
        for name, image in pictures(options):
            for predictor, checkpoint in zip(predictors, options.checkpoint, strict=True):
                poses = predictor(image)
                shown = poses.keypoints[poses.scores >= options.min_score]
                zoom = max(1.0, options.tile / max(image.shape[:2]))  # small images get legible skeletons
                tiles.append(draw_poses(image, shown, predictor.network.spec.skeleton, zoom=zoom))
                titles.append(f"{checkpoint.parent.name}/{checkpoint.stem}")
                print(f"{name}: {len(shown)} poses ({checkpoint})")
        columns = len(predictors) if several else options.columns
        save_image(options.out, contact_sheet(tiles, columns, titles if several else None, tile=options.tile))
    except GraphposeError as error:
        print(f"figures.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
