"""Export to ONNX through torch.export, with the contract of the fields in the file.

A model file whose reader has to guess channels, strides and skeleton is of little use, so all that travels as metadata:

    session = onnxruntime.InferenceSession("model.onnx")
    contract = read_contract(session.get_modelmeta().custom_metadata_map)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from graphpose import __version__
from graphpose.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from graphpose.errors import GraphposeError
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.graphs.statistics import PoseStatistics
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import Skeleton

# Images that an exported network takes, per side; below, single-cell maps would need programs of their own.
MIN_SIZE, MAX_SIZE = 65, 8192
OPSET = 20
LATER_KEYS = ("input", "decoder", "usage", "statistics")  # that files of version 0.1 do not have


@dataclasses.dataclass(frozen=True)
class ExportedContract:
    """What a user of an exported file has to know; see :mod:`graphpose.fields.spec` for units and the grid.

    Attributes:
        spec: skeleton and stride of the fields.
        feature_strides: strides of the features the network reads.
        pif_channels: names of the PIF's channels, in order.
        paf_channels: names of the PAF's channels, in order.
        confidence: "logit": a sigmoid makes it a probability.
        adjacency: kind of keypoint graph, "none" for the baseline.
        min_size: smallest image side in pixels.
        max_size: largest image side in pixels.
        input: of "images": "layout" and "colour" of the pixels, "range" of their values before "mean" and "std" are
            taken from them and divided by, channel by channel, what stands for "padding", and where a pixel's centre
            lies; None in files of earlier versions.
        decoder: thresholds that the network's poses are decoded with; None where it is not known.
        usage: "long_edge" that images are resized to (None: as they are), "flip" and "scales" that are fused; likewise.
        statistics: by which the decoder joins fragments; None where those shipped for the skeleton are meant.
    """

    spec: FieldSpec
    feature_strides: tuple[int, ...]
    pif_channels: tuple[str, ...]
    paf_channels: tuple[str, ...]
    confidence: str
    adjacency: str
    min_size: int
    max_size: int
    input: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    statistics: PoseStatistics | None = None


INPUT = {
    "layout": "(batch, channel, height, width) float32",
    "colour": "RGB",
    "range": [0.0, 1.0],
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
    "padding": "at the right and bottom, with 0 after mean and std",
    "pixel_centres": "at integers; resizing by f maps x to (x + 0.5) * f - 0.5",
}


class _Fields(nn.Module):
    """The network as a function to two tensors."""

    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.network(images)
        return outputs["pif"], outputs["paf"]


def export_program(network: PoseNetwork, fold: bool = True) -> ExportedProgram:
    """The network in evaluation mode as a torch.export program, images → (pif, paf), with dynamic batch and size.

    Args:
        network: stays as it is.
        fold: fold the DGCMs into plain convolutions first.
    """
    if fold and not network.folded:
        network = network.fold()
    training = network.training
    device = next(network.parameters()).device
    height, width = (Dim(name, min=MIN_SIZE, max=MAX_SIZE) for name in ("height", "width"))
    try:
        return torch.export.export(
            _Fields(network).eval(),
            (torch.zeros(2, 3, 129, 161, device=device),),
            dynamic_shapes=({0: Dim("batch"), 2: height, 3: width},),
            # ceil(H / s) is written in two ways along the network; that they are one is checked when the program runs.
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    finally:
        if training:
            network.train()


def export_onnx(
    network: PoseNetwork,
    path: str | Path,
    fold: bool = True,
    *,
    decoder: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
) -> Path:
    """Write the network as an ONNX file, and its contract beside it as JSON.

    Args:
        network: stays as it is.
        path: of the file; written whole or not at all.
        fold: fold the DGCMs into plain convolutions first.
        decoder: thresholds that its poses are decoded with, of :class:`graphpose.fields.config.DecoderConfig`.
        usage: how images are given to it, of :class:`graphpose.fields.config.UsageConfig`.

    Returns:
        ``path``; beside it the same name with .json has the contract. Input "images" (B, 3, H, W) in ImageNet
        normalisation; outputs "pif" and "paf" as those of the network, with dynamic batch, height and width, and the
        contract as metadata.

    Raises:
        GraphposeError: the onnx packages are missing, or the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise GraphposeError(f"cannot export to '{path}': folder '{path.parent}' does not exist")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise GraphposeError(
            f"export to ONNX needs the package '{error.name}': pip install 'graphpose[onnx]'"
        ) from error
    with _quiet():
        program = torch.onnx.export(
            export_program(network, fold),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["pif", "paf"],
            verbose=False,
        )
    assert program is not None
    metadata = contract_metadata(network, decoder, usage)
    program.model.metadata_props.update(metadata)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".onnx")
    os.close(handle)
    try:
        program.save(temporary, external_data=False)
        os.chmod(temporary, 0o644)  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    contract = {key.removeprefix("graphpose."): _plain(value) for key, value in metadata.items()}
    path.with_suffix(".json").write_text(json.dumps(contract, indent=1) + "\n")
    return path


def _plain(text: str) -> Any:
    """The value of a metadata text, which is JSON or a sentence."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's libraries report their passes as INFO, which nobody asked for; what goes wrong is still said."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def contract_metadata(
    network: PoseNetwork, decoder: Mapping[str, Any] | None = None, usage: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Strings that say what input and outputs mean; :func:`read_contract` is the inverse."""
    contract = {
        "skeleton": network.spec.skeleton.to_dict(),
        "field_stride": network.spec.stride,
        "feature_strides": list(network.config.strides),
        "pif_channels": [channel.name.lower() for channel in PIF],
        "paf_channels": [channel.name.lower() for channel in PAF],
        "confidence": "logit",
        "adjacency": network.config.adjacency,
        "min_size": MIN_SIZE,
        "max_size": MAX_SIZE,
        "input": INPUT,
        "decoder": None if decoder is None else dict(decoder),
        "usage": None if usage is None else dict(usage),
        "statistics": None if network.pose_statistics is None else network.pose_statistics.to_dict(),
    }
    grid = (
        "cell (row, column) lies at pixel (column, row) * field_stride; offsets and scale are in cells; spread is log b"
    )
    metadata = {f"graphpose.{key}": json.dumps(value) for key, value in contract.items()}
    return {**metadata, "graphpose.version": __version__, "graphpose.grid": grid}


def read_contract(metadata: Mapping[str, str]) -> ExportedContract:
    """The contract of an exported file.

    Args:
        metadata: the file's metadata by name.

    Raises:
        GraphposeError: when it is no file of :func:`export_onnx`; names the missing key.
    """
    values: dict[str, Any] = {}
    for key in ("skeleton", "field_stride", *(field.name for field in dataclasses.fields(ExportedContract)[1:])):
        if key in LATER_KEYS and f"graphpose.{key}" not in metadata:
            continue
        if f"graphpose.{key}" not in metadata:
            raise GraphposeError(f"this model was not exported by graphpose: its metadata lack 'graphpose.{key}'")
        values[key] = json.loads(metadata[f"graphpose.{key}"])
    values["spec"] = FieldSpec(Skeleton.from_dict(values.pop("skeleton")), values.pop("field_stride"))
    for key in ("feature_strides", "pif_channels", "paf_channels"):
        values[key] = tuple(values[key])
    if values.get("statistics"):
        values["statistics"] = PoseStatistics.from_dict(values["statistics"])
    return ExportedContract(**values)
