"""What a network and its loss are built from: plain values; the network's travel with a checkpoint."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from graphpose.errors import GraphposeError
from graphpose.skeleton import COCO, Skeleton, get_skeleton

AbsentEdges = Literal["zero", "masked"]
Adjacency = Literal["none", "identity", "hand_crafted", "full", "soft", "dynamic", "soft_modes", "modes"]
BackboneVariant = Literal["auto", "v1", "v1.5"]
# Layers that PyG has for dense adjacencies, beside the paper's and the control without a graph.
PYG_LAYERS = ("DenseGCNConv", "DenseSAGEConv", "DenseGraphConv", "DenseGINConv", "DenseGATConv")
GRAPH_LAYERS = ("dgcn", "convolution", *PYG_LAYERS)
# What an adjacency of one's own is read from, beside a function.
ADJACENCY_FILES = (".npy", ".npz", ".csv", ".graphml", ".json", ".adjlist")
EvaluationGraph = Literal["ones", "expectation"]
RegressionLoss = Literal["smooth_l1", "laplace"]
ConfidenceReduction = Literal["mean", "sum_of_means"]
RegressionReduction = Literal["sum", "mean"]
ScaleActivation = Literal["softplus", "relu"]
SpreadActivation = Literal["linear", "leaky_relu"]
DEFAULT_MODES = 4
_IMPORTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # package.module:name

SHIPPED_NAME = "shipped"  # what ``pretrained`` calls the network that graphpose ships
SHIPPED = Path(__file__).parents[1] / "shipped" / "people.safetensors"


@dataclasses.dataclass(frozen=True)
class PoseNetworkConfig:
    """Configuration of a :class:`~graphpose.nn.network.PoseNetwork`; the defaults are DGCN-50 with one DGCN head.

    Attributes:
        skeleton: gives K and M; a name of a built-in skeleton or a dictionary are taken too.
        backbone: any timm name with features at the wanted strides.
        pretrained: True for timm's ImageNet weights, or the path of a local file of such (.safetensors or .pth); a run
            also takes a checkpoint or packed network, or "shipped" for that of graphpose: of a baseline for trunk and
            heads, with graphs for all of it, of another skeleton for what both have in common. Heads of another
            ``upsample`` begin anew.
        backbone_variant: where a bottleneck ResNet has its strides: "v1.5" in conv2 (timm, torchvision), "v1" in conv1
            (Caffe, Keras). "auto" believes what the weights file says of itself and takes v1.5 otherwise.
        stem_pool: keep the stem's max-pool. Without it a ResNet has strides 2, 4, 8, 16 in its four stages.
        dilate: keep the last stage at stride 16 by dilation; only with ``stem_pool``.
        given_features: the network is given the backbone's features at its one stride in place of images and has no
            trunk of its own. A run then freezes the trunk and computes its features of the training images once.
        adjacency: "none" is the PifPaf baseline without graphs, "full" connects all keypoints and learns W_d alone; the
            other names are the columns of Table 1; or the file of one's own (.npy, .npz, .csv, .graphml, .json,
            .adjlist), or package.module:function of skeleton and statistics; "soft_modes" and "modes" are "soft" and
            "dynamic" with one A_s for each kind of poses, which a gate on the features weighs for each image.
        gamma: γ of Eq. 6.
        strides: feature strides that get a DGCN head each (Eq. 9); the heads read fields at the largest.
        node_width: channels d per keypoint in a DGCM; 1 is the paper.
        graph_layers: graph convolutions per DGCM.
        graph_layer: "dgcn", the paper's (Eq. 4 and 8); a layer of PyG on the same graph: DenseGCNConv, DenseSAGEConv,
            DenseGraphConv, DenseGINConv, DenseGATConv; package.module:Class of their signature; or "convolution", the
            control for what graphs bring. That is a plain 1×1 convolution of all K·d channels in its place, at d = 1
            with as many parameters but one; it reads no graph and goes with adjacency "full" alone.
        absent_edges: how β of Eq. 8 sees an edge that is not in the graph: "zero" as written, "masked" as in SemGCN.
        graph_pool: 0 draws a fresh graph each iteration (Eq. 7); n > 0 draws one of n graphs sampled at the start
            (Fig. 2).
        per_sample: one graph per image in place of one per batch.
        evaluation_graph: the graph of a network that was trained with draws: "ones" (A_d = 1, the paper; of a graph of
            one's own every edge that it has) or "expectation" (A_s, the mean of what it was trained with); of several
            kinds of poses always the latter, by the image's gate.
        non_local: the spatial non-local block after the graph convolutions.
        upsample: sub-pixel factor of the heads; the fields' stride is max(strides) / upsample.
        statistics: "train" for the pose statistics (M_d of Eq. 5) of the run's training set, "shipped" for those that
            come with graphpose, or the path of a file, or of a folder of kinds of poses. None takes shipped ones where
            there are any for the keypoints, and otherwise those of the training set, in which kinds of poses are also
            found where no folder is named (analysis/pose_modes.py writes one).
        norm_eps: ε of the backbone's batch norms; None for timm's. Imported weights with variances near zero mean
            something else under another ε.
        scale_activation: what makes the PIF's scale positive; "relu" is PifPaf's of 2019, whose scale may be 0.
        scale_factor: what the activated scale is multiplied by to be σ_k · sqrt(person area) in cells; 1 unless the
            weights were trained on another unit.
        spread_activation: of log b: "linear", or "leaky_relu", leaky_relu(x + 2) − 2, which is PifPaf's of 2019.
        sample: draw a graph of one's own anew in each iteration, its weights being the probabilities of Eq. 7.
        modes: how many kinds of poses the graphs "soft_modes" and "modes" have; 1 is "soft" or "dynamic" itself.

    Raises:
        GraphposeError: when settings contradict each other; the message names them.
    """

    skeleton: Skeleton = COCO
    backbone: str = "resnet50"
    pretrained: bool | str = False
    backbone_variant: BackboneVariant = "auto"
    stem_pool: bool = False
    dilate: bool = False
    given_features: bool = False
    adjacency: Adjacency | str = "dynamic"
    gamma: float = 0.5
    strides: tuple[int, ...] = (16,)
    node_width: int = 1
    graph_layers: int = 2
    graph_layer: str = "dgcn"
    absent_edges: AbsentEdges = "zero"
    graph_pool: int = 0
    per_sample: bool = False
    evaluation_graph: EvaluationGraph = "ones"
    non_local: bool = True
    upsample: int = 2
    statistics: str | None = None
    norm_eps: float | None = None
    scale_activation: ScaleActivation = "softplus"
    scale_factor: float = 1.0
    spread_activation: SpreadActivation = "linear"
    sample: bool = False
    modes: int = DEFAULT_MODES

    def __post_init__(self) -> None:
        if isinstance(self.skeleton, str):
            object.__setattr__(self, "skeleton", get_skeleton(self.skeleton))
        elif isinstance(self.skeleton, Mapping):
            object.__setattr__(self, "skeleton", Skeleton.from_dict(self.skeleton))
        strides = (self.strides,) if isinstance(self.strides, int) else self.strides
        object.__setattr__(self, "strides", tuple(sorted((int(s) for s in strides), reverse=True)))
        self._check_choices()
        self._check_numbers()
        if self.weighs_modes and self.draws_graphs:  # all ones would be one graph for all images
            object.__setattr__(self, "evaluation_graph", "expectation")
        self._check_contradictions()

    def _check_choices(self) -> None:
        choices = {
            "absent_edges": AbsentEdges,
            "backbone_variant": BackboneVariant,
            "evaluation_graph": EvaluationGraph,
            "scale_activation": ScaleActivation,
            "spread_activation": SpreadActivation,
        }
        for name, literal in choices.items():
            value, valid = getattr(self, name), get_args(literal)
            if value not in valid:
                raise GraphposeError(f"{name} '{value}' is unknown; choose one of {', '.join(valid)}")

        if self.adjacency not in get_args(Adjacency) and not self.own_adjacency:
            raise GraphposeError(
                f"adjacency '{self.adjacency}' is unknown; choose one of {', '.join(get_args(Adjacency))}, a file "
                f"({', '.join(ADJACENCY_FILES)}) or package.module:function"
            )
        if self.graph_layer not in GRAPH_LAYERS and not _IMPORTED.fullmatch(self.graph_layer):
            raise GraphposeError(
                f"graph_layer '{self.graph_layer}' is unknown; choose one of {', '.join(GRAPH_LAYERS)} or "
                "package.module:Class"
            )

    def _check_numbers(self) -> None:
        if not self.strides or len(set(self.strides)) != len(self.strides):
            raise GraphposeError(f"strides {self.strides} must name at least one stride and none twice")
        for stride in self.strides:
            if stride < 2 or stride & (stride - 1):
                raise GraphposeError(f"strides {self.strides}: {stride} is not a power of two that is at least 2")
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise GraphposeError(f"gamma {self.gamma} must be a positive number")
        for name in ("norm_eps", "scale_factor"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise GraphposeError(f"{name} {value} must be a positive number")
        for name, least in (("node_width", 1), ("graph_layers", 1), ("graph_pool", 0), ("upsample", 1), ("modes", 1)):
            if getattr(self, name) < least:
                raise GraphposeError(f"{name} {getattr(self, name)} must be at least {least}")

    def _check_contradictions(self) -> None:
        if not self.skeleton.limbs:
            raise GraphposeError(
                f"skeleton '{self.skeleton.name}' has no limbs; a network predicts at least one "
                f"(a category states them as 'skeleton')"
            )
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
        if self.given_features and len(self.strides) > 1:
            raise GraphposeError(
                f"given_features=True with strides {self.strides}: features are kept of one stride; give one, or "
                "train on images"
            )
        if self.graph_layer == "convolution" and self.adjacency != "full":
            raise GraphposeError(
                f"graph_layer 'convolution' with adjacency '{self.adjacency}': a convolution mixes all keypoints and "
                "reads no graph; set adjacency=full"
            )
        if max(self.strides) % self.upsample:
            raise GraphposeError(
                f"upsample {self.upsample} with strides {self.strides}: the factor must divide {max(self.strides)}"
            )
        for name, usual in (("graph_pool", 0), ("per_sample", False), ("evaluation_graph", "ones")):
            if getattr(self, name) != usual and not self.draws_graphs:
                raise GraphposeError(
                    f"{name}={getattr(self, name)} with adjacency '{self.adjacency}': only dynamic graphs are drawn, "
                    "and with sample=True those of one's own"
                )
        self._check_modes()
        if self.sample and not self.own_adjacency:
            raise GraphposeError(
                f"sample=True with adjacency '{self.adjacency}': it is for a file or function of one's own; drawn from "
                "A_s is adjacency 'dynamic'"
            )
        if self.graph_layer != "dgcn" and (self.adjacency == "none" or self.absent_edges != "zero"):
            setting = "adjacency 'none'" if self.adjacency == "none" else f"absent_edges '{self.absent_edges}'"
            raise GraphposeError(
                f"graph_layer '{self.graph_layer}' with {setting}: one of both would change nothing, leave it out"
            )

    def _check_modes(self) -> None:
        if not self.has_modes and self.modes != DEFAULT_MODES:
            raise GraphposeError(
                f"modes={self.modes} with adjacency '{self.adjacency}': only 'modes' and 'soft_modes' have kinds of "
                "poses"
            )
        if not self.weighs_modes:
            return
        if self.statistics == "shipped":
            raise GraphposeError(
                f"statistics=shipped with modes={self.modes}: what is shipped knows one kind of poses, everybody's; "
                "set statistics=train or the folder of the kinds"
            )
        if self.graph_layer == "DenseGATConv":
            raise GraphposeError(
                f"graph_layer 'DenseGATConv' with adjacency '{self.adjacency}' and modes={self.modes}: attention asks "
                "which edges there are and reads no weights, so that nothing could teach the gate; take another layer"
            )
        if self.draws_graphs and self.absent_edges == "masked":
            raise GraphposeError(
                f"absent_edges 'masked' with adjacency 'modes' and modes={self.modes}: an edge that is masked has no "
                "derivative, so that the gate would not learn from what is absent; set absent_edges=zero or "
                "adjacency=soft_modes"
            )

    @property
    def has_modes(self) -> bool:
        """Whether the graph is one of kinds of poses, be it a single kind."""
        return self.adjacency in ("modes", "soft_modes")

    @property
    def weighs_modes(self) -> bool:
        """Whether a gate weighs the graphs of several kinds of poses."""
        return self.has_modes and self.modes > 1

    @property
    def own_adjacency(self) -> bool:
        """Whether the graph is one of the user's: a file or a function."""
        return self.adjacency.endswith(ADJACENCY_FILES) or bool(_IMPORTED.fullmatch(self.adjacency))

    @property
    def draws_graphs(self) -> bool:
        """Whether training draws a graph in each iteration (Eq. 7)."""
        return self.adjacency in ("dynamic", "modes") or self.sample

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


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights and normalisation; the defaults are the paper's.

    Attributes:
        pif_confidence: α of Eq. 2.
        pif_offset: θ of Eq. 2.
        pif_scale: weight of the keypoint scale, which the decoder needs.
        paf_confidence: β of Eq. 3.
        paf_offset: δ of Eq. 3, for each of the limb's two ends.
        intermediate: weight of the intermediate confidences together, shared by the N DGCMs: α / N each.
        regression_loss: of the offsets; "smooth_l1" (the paper) or "laplace", which trains the spread channel.
        confidence_reduction: "mean" over the cells of all maps, or "sum_of_means": Σ_k of each map's mean, K times as
            large.
        regression_reduction: "sum" over cells / ``regression_divisor`` / batch, or "mean" over cells.
        regression_divisor: of the sum over cells.

    Raises:
        GraphposeError: a weight that is negative or not finite, an unknown choice.
    """

    pif_confidence: float = 30.0
    pif_offset: float = 2.0
    pif_scale: float = 2.0
    paf_confidence: float = 50.0
    paf_offset: float = 3.0
    intermediate: float = 30.0
    regression_loss: RegressionLoss = "smooth_l1"
    confidence_reduction: ConfidenceReduction = "mean"
    regression_reduction: RegressionReduction = "sum"
    regression_divisor: float = 1000.0

    def __post_init__(self) -> None:
        for name, literal in (
            ("regression_loss", RegressionLoss),
            ("confidence_reduction", ConfidenceReduction),
            ("regression_reduction", RegressionReduction),
        ):
            if getattr(self, name) not in get_args(literal):
                raise GraphposeError(
                    f"{name} '{getattr(self, name)}' is unknown; choose one of {', '.join(get_args(literal))}"
                )
        for name in ("pif_confidence", "pif_offset", "pif_scale", "paf_confidence", "paf_offset", "intermediate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise GraphposeError(f"loss weight {name} {getattr(self, name)} must be finite and not negative")
        if not (math.isfinite(self.regression_divisor) and self.regression_divisor > 0):
            raise GraphposeError(f"regression_divisor {self.regression_divisor} must be positive")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``LossConfig(**values)`` is the inverse."""
        return dataclasses.asdict(self)
