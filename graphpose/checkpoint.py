"""Checkpoints: the weights and everything that is needed to build them again and to train on.

A checkpoint is one file written by ``torch.save`` and read with ``weights_only=True``: it holds tensors and plain
values, never code. It is written atomically, so that a file under its final name is always whole.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from graphpose.errors import GraphposeError
from graphpose.nn.network import PoseNetwork, PoseNetworkConfig
from graphpose.skeleton import Skeleton

FORMAT = 1


def save_checkpoint(
    path: Path,
    network: nn.Module,
    config: PoseNetworkConfig,
    *,
    ema: nn.Module | None = None,
    decoder: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint atomically: temporary file beside it, fsync, rename.

    Args:
        path: the file; its folder is made where it is missing.
        network: a :class:`PoseNetwork`.
        config: the configuration that built it, with its skeleton.
        ema: the averaged network, which evaluation and prediction prefer.
        decoder: settings that the poses are decoded with, see :func:`graphpose.evaluate.build_decoder`.
        training: plain values and tensors to train on from: epoch, optimiser, scheduler, random states, settings.
    """
    content = {
        "format": FORMAT,
        "config": config.to_dict(),
        "network": network.state_dict(),
        "ema": None if ema is None else ema.state_dict(),
        "decoder": dict(decoder or {}),
        "training": dict(training or {}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise GraphposeError(f"checkpoint '{path}' could not be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Content of a checkpoint with its tensors on ``device``.

    Raises:
        GraphposeError: the file is missing, truncated, damaged, or no graphpose checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise GraphposeError(f"checkpoint '{path}' does not exist")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    # torch.load raises whatever its zip reader and unpickler meet in a damaged file
    except Exception as error:
        raise GraphposeError(
            f"checkpoint '{path}' cannot be read ({type(error).__name__}); it is damaged or no checkpoint at all"
        ) from error
    keys = {"format", "config", "network", "ema", "decoder", "training"}
    if not isinstance(content, dict) or not keys <= content.keys():
        raise GraphposeError(f"'{path}' is not a graphpose checkpoint: it lacks format, config and network")
    if content["format"] != FORMAT:
        raise GraphposeError(f"checkpoint '{path}' has format {content['format']}; this version reads format {FORMAT}")
    return content


def require_skeleton(content: Mapping[str, Any], skeleton: Skeleton, path: Path) -> None:
    """Refuse a checkpoint whose skeleton is not ``skeleton``.

    Raises:
        GraphposeError: naming both skeletons.
    """
    theirs = Skeleton.from_dict(content["config"]["skeleton"])
    if theirs.keypoints != skeleton.keypoints or theirs.limbs != skeleton.limbs:
        raise GraphposeError(
            f"checkpoint '{path}' was trained on skeleton '{theirs.name}' ({theirs.num_keypoints} keypoints, "
            f"{theirs.num_limbs} limbs), but the data has skeleton '{skeleton.name}' ({skeleton.num_keypoints} "
            f"keypoints, {skeleton.num_limbs} limbs); use data and checkpoint of one skeleton"
        )


def load_network(
    path: Path, device: torch.device | str = "cpu", *, ema: bool = True, skeleton: Skeleton | None = None
) -> PoseNetwork:
    """The network of a checkpoint, in evaluation mode.

    Args:
        path: the checkpoint.
        device: where the network goes.
        ema: take the averaged weights where the checkpoint has them.
        skeleton: refuse a checkpoint of another skeleton.

    Raises:
        GraphposeError: see :func:`load_checkpoint` and :func:`require_skeleton`; or the weights do not fit.
    """
    content = load_checkpoint(path)
    if skeleton is not None:
        require_skeleton(content, skeleton, path)
    weights = content["ema"] if ema and content["ema"] is not None else content["network"]
    try:
        network = PoseNetwork.from_state(PoseNetworkConfig.from_dict(content["config"]), weights)
    except RuntimeError as error:
        raise GraphposeError(f"checkpoint '{path}': its weights do not fit its own configuration: {error}") from error
    return network.to(device).eval()


def random_states() -> dict[str, Any]:
    """States of Python's, numpy's and torch's global generators, as values that ``weights_only=True`` reads."""
    version, state, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]  # noqa: NPY002
    return {
        "python": [version, list(state), gauss],
        "numpy": [str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Inverse of :func:`random_states`."""
    version, state, gauss = states["python"]
    random.setstate((version, tuple(state), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
