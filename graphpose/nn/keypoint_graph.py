"""The keypoint graph as the network holds it: fixed, or drawn anew in each training iteration (Eq. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import adjacency_matrix, draw_edges
from graphpose.graphs.mode_statistics import mode_adjacencies, pooled_statistics, read_modes
from graphpose.graphs.statistics import PoseStatistics, load_statistics, shipped_statistics
from graphpose.nn.config import PoseNetworkConfig


@torch.library.custom_op("graphpose::draw_uniform", mutates_args=("state",))
def draw_uniform(state: Tensor, like: Tensor, shape: list[int]) -> Tensor:
    """Uniform numbers in [0, 1) from a generator's state, which moves on.

    An operator of its own, because torch.compile cannot trace a generator.

    Args:
        state: state of a CPU torch.Generator, changed in place.
        like: gives the device.
        shape: of the result.

    Returns:
        float32 of ``shape``.
    """
    generator = torch.Generator()
    generator.set_state(state)
    numbers = torch.rand(shape, generator=generator)
    state.copy_(generator.get_state())
    return numbers.to(like.device, non_blocking=True)


@draw_uniform.register_fake
def _(state: Tensor, like: Tensor, shape: list[int]) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


class KeypointGraph(nn.Module):
    """A of Eq. 4 and 8 for each forward pass.

    The matrix is a buffer, so it moves with the module and a checkpoint needs no statistics file. "dynamic" holds A_s,
    draws A_d from it in training, and is all ones (or A_s, see ``evaluation_graph``) in evaluation; every other graph
    is what it is. It draws from a generator state of its own, where
    :func:`~graphpose.graphs.adjacency.sample_adjacency` takes a generator: so the graphs are the same on every device,
    resume with a checkpoint, and trace under torch.compile. One seed gives the same graphs both ways.

    Args:
        matrix: (K, K); A_I, A_h, A_s (also for "dynamic", and of a single kind of poses) or the user's own.
        config: ``adjacency``, ``graph_pool``, ``per_sample`` and ``evaluation_graph`` are read.
        seed: of the draws.

    Raises:
        GraphposeError: when the matrix is not K × K, has entries outside of [0, 1], or is none of the user's own and
            has a diagonal that is not 1.
    """

    def __init__(self, matrix: Tensor, config: PoseNetworkConfig, seed: int = 0) -> None:
        super().__init__()
        K = config.skeleton.num_keypoints
        if matrix.ndim != (3 if config.weighs_modes else 2) or matrix.shape[-2:] != (K, K):
            raise GraphposeError(
                f"statistics '{config.statistics or 'shipped'}' with skeleton '{config.skeleton.name}': the adjacency "
                f"is {tuple(matrix.shape)} where the skeleton has {K} keypoints"
            )
        loops = config.own_adjacency or bool((matrix.diagonal(dim1=-2, dim2=-1) == 1).all())
        if not bool(((matrix >= 0) & (matrix <= 1)).all()) or not loops:
            raise GraphposeError("an adjacency must lie in [0, 1] and have ones on its diagonal")
        self.dynamic = config.draws_graphs
        self.complete = config.adjacency in ("dynamic", "modes")
        self.per_sample = config.per_sample
        self.expectation = config.evaluation_graph == "expectation"
        self.matrix: Tensor
        self.pool: Tensor | None
        self.register_buffer("matrix", matrix.float().clone())
        self.register_buffer(
            "pool", torch.empty(config.graph_pool, K, K, device=matrix.device) if config.graph_pool else None
        )
        self.state = torch.Generator().manual_seed(seed).get_state()  # no buffer: it stays on the CPU
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start the draws anew; a pool is drawn anew as well."""
        self.state = torch.Generator().manual_seed(seed).get_state()
        if self.pool is not None:
            self.pool.copy_(self._draw(len(self.pool)))

    def _draw(self, count: int) -> Tensor:
        """Graphs (count, K, K) of Eq. 7; the diagonal has probability 1."""
        return draw_edges(self.matrix, draw_uniform(self.state, self.matrix, [count, *self.matrix.shape]))

    def _next(self, batch: int, per_image: bool) -> Tensor:
        """What is drawn for this pass, of the pool where there is one.

        Args:
            batch: number of images B.
            per_image: keep the first axis where all images share one draw.
        """
        count = batch if self.per_sample else 1
        if self.pool is None:
            drawn = self._draw(count)
        else:
            index = draw_uniform(self.state, self.matrix, [count]) * len(self.pool)
            drawn = self.pool[index.long()]
        return drawn if self.per_sample or per_image else drawn[0]

    def forward(self, batch: int, features: Tensor | None = None) -> Tensor:
        """The graph of this pass.

        Args:
            batch: number of images B.
            features: of the images; not read.

        Returns:
            (K, K), or (B, K, K) in training with one graph per image.
        """
        if not self.dynamic:
            return self.matrix
        if not self.training:
            if self.expectation:
                return self.matrix
            # below Eq. 7: for inference A_d = 1, each edge of which A_s gives a chance to
            return torch.ones_like(self.matrix) if self.complete else (self.matrix > 0).to(self.matrix.dtype)
        return self._next(batch, False)


