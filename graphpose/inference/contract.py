"""What a user of an exported network has to know, as strings in its file.

A model file whose reader has to guess channels, strides and skeleton is of little use, so all that travels as metadata:

    session = onnxruntime.InferenceSession("model.onnx")
    contract = read_contract(session.get_modelmeta().custom_metadata_map)

``docs/onnx.md`` says the same in prose, with a decoder in numpy.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from graphpose import __version__
from graphpose.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from graphpose.errors import GraphposeError
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.graphs.statistics import PoseStatistics
from graphpose.nn.network import PoseNetwork
from graphpose.skeleton import Skeleton

# Images that an exported network takes, per side; below, single-cell maps would need programs of their own.
MIN_SIZE, MAX_SIZE = 65, 8192
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
        usage: of :class:`graphpose.fields.config.UsageConfig`; "enlarge" and "merge" are left out in files of earlier
            versions; likewise.
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


def contract_metadata(
    network: PoseNetwork, decoder: Mapping[str, Any] | None = None, usage: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Strings that say what input and outputs mean; :func:`read_contract` is the inverse."""
    contract = {
        "skeleton": network.spec.skeleton.to_dict(),
        "field_stride": network.spec.stride,
        "feature_strides": list(network.config.strides),
        "pif_channels": list(_channel_names(PIF)),
        "paf_channels": list(_channel_names(PAF)),
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
        GraphposeError: when it is no file of :func:`graphpose.inference.export.export_onnx`, or the metadata are
            damaged; names the key.
    """
    values: dict[str, Any] = {}
    for key in ("skeleton", "field_stride", *(field.name for field in dataclasses.fields(ExportedContract)[1:])):
        if key in LATER_KEYS and f"graphpose.{key}" not in metadata:
            continue
        if f"graphpose.{key}" not in metadata:
            raise GraphposeError(f"this model was not exported by graphpose: its metadata lack 'graphpose.{key}'")
        try:
            values[key] = json.loads(metadata[f"graphpose.{key}"])
            if key == "skeleton":
                values[key] = Skeleton.from_dict(values[key])
            elif key in ("feature_strides", "pif_channels", "paf_channels"):
                values[key] = tuple(values[key])
            elif key == "statistics" and values[key] is not None:
                values[key] = PoseStatistics.from_dict(values[key])
        except (ValueError, TypeError, KeyError) as error:
            raise GraphposeError(f"the model's metadata are damaged: 'graphpose.{key}': {error}") from None
    return ExportedContract(FieldSpec(values.pop("skeleton"), values.pop("field_stride")), **values)


def require_readable(contract: ExportedContract) -> None:
    """Refuse a file whose input or fields mean something else than those of this version's networks.

    Raises:
        GraphposeError: naming what differs.
    """
    given = contract.input or INPUT
    for what, theirs, ours in (
        ("PIF channels", contract.pif_channels, _channel_names(PIF)),
        ("PAF channels", contract.paf_channels, _channel_names(PAF)),
        ("confidence", contract.confidence, "logit"),
        *((key, given.get(key), INPUT[key]) for key in ("colour", "range", "mean", "std")),
    ):
        if theirs != ours:
            raise GraphposeError(f"the model has {what} {theirs}, and this version of graphpose reads {ours}")


def _channel_names(channels: type[PIF] | type[PAF]) -> tuple[str, ...]:
    return tuple(channel.name.lower() for channel in channels)
