"""Graph layers as users bring them, named by the tests as ``tests.nn.own_layers:Class``."""

from torch import Tensor, nn


class Half(nn.Module):
    """Half of a node's own and half of its neighbours' mean."""

    affine = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, adj: Tensor) -> Tensor:
        return self.lin(0.5 * x + 0.5 * (adj @ x) / adj.sum(-1, keepdim=True))


class Wider(Half):
    """One channel too many."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels + 1)


class Unlike(nn.Module):
    """Made of something else."""

    def __init__(self, channels: int) -> None:
        super().__init__()


def function(skeleton, statistics):
    """Everybody gives to the first keypoint only; with statistics, the more the nearer."""
    K = skeleton.num_keypoints
    A = [[0.0] * K for _ in range(K)]
    A[0] = [0.25] * K if statistics is None else [0.5] * K
    return A


NOT_A_LAYER = 3