def configured_statistics(config: PoseNetworkConfig) -> PoseStatistics | None:
    """The pose statistics of a file or of graphpose that a configuration names; None where it names none.

    Of a folder of kinds of poses they are those of all its persons together.

    Raises:
        GraphposeError: the file cannot be read, there are no statistics for the skeleton, or "train" is named, for only
            a run has a training set.
    """
    if config.statistics is None:
        return None
    if config.statistics == "train":
        raise GraphposeError(
            "statistics=train are those of a run's training set; outside of a run hand them over as pose_statistics"
        )
    if config.statistics == "shipped":
        return shipped_statistics(config.skeleton)
    if config.weighs_modes:
        return pooled_statistics(configured_modes(config))
    if config.has_modes and Path(config.statistics).is_dir():
        return pooled_statistics(read_modes(config.statistics)).require(config.skeleton)
    return load_statistics(config.statistics).require(config.skeleton)


def configured_modes(config: PoseNetworkConfig) -> tuple[PoseStatistics, ...]:
    """The kinds of poses of the folder that a configuration names; none where they are those of a training set, or
    where the network weighs none.

    Raises:
        GraphposeError: the folder cannot be read, has another number of kinds, or they are another skeleton's.
    """
    if not config.weighs_modes or config.statistics in (None, "train"):
        return ()
    if Path(config.statistics).is_file():
        raise GraphposeError(
            f"statistics '{config.statistics}' with modes={config.modes}: a file is one kind of poses; name the folder "
            "of the kinds, or set statistics=train or modes=1"
        )
    kinds = read_modes(config.statistics)
    if len(kinds) != config.modes:
        raise GraphposeError(
            f"modes={config.modes} with statistics '{config.statistics}': that folder has {len(kinds)} kinds of poses; "
            f"set modes={len(kinds)}"
        )
    for kind in kinds:
        kind.require(config.skeleton)
    return kinds


def configured_source(config: PoseNetworkConfig, matrix: Tensor) -> dict[str, str]:
    """What a checkpoint says of where a graph of the user's is from."""
    from graphpose.graphs.custom_adjacency import adjacency_source  # as in configured_adjacency

    return adjacency_source(config.adjacency, matrix)


def configured_adjacency(
    config: PoseNetworkConfig, statistics: PoseStatistics | None = None, modes: Sequence[PoseStatistics] = ()
) -> Tensor:
    """(K, K) float32 matrix of the configured graph: A_I, A_h, all ones, A_s (also for "dynamic") or the user's own; of
    several kinds of poses (C, K, K).

    Args:
        config: names the graph. A function of the user's is imported and called.
        statistics: M_d; None takes what ``config`` names, or those shipped for the skeleton.
        modes: the kinds of poses, where the network weighs several.

    Raises:
        GraphposeError: no statistics for the skeleton, or statistics of another one; or the user's graph is none of
            these keypoints.
    """
    try:
        if config.own_adjacency:
            from graphpose.graphs.custom_adjacency import custom_adjacency  # imports PyG, which other graphs do without

            known = statistics or (None if config.statistics == "train" else configured_statistics(config))
            return custom_adjacency(config.adjacency, config.skeleton, known).float()
        if config.weighs_modes:
            if not modes:
                raise GraphposeError(
                    "its kinds of poses are those of a run's training set; outside of a run hand them over as "
                    "mode_statistics, or name a folder of them as statistics"
                )
            return mode_adjacencies(modes, config.gamma).float()
        statistics = statistics or configured_statistics(config)
        name = {"soft_modes": "soft", "modes": "dynamic"}.get(config.adjacency, config.adjacency)
        return adjacency_matrix(config.skeleton, name, statistics, config.gamma).float()
    except GraphposeError as error:
        raise GraphposeError(
            f"adjacency '{config.adjacency}' with skeleton '{config.skeleton.name}': {error}"
        ) from error
