"""Checkpoints: the weights and everything that is needed to build them again and to train on.

A checkpoint is one file written by ``torch.save`` and read with ``weights_only=True``: it holds tensors and plain
values, never code. It is written atomically, so that a file under its final name is always whole, and ends in a trailer
with its length and SHA-256, so that a file that a disk or a copy has damaged is never trained on. The trailer stands
behind the archive that ``torch.load`` reads, which does not mind it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from graphpose.checksum import sha256
from graphpose.device import resolve_device
from graphpose.errors import GraphposeError
from graphpose.fields.config import UsageConfig
from graphpose.graphs.statistics import PoseStatistics
from graphpose.nn.config import SHIPPED, SHIPPED_NAME, PoseNetworkConfig
from graphpose.nn.network import GRAPH_MODULES, PoseNetwork
from graphpose.packed import SUFFIX, is_packed, unpack
from graphpose.skeleton import Skeleton

logger = logging.getLogger(__name__)

FORMAT = 2
# Settings that a network with graphs has beside those of its baseline; its trunk and heads are the baseline's.
GRAPH_SETTINGS = (
    "adjacency", "gamma", "node_width", "graph_layers", "graph_layer", "absent_edges", "graph_pool", "per_sample",
    "evaluation_graph", "non_local", "statistics", "sample", "modes",
)  # fmt: skip
TRAILER = struct.Struct("<8sQ32s")  # magic, length of what is before it, SHA-256 of that
MAGIC = b"graphpos"
RUN_CHECKPOINT = "checkpoint.pt"  # in the folder of a run


def save_checkpoint(
    path: Path,
    network: PoseNetwork,
    config: PoseNetworkConfig,
    *,
    ema: nn.Module | None = None,
    decoder: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    card: Mapping[str, str] | None = None,
    keep_previous: bool = False,
) -> None:
    """Write a checkpoint atomically: temporary file beside it, fsync, rename.

    Args:
        path: the file; its folder is made where it is missing.
        network: its weights, and the pose statistics and kinds of poses that travel with it.
        config: the configuration that built it, with its skeleton.
        ema: the averaged network, which evaluation and prediction prefer.
        decoder: settings that the poses are decoded with, of :class:`graphpose.fields.config.DecoderConfig`.
        training: plain values and tensors to train on from, see :meth:`graphpose.training.trainer.Trainer.state_dict`.
        card: where weights that were trained elsewhere come from: origin, licence, citation.
        keep_previous: what ``path`` held is kept as :func:`previous_path`.

    Raises:
        GraphposeError: the file could not be written; ``path`` then holds what it held before.
    """
    content = {
        "format": FORMAT,
        "config": config.to_dict(),
        "network": network.state_dict(),
        "ema": None if ema is None else ema.state_dict(),
        "decoder": dict(decoder or {}),
        "training": dict(training or {}),
    }
    if network.pose_statistics is not None:
        content["statistics"] = network.pose_statistics.to_dict()
    if network.graph_source is not None:
        content["graph"] = dict(network.graph_source)
    if network.mode_statistics:
        content["modes"] = [kind.to_dict() for kind in network.mode_statistics]
    if card is not None:
        content["card"] = dict(card)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w+b") as file:
            _write(content, file)
        if keep_previous and path.exists():
            os.replace(path, previous_path(path))
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        raise GraphposeError(f"checkpoint '{path}' could not be written: {_reason(error)}") from error
    finally:
        if temporary.exists():
            temporary.unlink()


def _reason(error: BaseException) -> str:
    """What went wrong with a file; torch's archive writer hides an OSError behind a RuntimeError of its own."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError):
            return inner.strerror or str(inner)
        inner = inner.__context__
    return str(error).splitlines()[0]


def _write(content: Mapping[str, Any], file: BinaryIO) -> None:
    """Archive and trailer, on the disk when this returns."""
    torch.save(content, file)
    file.flush()
    file.seek(0)
    digest = sha256(file)
    length = file.seek(0, os.SEEK_END)
    file.write(TRAILER.pack(MAGIC, length, digest))
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power failure, where the system can open folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def previous_path(path: Path) -> Path:
    """Where the checkpoint before the last is kept: ``checkpoint.previous.pt`` beside ``checkpoint.pt``."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_checkpoint(path: Path | str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Content of a checkpoint with its tensors on ``device``; verified before anything of it is used.

    A packed network (.safetensors) is read, too, and so is the folder of a run, which has a ``checkpoint.pt``. Where
    the file is damaged or missing and the one before it was kept, a warning names both and that one is read.

    Raises:
        GraphposeError: the file is missing, truncated, damaged, or no graphpose checkpoint, and no previous one helps.
    """
    path = find_checkpoint_file(path)
    if path.suffix == SUFFIX:
        return unpack(path, device)
    try:
        return _read(path, device)
    except GraphposeError as error:
        previous = previous_path(path)
        if not previous.is_file():
            raise
        try:
            content = _read(previous, device)
        except GraphposeError as second:
            raise GraphposeError(f"{error}; and the one before it: {second}") from error
        logger.warning("%s; using the one before it, '%s'", error, previous)
        return content


