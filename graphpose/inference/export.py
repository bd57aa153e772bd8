"""Export to ONNX through torch.export, with the contract of the fields in the file.

What a reader has to know travels as metadata, see :mod:`graphpose.inference.contract`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from graphpose.errors import GraphposeError
from graphpose.inference.contract import MAX_SIZE, MIN_SIZE, contract_metadata
from graphpose.nn.network import PoseNetwork

OPSET = 20


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
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),  # what the file calls them
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
    """The exporter's libraries report their passes as INFO and warn of their own future, which nobody asked for; what
    goes wrong is still said."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
