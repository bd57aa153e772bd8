"""What a network is built from: plain values that travel with a checkpoint."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from graphpose.errors import GraphposeError
from graphpose.nn.graph_conv import AbsentEdges
from graphpose.skeleton import COCO, Skeleton, get_skeleton

Adjacency = Literal["none", "identity", "hand_crafted", "full", "soft", "dynamic"]
BackboneVariant = Literal["auto", "v1", "v1.5"]
EvaluationGraph = Literal["ones", "expectation"]


@dataclasses.dataclass(frozen=True)
class PoseNetworkConfig:
    """Configuration of a :class:`~graphpose.nn.network.PoseNetwork`; the defaults are DGCN-50 with one DGCN head.

    Attributes:
        skeleton: gives K and M; a name of a built-in skeleton or a dictionary are taken too.
        backbone: any timm name with features at the wanted strides.
        pretrained: True for timm's ImageNet weights, or the path of a local file (.safetensors or .pth).
        backbone_variant: where a bottleneck ResNet has its strides: "v1.5" in conv2 (timm, torchvision), "v1" in conv1
            (Caffe, Keras). "auto" believes what the weights file says of itself and takes v1.5 otherwise.
        stem_pool: keep the stem's max-pool. Without it a ResNet has strides 2, 4, 8, 16 in its four stages.
        dilate: keep the last stage at stride 16 by dilation; only with ``stem_pool``.
        adjacency: "none" is the PifPaf baseline without graphs, "full" connects all keypoints and learns W_d alone; the
            others name the columns of Table 1.
        gamma: γ of Eq. 6.
        strides: feature strides that get a DGCN head each (Eq. 9); the heads read fields at the largest.
        node_width: channels d per keypoint in a DGCM; 1 is the paper.
        graph_layers: graph convolutions per DGCM.
        absent_edges: how β of Eq. 8 sees an edge that is not in the graph: "zero" as written, "masked" as in SemGCN.
        graph_pool: 0 draws a fresh graph each iteration (Eq. 7); n > 0 draws one of n graphs sampled at the start
            (Fig. 2).
        per_sample: one graph per image in place of one per batch.
        evaluation_graph: the graph of a trained "dynamic" network: "ones" (A_d = 1, the paper) or "expectation" (A_s,
            the mean of what it was trained with).
        non_local: the spatial non-local block after the graph convolutions.
        upsample: sub-pixel factor of the heads; the fields' stride is max(strides) / upsample.
        statistics: name or path of the statistics M_d of Eq. 5; None for those shipped for the skeleton.

    Raises:
        GraphposeError: when settings contradict each other; the message names them.
    """

    skeleton: Skeleton = COCO
    backbone: str = "resnet50"
    pretrained: bool | str = False
    backbone_variant: BackboneVariant = "auto"
    stem_pool: bool = False
    dilate: bool = False
    adjacency: Adjacency = "dynamic"
    gamma: float = 0.5
    strides: tuple[int, ...] = (16,)
    node_width: int = 1
    graph_layers: int = 2
    absent_edges: AbsentEdges = "zero"
    graph_pool: int = 0
    per_sample: bool = False
    evaluation_graph: EvaluationGraph = "ones"
    non_local: bool = True
    upsample: int = 2
    statistics: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.skeleton, str):
            object.__setattr__(self, "skeleton", get_skeleton(self.skeleton))
        elif isinstance(self.skeleton, Mapping):
            object.__setattr__(self, "skeleton", Skeleton.from_dict(self.skeleton))
        strides = (self.strides,) if isinstance(self.strides, int) else self.strides
        object.__setattr__(self, "strides", tuple(sorted((int(s) for s in strides), reverse=True)))
        self._check_choices()
        self._check_numbers()
        self._check_contradictions()

    def _check_choices(self) -> None:
        choices = {
            "adjacency": Adjacency,
            "absent_edges": AbsentEdges,
            "backbone_variant": BackboneVariant,
            "evaluation_graph": EvaluationGraph,
        }
        for name, literal in choices.items():
            value, valid = getattr(self, name), get_args(literal)
            if value not in valid:
                raise GraphposeError(f"{name} '{value}' is unknown; choose one of {', '.join(valid)}")

    def _check_numbers(self) -> None:
        if not self.strides or len(set(self.strides)) != len(self.strides):
            raise GraphposeError(f"strides {self.strides} must name at least one stride and none twice")
        for stride in self.strides:
            if stride < 2 or stride & (stride - 1):
                raise GraphposeError(f"strides {self.strides}: {stride} is not a power of two that is at least 2")
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise GraphposeError(f"gamma {self.gamma} must be a positive number")
        for name, least in (("node_width", 1), ("graph_layers", 1), ("graph_pool", 0), ("upsample", 1)):
            if getattr(self, name) < least:
                raise GraphposeError(f"{name} {getattr(self, name)} must be at least {least}")

    def _check_contradictions(self) -> None:
        if self.adjacency == "none" and len(self.strides) > 1:
            raise GraphposeError(
                f"strides {self.strides} with adjacency 'none': the pyramid of Eq. 9 is made of graph heads; give one "
                "stride or another adjacency"
            )
        if self.dilate and not self.stem_pool:
            raise GraphposeError(
                "dilate=True with stem_pool=False: dilation holds the last stage at stride 16, where it is already "
                "without the stem's max-pool; set stem_pool=True or dilate=False"
            )
        if max(self.strides) % self.upsample:
            raise GraphposeError(
                f"upsample {self.upsample} with strides {self.strides}: the factor must divide {max(self.strides)}"
            )
        for name, usual in (("graph_pool", 0), ("per_sample", False), ("evaluation_graph", "ones")):
            if getattr(self, name) != usual and self.adjacency != "dynamic":
                raise GraphposeError(
                    f"{name}={getattr(self, name)} with adjacency '{self.adjacency}': only dynamic graphs are drawn"
                )

    @property
    def field_stride(self) -> int:
        """Pixels per cell of the fields."""
        return max(self.strides) // self.upsample

    def to_dict(self) -> dict[str, Any]:
        """Plain values; :meth:`from_dict` is the exact inverse."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "skeleton": self.skeleton.to_dict(), "strides": list(self.strides)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PoseNetworkConfig:
        """Inverse of :meth:`to_dict`; GraphposeError lists the valid keys when one is unknown."""
        valid = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in valid:
                raise GraphposeError(f"unknown network setting '{key}'; choose from {', '.join(valid)}")
        return cls(**values)