def find_checkpoint_file(path: Path | str) -> Path:
    """The file that a path names: itself, or of the folder of a run its checkpoint.pt."""
    path = Path(path)
    return path / RUN_CHECKPOINT if path.is_dir() else path


def named_network(name: str) -> Path | None:
    """The checkpoint or packed network that a setting names: "shipped", a file, or the folder of a run; None where it
    names something else, as a file of a backbone's weights, or nothing is shipped."""
    path = SHIPPED if name == SHIPPED_NAME else find_checkpoint_file(name)
    return path if is_checkpoint(path) or is_packed(path) else None


def usage_of(content: Mapping[str, Any]) -> UsageConfig:
    """How the network of a checkpoint wants images: as it says, as its run evaluated it, or the defaults."""
    if "usage" in content:
        return UsageConfig.from_dict(content["usage"])
    return UsageConfig.from_run(content["training"].get("configuration", {}))


def weights_of(content: Mapping[str, Any], *, ema: bool = True) -> Mapping[str, Tensor]:
    """The weights of a checkpoint; of both the averaged ones, where it has them and they are asked for."""
    return content["ema"] if ema and content["ema"] is not None else content["network"]


def statistics_of(content: Mapping[str, Any]) -> PoseStatistics | None:
    """Pose statistics that travel with the network of a checkpoint; None where those shipped are meant."""
    return PoseStatistics.from_dict(content["statistics"]) if content.get("statistics") else None


def modes_of(content: Mapping[str, Any]) -> tuple[PoseStatistics, ...]:
    """Kinds of poses that travel with the network of a checkpoint; none unless it weighs several."""
    return tuple(PoseStatistics.from_dict(kind) for kind in content.get("modes") or ())


def _read(path: Path, device: torch.device | str) -> dict[str, Any]:
    """Content of exactly this file."""
    if not path.is_file():
        raise GraphposeError(f"checkpoint '{path}' does not exist")
    try:
        with open(path, "rb") as file:
            problem = _problem(file)
    except OSError as error:
        raise GraphposeError(f"checkpoint '{path}' cannot be read: {error.strerror or error}") from error
    if problem:
        raise GraphposeError(f"checkpoint '{path}' cannot be read: {problem}; it is damaged or no graphpose checkpoint")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    # torch.load raises whatever its zip reader and unpickler meet in another's file
    except Exception as error:
        raise GraphposeError(f"checkpoint '{path}' cannot be read ({type(error).__name__}: {error})") from error
    keys = {"format", "config", "network", "ema", "decoder", "training"}
    if not isinstance(content, dict) or not keys <= content.keys():
        raise GraphposeError(f"'{path}' is not a graphpose checkpoint: it lacks format, config and network")
    if content["format"] != FORMAT:
        raise GraphposeError(f"checkpoint '{path}' has format {content['format']}; this version reads format {FORMAT}")
    return content


def _problem(file: BinaryIO) -> str | None:
    """What is wrong with the length or the checksum of a file; None when nothing is."""
    size = file.seek(0, os.SEEK_END)
    if size < TRAILER.size:
        return f"it has {size} bytes only"
    file.seek(size - TRAILER.size)
    magic, length, digest = TRAILER.unpack(file.read(TRAILER.size))
    if magic != MAGIC:
        return "it does not end in length and checksum"
    if length != size - TRAILER.size:
        return f"it should have {length + TRAILER.size} bytes and has {size}"
    file.seek(0)
    return None if sha256(file, length) == digest else "its checksum is wrong"


