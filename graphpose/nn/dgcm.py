"""The dynamic graph convolutional module (DGCM) of Fig. 2 and the pyramid of Eq. 9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.graph_conv import GraphConv, KeypointConv
from graphpose.nn.heads import CONFIDENCE_BIAS
from graphpose.nn.layers import DenseLayer
from graphpose.nn.non_local import NonLocal

# Keys and values of the non-local blocks lie at this many pixels, whatever the stride of the features, so that
# a pyramid's finest level costs positions × (image / 32)² and not positions².
NON_LOCAL_STRIDE = 32


class GraphLayer(nn.Module):
    """One graph convolution with batch norm and ReLU, σ of Eq. 8.

    Args:
        config: read for K, the node width, the kind of layer and of graph.
    """

    def __init__(self, config: PoseNetworkConfig) -> None:
        super().__init__()
        K, d = config.skeleton.num_keypoints, config.node_width
        # Table 1: A_I is used in Eq. 4, every other graph in Eq. 8.
        learned = config.adjacency != "identity"
        self.conv: GraphConv | KeypointConv | DenseLayer
        if config.graph_layer == "dgcn":
            self.conv = GraphConv(d, d, K, learned=learned, absent_edges=config.absent_edges, bias=False)
        elif config.graph_layer == "convolution":
            self.conv = KeypointConv(d, d, K)
        else:
            self.conv = DenseLayer(config.graph_layer, d, d)
        self.norm = nn.BatchNorm2d(K * d)
        self.shape = (K, d)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """(B, K·d, H, W) → (B, K·d, H, W), not negative."""
        x = self.conv(x.unflatten(1, self.shape), adjacency).flatten(1, 2)  # (B, K·d, H, W)
        return self.norm(x).relu()


class DGCM(nn.Module):
    """Reduce to keypoint channels → graph convolutions → non-local block → expand → add to the input.

    Args:
        channels: C of the features.
        stride: pixels per cell of the features; sets the pooling of the non-local block.
        config: K, node width, layers and graph.

    Source: DGCN, Fig. 2 and Eq. 8.
    """

    def __init__(self, channels: int, stride: int, config: PoseNetworkConfig) -> None:
        super().__init__()
        K, d = config.skeleton.num_keypoints, config.node_width
        self.reduce = nn.Conv2d(channels, K * d, 3, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(K * d)
        # d > 1: each keypoint's d channels are read as one confidence map.
        self.read: nn.Module = nn.Conv2d(K * d, K, 1, groups=K) if d > 1 else nn.Identity()
        self.layers = nn.ModuleList(GraphLayer(config) for _ in range(config.graph_layers))
        pool = max(NON_LOCAL_STRIDE // stride, 1)
        self.non_local: nn.Module = NonLocal(K * d, pool) if config.non_local else nn.Identity()
        self.expand = nn.Conv2d(K * d, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.reduce.weight, nonlinearity="linear")
        # The module begins as the identity, so that pretrained features reach the heads unchanged.
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]
        nn.init.constant_((self.norm if d == 1 else self.read).bias, CONFIDENCE_BIAS)  # type: ignore[arg-type]

    def forward(self, features: Tensor, adjacency: Tensor) -> tuple[Tensor, Tensor]:
        """Graph features and the intermediate confidence.

        Args:
            features: (B, C, H, W).
            adjacency: (K, K) or (B, K, K).

        Returns:
            features of the same shape and (B, K, H, W) confidence logits, read before the graph.
        """
        x = self.norm(self.reduce(features))  # (B, K·d, H, W)
        confidence = self.read(x)  # (B, K, H, W)
        for layer in self.layers:
            x = layer(x, adjacency)
        x = self.non_local(x)
        return features + self.expand(x), confidence  # ⊕ of Fig. 2


class Downsample(nn.Module):
    """Strided convolutions that bring graph features to a coarser level: depthwise 3×3, stride 2, then 1×1 and norm.

    Table 4 leaves room for nothing heavier: a full 3×3 from F_8 to F_16 alone would weigh 72 MiB.

    Args:
        in_channels: of the finer level.
        out_channels: of the coarser level.
        ratio: of the strides, a power of two.
    """

    def __init__(self, in_channels: int, out_channels: int, ratio: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            *(
                nn.Conv2d(in_channels, in_channels, 3, stride=2, padding=1, groups=in_channels, bias=False)
                for _ in range(ratio.bit_length() - 1)
            )
        )
        self.pointwise: nn.Module = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)
        for conv in (*self.depthwise, self.pointwise):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', ceil(H / ratio), ceil(W / ratio))."""
        return self.norm(self.pointwise(self.depthwise(x)))


class GraphPyramid(nn.Module):
    """F_g = Σ_s ψ(F_s) at the coarsest stride, ψ a DGCM and its way down (Eq. 9).

    The finer levels are handed down from level to level, each joining the next: ψ(F_16) + D(ψ(F_8) + D(ψ(F_4))).

    Args:
        channels: C at each stride.
        config: strides and the DGCMs.
    """

    def __init__(self, channels: Mapping[int, int], config: PoseNetworkConfig) -> None:
        super().__init__()
        self.strides = tuple(sorted(config.strides))  # fine to coarse
        self.modules_at = nn.ModuleDict({str(s): DGCM(channels[s], s, config) for s in self.strides})
        self.down = nn.ModuleDict(
            {
                str(fine): Downsample(channels[fine], channels[coarse], coarse // fine)
                for fine, coarse in zip(self.strides, self.strides[1:], strict=False)
            }
        )

    def forward(self, features: Mapping[int, Tensor], adjacency: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Sum over the pyramid.

        Args:
            features: F_s by stride.
            adjacency: (K, K) or (B, K, K).

        Returns:
            F_g in the shape of the coarsest features, and one (B, K, H_s, W_s) of confidence logits per stride, fine
            to coarse.
        """
        total, confidences = None, []
        for stride in self.strides:
            level, confidence = self.modules_at[str(stride)](features[stride], adjacency)
            confidences.append(confidence)
            total = level if total is None else level + total  # Eq. 9
            if str(stride) in self.down:
                total = self.down[str(stride)](total)
        assert total is not None
        return total, confidences
