"""Made films for tests."""

from pathlib import Path

import cv2
import numpy as np


def number_image(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W, 3) uint8 RGB whose grey says which one it is."""
    image = np.full((height, width, 3), 20 + 10 * (number % 20), np.uint8)
    image[: height // 2, : width // 2, 0] = 250  # red at the upper left
    return image


def write_film(path: Path, frames, rate: float = 12.0) -> Path:
    """A video file of (H, W, 3) uint8 RGB frames."""
    frames = list(frames)
    height, width = frames[0].shape[:2]
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path