def is_checkpoint(path: Path) -> bool:
    """Whether a file ends as a checkpoint does; it may be damaged all the same."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TRAILER.size, 0))
            return size >= TRAILER.size and file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def require_skeleton(content: Mapping[str, Any], skeleton: Skeleton, path: Path | str) -> None:
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
    path: Path | str, device: torch.device | str = "cpu", *, ema: bool = True, skeleton: Skeleton | None = None
) -> PoseNetwork:
    """The network of a checkpoint, in evaluation mode.

    Args:
        path: the checkpoint.
        device: where the network goes, see :func:`~graphpose.device.resolve_device`.
        ema: take the averaged weights where the checkpoint has them.
        skeleton: refuse a checkpoint of another skeleton.

    Raises:
        GraphposeError: see :func:`load_checkpoint` and :func:`require_skeleton`; or the weights do not fit.
    """
    return network_from_checkpoint(load_checkpoint(path), path, device, ema=ema, skeleton=skeleton)


def network_from_checkpoint(
    content: Mapping[str, Any],
    path: Path | str,
    device: torch.device | str = "cpu",
    *,
    ema: bool = True,
    skeleton: Skeleton | None = None,
) -> PoseNetwork:
    """As :func:`load_network`, from the content of a checkpoint that was read already; ``path`` is for messages."""
    if skeleton is not None:
        require_skeleton(content, skeleton, path)
    weights = weights_of(content, ema=ema)
    try:
        config = PoseNetworkConfig.from_dict(content["config"])
        network = PoseNetwork.from_state(
            config, weights, statistics_of(content), content.get("graph"), modes_of(content)
        )
    except RuntimeError as error:
        raise GraphposeError(f"checkpoint '{path}': its weights do not fit its own configuration: {error}") from error
    return network.to(resolve_device(device)).eval()


def network_from_baseline(
    path: Path,
    *,
    ema: bool = True,
    skeleton: Skeleton | None = None,
    pose_statistics: PoseStatistics | None = None,
    mode_statistics: Sequence[PoseStatistics] = (),
    **settings: Any,
) -> PoseNetwork:
    """A DGCN whose trunk and heads are those of a baseline, with fresh DGCMs.

    A DGCM adds nothing before it is trained (its last convolution begins at zero), so the fields are the baseline's.

    Args:
        path: checkpoint of a network with ``adjacency="none"``.
        ema: take the averaged weights where the checkpoint has them.
        skeleton: refuse a checkpoint of another skeleton.
        pose_statistics: of what the network is trained on; None takes the baseline's, if it has any.
        mode_statistics: the kinds of poses, where it weighs several.
        settings: of :data:`GRAPH_SETTINGS`; the others are the baseline's.

    Returns:
        The network, in training mode.

    Raises:
        GraphposeError: see :func:`load_network`; the checkpoint has graphs already, or a setting is not of the graphs.
    """
    return baseline_with_graphs(
        load_checkpoint(path), path, ema=ema, skeleton=skeleton, pose_statistics=pose_statistics,
        mode_statistics=mode_statistics, **settings,
    )  # fmt: skip


def baseline_with_graphs(
    content: Mapping[str, Any],
    path: Path,
    *,
    ema: bool = True,
    skeleton: Skeleton | None = None,
    pose_statistics: PoseStatistics | None = None,
    mode_statistics: Sequence[PoseStatistics] = (),
    **settings: Any,
) -> PoseNetwork:
    """As :func:`network_from_baseline`, from the content of a checkpoint that was read already."""
    if skeleton is not None:
        require_skeleton(content, skeleton, path)
    baseline = PoseNetworkConfig.from_dict(content["config"])
    if baseline.adjacency != "none":
        raise GraphposeError(
            f"checkpoint '{path}' has adjacency '{baseline.adjacency}'; a baseline has 'none' and no DGCMs of its own"
        )
    for key in settings:
        if key not in GRAPH_SETTINGS:
            raise GraphposeError(
                f"network setting '{key}' comes from the baseline '{path}'; only {', '.join(GRAPH_SETTINGS)} are new"
            )
    config = dataclasses.replace(baseline, pretrained=False, **{"adjacency": "dynamic", **settings})
    network = PoseNetwork(
        config, pose_statistics=pose_statistics or statistics_of(content), mode_statistics=mode_statistics
    )
    weights = weights_of(content, ema=ema)
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise GraphposeError(f"checkpoint '{path}': its weights do not fit its own configuration: {error}") from error
    odd = [*unexpected, *(key for key in missing if key.split(".")[0] not in GRAPH_MODULES)]
    if odd:
        raise GraphposeError(f"checkpoint '{path}': its weights do not fit its own configuration: {odd[0]}")
    return network


def card_of_successor(content: Mapping[str, Any], path: Path) -> dict[str, str] | None:
    """The card of a network that is trained on from another: its origin, licence and citation, not its figures.

    Args:
        content: of the other's checkpoint.
        path: of that checkpoint.
    """
    card = content.get("card")
    if card is None:
        return None
    kept = {name: card[name] for name in ("licence", "citation") if name in card}
    return {"origin": f"trained on from {path.name}: {card.get('origin', 'unknown')}", **kept}
