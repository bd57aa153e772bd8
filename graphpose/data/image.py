"""Reading image files: RGB, 8 bits, and never half a picture."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from graphpose.errors import GraphposeError


def read_image(path: Path, *, upright: bool = False) -> np.ndarray:
    """Read an image file.

    OpenCV fills the missing part of a truncated JPEG with grey and says nothing, so a file that does not close with
    its end-of-image marker is decoded a second time by Pillow, which refuses it.

    Args:
        path: any format that OpenCV reads.
        upright: turn the picture as its EXIF orientation says. False for annotated sets: their coordinates belong to
            the stored pixels.

    Returns:
        (H, W, 3) uint8 RGB, complete.

    Raises:
        GraphposeError: naming the file, when it is missing, empty, truncated or no image.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise GraphposeError(f"image {path} does not exist; check the images folder and the file's name") from None
    except OSError as error:
        raise GraphposeError(f"image {path} cannot be read: {error.strerror}") from None
    if not _is_closed(data):
        _check_complete(path, data)
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # more pixels than OpenCV accepts, or no data at all
        image = None
    if image is None:
        raise GraphposeError(f"image {path} is not an image file that can be decoded; JPEG or PNG would be right")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _is_closed(data: bytes) -> bool:
    """Whether the file ends as a complete JPEG or PNG does (zeros after the end are common and harmless)."""
    tail = data[-1024:].rstrip(b"\0")
    return (data.startswith(b"\xff\xd8") and tail.endswith(b"\xff\xd9")) or (
        data.startswith(b"\x89PNG") and tail.endswith(b"IEND\xaeB`\x82")
    )


def _check_complete(path: Path, data: bytes) -> None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        kind = "is truncated" if data[:2] == b"\xff\xd8" and "truncated" in str(error) else "cannot be decoded"
        raise GraphposeError(f"image {path} {kind} ({len(data)} bytes): {error}") from None
