"""Reading image files: RGB, 8 bits, and never half a picture."""

from __future__ import annotations

import io
import re
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from graphpose.errors import GraphposeError

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".bmp", ".dib", ".webp", ".avif", ".tif", ".tiff", ".pbm", ".pgm",
    ".ppm", ".pnm",
)  # fmt: skip

EXIF_ORIENTATION = 0x0112
# Orientations of EXIF 2.32, table 5, as what a viewer does to the stored pixels.
TURNS = {
    2: "mirrored",
    3: "turned by 180°",
    4: "mirrored and turned by 180°",
    5: "mirrored and turned by 90° to the left",
    6: "turned by 90° to the right",
    7: "mirrored and turned by 90° to the right",
    8: "turned by 90° to the left",
}


def read_image(path: Path, *, upright: bool = False, recorded: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image file.

    OpenCV and Pillow fill what is missing of a JPEG with grey and say nothing where an end-of-image marker stands at
    its end; libjpeg's warnings are the only sign, so JPEGs are read by a library that hands them on. Of other files one
    that does not close as its format does is decoded a second time by Pillow, which refuses it.

    Args:
        path: any format that OpenCV reads.
        upright: turn the picture as its EXIF orientation says.
        recorded: of an annotated image, height and width that its record states (0 where it does not). The picture
            whose coordinates these are is read: upright, as annotation tools and viewers show it, except where the
            size says that the annotations belong to the stored pixels.

    Returns:
        (H, W, 3) uint8 RGB, complete; of a file of 16 bits a channel the upper 8 of the bits that it uses.

    Raises:
        GraphposeError: naming the file, when it is missing, empty, truncated or no image.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise GraphposeError(f"image {path} does not exist; check the images folder and the file's name") from None
    except OSError as error:
        raise GraphposeError(f"image {path} cannot be read: {error.strerror}") from None
    return decode_image(data, path, upright=upright, recorded=recorded)


def decode_image(
    data: bytes, name: Path | str, *, upright: bool = False, recorded: tuple[int, int] | None = None
) -> np.ndarray:
    """The picture in the content of an image file; ``name`` is what errors call it, all else as :func:`read_image`."""
    image = _decode_jpeg(name, data) if data.startswith(b"\xff\xd8") else None
    if image is None:
        image = _decode_other(name, data)
    orientation = _orientation(data) if upright or recorded is not None else 1
    if recorded is not None and recorded == image.shape[:2] and size_decides(orientation, recorded):
        return image
    return _turned(image, orientation)


# Bytes that may be left between two markers: some cameras pad their scans.
PADDING = 8


def _decode_jpeg(name: Path | str, data: bytes) -> np.ndarray | None:
    """(H, W, 3) RGB of a JPEG; None for what libjpeg-turbo does not decode, as CMYK and what is no JPEG after all.

    Raises:
        GraphposeError: naming the file, where libjpeg warns of data that is missing or damaged.
    """
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        message = str(error)
    extraneous = re.search(r"(\d+) extraneous bytes", message)
    if extraneous and int(extraneous[1]) <= PADDING:
        return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=False)
    if "Corrupt JPEG data" in message or "Premature end" in message:
        kind = "is truncated" if "remature end" in message else "is damaged"
        raise GraphposeError(f"image {name} {kind} ({len(data)} bytes): {message}")
    return None


def _decode_other(name: Path | str, data: bytes) -> np.ndarray:
    if not _is_closed(data):
        _check_complete(name, data)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # more pixels than OpenCV accepts, or no data at all
        image = None
    if image is None:
        raise GraphposeError(f"image {name} is not an image file that can be decoded; JPEG or PNG would be right")
    if image.dtype == np.uint16:
        image = _to_8_bits(image)
    if image.dtype != np.uint8:
        raise GraphposeError(f"image {name} has pixels of type {image.dtype}; 8 or 16 bits a channel would be right")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _to_8_bits(image: np.ndarray) -> np.ndarray:
    """The upper 8 of the bits that are used (8, 10, 12, 14 or 16, as cameras have them): 12-bit values in 16 bits would
    be all but black."""
    bits = max(8, -(-int(image.max()).bit_length() // 2) * 2)
    return (image >> (bits - 8)).astype(np.uint8)


def exif_orientation(path: Path) -> int:
    """The EXIF orientation of a file that can be read: 1 as it is, also where there is none; of TURNS otherwise."""
    return _orientation(path.read_bytes())


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file as viewers show it, of its head alone; GraphposeError names what is none."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
            if image.format != "TIFF":
                return (width, height) if turned else (height, width)
    except FileNotFoundError:
        raise GraphposeError(f"image {path} does not exist; check the images folder and the file's name") from None
    except Exception:  # Pillow raises many types, and knows fewer formats than OpenCV
        pass
    height, width = read_image(path, upright=True).shape[:2]
    return height, width


def size_decides(orientation: int, recorded: tuple[int, int]) -> bool:
    """Whether an image's recorded height and width say if its annotations belong to the stored or the turned pixels."""
    return orientation == 1 or (orientation >= 5 and 0 not in recorded and recorded[0] != recorded[1])


def _orientation(data: bytes) -> int:
    """What is still to be done to decoded pixels: TIFF's are turned by every decoder."""
    if data[:2] in (b"II", b"MM") or not (b"Exif" in data[:65536] or b"eXIf" in data or b"EXIF" in data):
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # Pillow raises many types on damaged tags, which are no reason to lose the picture
        return 1
    return orientation if orientation in TURNS else 1


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _is_closed(data: bytes) -> bool:
    """Whether the file ends as a complete PNG does (zeros after the end are common and harmless)."""
    return data.startswith(b"\x89PNG") and data[-1024:].rstrip(b"\0").endswith(b"IEND\xaeB`\x82")


def _check_complete(name: Path | str, data: bytes) -> None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except UnidentifiedImageError:
        raise GraphposeError(
            f"image {name} is not an image file that can be decoded; JPEG or PNG would be right"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        kind = "is truncated" if data[:2] == b"\xff\xd8" and "truncated" in str(error) else "cannot be decoded"
        reason = re.sub(r" ?<[^<>]* at 0x[0-9a-f]+>", "", str(error))  # the name of a buffer in memory is nobody's
        raise GraphposeError(f"image {name} {kind} ({len(data)} bytes): {reason}") from None
