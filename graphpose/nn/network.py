"""The whole network: images → backbone → graph pyramids → PIF and PAF.

Source: DGCN, Fig. 2.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from torch import Tensor, nn

from graphpose.errors import GraphposeError
from graphpose.fields.spec import PAF, PIF, FieldSpec
from graphpose.graphs.mode_statistics import mode_shares, pooled_statistics
from graphpose.graphs.own_code import require_allowed
from graphpose.graphs.statistics import PoseStatistics, shipped_statistics
from graphpose.nn.backbone import Backbone, GivenFeatures
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.dgcm import GraphPyramid
from graphpose.nn.fold import fold_pyramid
from graphpose.nn.heads import FieldHead
from graphpose.nn.keypoint_graph import (
    KeypointGraph,
    configured_adjacency,
    configured_modes,
    configured_source,
    configured_statistics,
)
from graphpose.nn.mode_graph import ModeGraph
from graphpose.skeleton import Skeleton

# What a DGCN has beside the trunk and the heads of its baseline.
GRAPH_MODULES = ("keypoint_graph", "pif_pyramid", "paf_pyramid")


class NetworkOutputs(TypedDict):
    """What a :class:`PoseNetwork` gives for B images of one size.

    Attributes:
        pif: (B, K, 5, h, w).
        paf: (B, M, 7, h, w).
        intermediate: (B, K, h', w') confidence logits of each DGCM.
    """

    pif: Tensor
    paf: Tensor
    intermediate: list[Tensor]


class PoseNetwork(nn.Module):
    """DGCN, or with ``adjacency="none"`` its PifPaf baseline.

    Args:
        config: what to build.
        adjacency: (K, K) to use in place of the one that ``config`` and its statistics give, as when weights that bring
            their own are loaded next; (C, K, K) where the network weighs the graphs of several kinds of poses.
        pose_statistics: of what the network is trained on; None takes what ``config`` names, if no ``adjacency`` is
            given.
        mode_statistics: the kinds of poses, where it weighs several; empty takes what ``config`` names, if no
            ``adjacency`` is given.

    Attributes:
        pose_statistics: that travel with the network, for the decoder and for those who look at its graphs; None where
            those shipped for the skeleton are meant.
        mode_statistics: the kinds of poses whose graphs the network weighs, which travel with it; else empty.
        config: as given, with ``backbone_variant`` resolved.
        spec: the fields' skeleton and stride.
        graph_source: of a graph of the user's, see :func:`~graphpose.graphs.custom_adjacency.adjacency_source`.
        base_stride: stride of the features that the heads read.
        folded: made by :meth:`fold`.

    Raises:
        GraphposeError: when backbone, strides, statistics and skeleton do not fit together; names them.
    """

    def __init__(
        self,
        config: PoseNetworkConfig,
        adjacency: Tensor | None = None,
        pose_statistics: PoseStatistics | None = None,
        mode_statistics: Sequence[PoseStatistics] = (),
    ) -> None:
        super().__init__()
        self.folded = False
        skeleton = config.skeleton
        self.spec = FieldSpec(skeleton, config.field_stride)
        self.base_stride = max(config.strides)
        self.backbone: Backbone | GivenFeatures = given_features(config) if config.given_features else trunk(config)
        self.config = dataclasses.replace(config, backbone_variant=self.backbone.variant)
        self.keypoint_graph: KeypointGraph | None = None
        self.pif_pyramid: GraphPyramid | None = None
        self.paf_pyramid: GraphPyramid | None = None
        self.graph_source: dict[str, str] | None = None
        if adjacency is None:
            if config.adjacency != "none":
                mode_statistics = mode_statistics or configured_modes(config)
                adjacency = configured_adjacency(config, pose_statistics, mode_statistics)
                self.graph_source = configured_source(config, adjacency) if config.own_adjacency else None
            if pose_statistics is None and config.statistics not in (None, "train", "shipped"):
                pose_statistics = configured_statistics(config)
        self.mode_statistics = tuple(kind.require(skeleton) for kind in mode_statistics) if config.weighs_modes else ()
        if pose_statistics is None and self.mode_statistics:
            pose_statistics = pooled_statistics(self.mode_statistics)
        self.pose_statistics = pose_statistics and pose_statistics.require(skeleton)
        if adjacency is not None and config.adjacency != "none":
            self.keypoint_graph = self._graph(adjacency)
            # One DGCN head is two DGCMs, one for PIF and one for PAF (Table 3's caption).
            self.pif_pyramid = GraphPyramid(self.backbone.channels, config)
            self.paf_pyramid = GraphPyramid(self.backbone.channels, config)
        channels = self.backbone.channels[self.base_stride]
        self.pif_head = FieldHead(channels, skeleton.num_keypoints, PIF, config)
        self.paf_head = FieldHead(channels, skeleton.num_limbs, PAF, config)

    def _graph(self, adjacency: Tensor) -> KeypointGraph:
        if not self.config.weighs_modes:
            return KeypointGraph(adjacency, self.config)
        shares = mode_shares(self.mode_statistics).to(adjacency.device) if self.mode_statistics else None
        return ModeGraph(adjacency, self.config, self.backbone.channels[self.base_stride], shares)

    @classmethod
    def from_state(
        cls,
        config: PoseNetworkConfig,
        state: Mapping[str, Tensor],
        pose_statistics: PoseStatistics | None = None,
        graph_source: Mapping[str, str] | None = None,
        mode_statistics: Sequence[PoseStatistics] = (),
    ) -> PoseNetwork:
        """The network of a checkpoint; needs neither the statistics nor the weights file it was built from.

        Args:
            config: the ``config`` attribute of the network that ``state`` is from.
            state: its state dict.
            pose_statistics: that travel with it.
            graph_source: where its graph is from; neither a file nor a function is looked at.
            mode_statistics: the kinds of poses that travel with it.

        Raises:
            GraphposeError: when the two do not fit; names the settings. Or the layers are of a class that may not be
                imported for a file's sake, see :func:`~graphpose.graphs.own_code.require_allowed`.
        """
        require_same_skeleton(config, state)
        require_allowed(config.graph_layer)
        adjacency = state.get("keypoint_graph.matrix")
        network = cls(dataclasses.replace(config, pretrained=False), adjacency, pose_statistics, mode_statistics)
        network.graph_source = None if graph_source is None else dict(graph_source)
        network.load_state_dict(state)
        return network

    def statistics(self) -> PoseStatistics:
        """Pose statistics of what the network was trained on: those that travel with it, or those shipped.

        Raises:
            GraphposeError: there are none for its skeleton.
        """
        return self.pose_statistics or shipped_statistics(self.spec.skeleton)

    def use_statistics(self, statistics: PoseStatistics) -> None:
        """Take other pose statistics, and the graph that they make (Eq. 6), as of what a network is trained on next.

        The graphs of several kinds of poses stay, which are what the gate has learned to weigh.

        Raises:
            GraphposeError: they are another skeleton's, or Eq. 6 is not defined by them.
        """
        self.pose_statistics = statistics.require(self.spec.skeleton)
        of_statistics = self.config.adjacency in ("soft", "dynamic") or self.config.has_modes
        if self.keypoint_graph is not None and of_statistics and not self.config.weighs_modes:
            self.keypoint_graph.matrix.copy_(configured_adjacency(self.config, statistics))

    def forward(self, images: Tensor) -> NetworkOutputs:
        """Fields of a batch of images.

        Args:
            images: (B, 3, H, W) in ImageNet normalisation; any H and W. With ``given_features`` (B, C, h, w), whose H
                and W are h and w times the stride.

        Returns:
            "pif": (B, K, 5, h, w) and "paf": (B, M, 7, h, w), float32 with (h, w) = spec.size(H, W), channels as in
            :mod:`graphpose.fields.spec`: confidences are logits, offsets and scale in cells, spreads log b;
            "intermediate": list of (B, K, ceil(H / s), ceil(W / s)) confidence logits, one per DGCM: the PIF's DGCMs
            from fine to coarse, then the PAF's. Empty without graphs.
        """
        B, _, h, w = images.shape
        H, W = h * self.backbone.input_stride, w * self.backbone.input_stride
        features = self.backbone(images)
        pif_features = paf_features = features[self.base_stride]
        intermediate: list[Tensor] = []
        if self.keypoint_graph is not None and self.pif_pyramid is not None and self.paf_pyramid is not None:
            adjacency = self.keypoint_graph(B, pif_features)  # one draw for all modules of the network
            pif_features, pif_confidences = self.pif_pyramid(features, adjacency)
            paf_features, paf_confidences = self.paf_pyramid(features, adjacency)
            intermediate = [confidence.float() for confidence in (*pif_confidences, *paf_confidences)]
        size = self.spec.size(H, W)
        return {
            "pif": self.pif_head(pif_features, size),
            "paf": self.paf_head(paf_features, size),
            "intermediate": intermediate,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch, after :func:`require_same_skeleton`."""
        require_same_skeleton(self.config, state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    def use_skeleton(self, skeleton: Skeleton) -> None:
        """Take another skeleton of the same keypoints and limbs, which may have other sigmas and flip pairs.

        Raises:
            GraphposeError: its keypoints or limbs are others, which are what the channels mean.
        """
        own = self.spec.skeleton
        if not skeleton.same_channels(own):
            raise GraphposeError(
                f"skeleton '{skeleton.name}' has other keypoints or limbs than the network's, '{own.name}'"
            )
        self.config = dataclasses.replace(self.config, skeleton=skeleton)
        self.spec = FieldSpec(skeleton, self.spec.stride)

    def fold(self) -> PoseNetwork:
        """A copy for inference whose DGCMs are plain convolutions: softmax(W_d) · W and batch norms are folded.

        Graph layers whose graph is another for each image, as that of several kinds of poses is, stay as they are.

        Returns:
            Network in evaluation mode with the same outputs up to rounding. It cannot be trained, nor is its state dict
            that of the original.
        """
        network = copy.deepcopy(self).eval()
        if self.keypoint_graph is not None:
            per_image = isinstance(network.keypoint_graph, ModeGraph)
            adjacency = None if per_image else network.keypoint_graph(1)  # type: ignore[misc]
            for pyramid in (network.pif_pyramid, network.paf_pyramid):
                fold_pyramid(pyramid, adjacency)  # type: ignore[arg-type]
        network.folded = True
        return network.requires_grad_(False)

    def train(self, mode: bool = True) -> PoseNetwork:
        """As in torch; GraphposeError for a folded network."""
        if mode and self.folded:
            raise GraphposeError("a folded network has no graph to learn; train the network it was folded from")
        return super().train(mode)

    def freeze_backbone(self, weights: bool = True, statistics: bool = True, up_to: int = 0) -> None:
        """Freeze or thaw the backbone; call after ``train()``, which puts batch norm back into training.

        Args:
            weights: its parameters get no gradient; those that the features do not read never do.
            statistics: its batch norms stay in evaluation mode.
            up_to: stride; all that its features at this stride depend on is frozen anyway. 0 for nothing.

        Raises:
            GraphposeError: it has no features at that stride.
        """
        self.backbone.freeze(weights, statistics, up_to)

    def seed_graphs(self, seed: int) -> None:
        """Start the draws of dynamic graphs anew from a seed."""
        if self.keypoint_graph is not None:
            self.keypoint_graph.seed(seed)

    def graph_state(self) -> Tensor | None:
        """State of the generator of graphs, for an exact resume; None without graphs."""
        return None if self.keypoint_graph is None else self.keypoint_graph.state.clone()

    def set_graph_state(self, state: Tensor | None) -> None:
        """Inverse of :meth:`graph_state`."""
        if self.keypoint_graph is not None and state is not None:
            self.keypoint_graph.state = state.cpu().clone()


def trunk(config: PoseNetworkConfig) -> Backbone:
    """The trunk that a configuration names, with its pretrained weights."""
    return Backbone(
        config.backbone,
        config.strides,
        config.pretrained,
        config.backbone_variant,
        config.stem_pool,
        config.dilate,
        config.norm_eps,
    )


def given_features(config: PoseNetworkConfig) -> GivenFeatures:
    """What hands on the features of that trunk."""
    return GivenFeatures(config.backbone, config.strides[0], config.backbone_variant, config.stem_pool, config.dilate)


def require_same_skeleton(config: PoseNetworkConfig, state: Mapping[str, Tensor]) -> None:
    """GraphposeError naming both counts when weights have other keypoints or limbs than the configured skeleton."""
    skeleton = config.skeleton
    for key, name, count, channels in (
        ("pif_head.conv.bias", "keypoints", skeleton.num_keypoints, len(PIF)),
        ("paf_head.conv.bias", "limbs", skeleton.num_limbs, len(PAF)),
    ):
        per_field = channels * config.upsample**2
        if key in state and state[key].numel() != count * per_field:
            have = state[key].numel() / per_field
            raise GraphposeError(
                f"weights with skeleton '{skeleton.name}': the weights' field head has {have:g} {name} at upsample "
                f"{config.upsample} where the skeleton has {count}"
            )
