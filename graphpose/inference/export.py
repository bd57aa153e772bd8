"""Export to ONNX through torch.export, with the contract of the fields in the file.

A model file whose reader has to guess channels, strides and skeleton is of little use, so all that travels as metadata:

    session = onnxruntime.InferenceSession("model.onnx")
    contract = read_contract(session.get_modelmeta().custom_metadata_map)
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from graphpose import __version__
from graphpose.errors import GraphposeError
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import Skeleton

# Images that an exported network takes, per side; below, single-cell maps would need programs of their own.
MIN_SIZE, MAX_SIZE = 65, 8192
OPSET = 20


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
    """

    spec: FieldSpec
    feature_strides: tuple[int, ...]
    pif_channels: tuple[str, ...]
    paf_channels: tuple[str, ...]
    confidence: str
    adjacency: str
    min_size: int
    max_size: int


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


def export_onnx(network: PoseNetwork, path: str | Path, fold: bool = True) -> Path:
    """Write the network as an ONNX file.

    Args:
        network: stays as it is.
        path: of the file; written whole or not at all.
        fold: fold the DGCMs into plain convolutions first.

    Returns:
        ``path``. Input "images" (B, 3, H, W) in ImageNet normalisation; outputs "pif" and "paf" as those of the
        network, with dynamic batch, height and width, and the contract as metadata.

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
    program = torch.onnx.export(
        export_program(network, fold),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["pif", "paf"],
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(contract_metadata(network))
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".onnx")
    os.close(handle)
    try:
        program.save(temporary, external_data=False)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def contract_metadata(network: PoseNetwork) -> dict[str, str]:
    """Strings that say what the outputs mean; :func:`read_contract` is the inverse."""
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
        if f"graphpose.{key}" not in metadata:
            raise GraphposeError(f"this model was not exported by graphpose: its metadata lack 'graphpose.{key}'")
        values[key] = json.loads(metadata[f"graphpose.{key}"])
    values["spec"] = FieldSpec(Skeleton.from_dict(values.pop("skeleton")), values.pop("field_stride"))
    for key in ("feature_strides", "pif_channels", "paf_channels"):
        values[key] = tuple(values[key])
    return ExportedContract(**values)
