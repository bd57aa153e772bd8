"""graphpose: dynamic graph convolutional networks on keypoint graphs for bottom-up multi-person pose estimation.

Reference implementation of DGCN (Qiu, Qiu, Fu, Fu; AAAI 2020). The rooms of the house, each of which imports only those
before it, and of those in braces not its neighbour (``tests/test_imports.py`` reads this line and every import)::

    errors < {checksum, flip_pairs} < skeleton < {visualize, device} < distributed < data < graphs < fields
    < {nn, metrics} < packed < checkpoint < {training, inference, openpifpaf} < cli

Within a room no modules import each other in a circle. ``experiments/`` and ``analysis/`` import from here, and nothing
imports them. The main names are handed on from here, and their rooms are imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpose.checkpoint import load_network as load_network
    from graphpose.data.annotations.read import read_annotations as read_annotations
    from graphpose.data.open import open_dataset as open_dataset
    from graphpose.errors import GraphposeError as GraphposeError
    from graphpose.fields.decode import Decoder as Decoder
    from graphpose.fields.encode import encode as encode
    from graphpose.graphs.dataset import KeypointGraphDataset as KeypointGraphDataset
    from graphpose.graphs.keypoint_graph import keypoint_graph as keypoint_graph
    from graphpose.graphs.keypoint_graph import to_dense as to_dense
    from graphpose.graphs.statistics import load_statistics as load_statistics
    from graphpose.graphs.statistics import shipped_statistics as shipped_statistics
    from graphpose.inference.predict import Predictor as Predictor
    from graphpose.nn.config import PoseNetworkConfig as PoseNetworkConfig
    from graphpose.nn.network import PoseNetwork as PoseNetwork
    from graphpose.nn.relations import learned_relations as learned_relations
    from graphpose.skeleton import COCO as COCO
    from graphpose.skeleton import CROWDPOSE as CROWDPOSE
    from graphpose.skeleton import MPII as MPII
    from graphpose.skeleton import Skeleton as Skeleton
    from graphpose.training.config import TrainConfig as TrainConfig
    from graphpose.training.trainer import Trainer as Trainer
    from graphpose.visualize import draw_poses as draw_poses

__version__ = "0.1.0"

_HOME = {  # name → module, as in the block above
    "COCO": "skeleton",
    "CROWDPOSE": "skeleton",
    "Decoder": "fields.decode",
    "GraphposeError": "errors",
    "KeypointGraphDataset": "graphs.dataset",
    "MPII": "skeleton",
    "PoseNetwork": "nn.network",
    "PoseNetworkConfig": "nn.config",
    "Predictor": "inference.predict",
    "Skeleton": "skeleton",
    "TrainConfig": "training.config",
    "Trainer": "training.trainer",
    "draw_poses": "visualize",
    "encode": "fields.encode",
    "keypoint_graph": "graphs.keypoint_graph",
    "learned_relations": "nn.relations",
    "load_network": "checkpoint",
    "load_statistics": "graphs.statistics",
    "open_dataset": "data.open",
    "read_annotations": "data.annotations.read",
    "shipped_statistics": "graphs.statistics",
    "to_dense": "graphs.keypoint_graph",
}
__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    """A main name from its room (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'graphpose' has no attribute '{name}'")
    value = getattr(import_module(f"graphpose.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
