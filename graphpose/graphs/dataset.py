"""Labelled persons as a PyG data set of graphs over the same keypoints.

Each person is a ``Data`` with

- ``x`` (K, 3): x, y as in ``pos``, and visibility (0 not labelled, 1 hidden, 2 visible);
- ``pos`` (K, 2): x right, y down, from the middle of the person's labelled keypoints, in units of its scale; 0 where
  not labelled;
- ``mask`` (K,) bool: labelled. ``data.subgraph(data.mask)`` is the graph of these keypoints alone;
- ``edge_index`` (2, E), ``edge_weight`` (E,), ``keypoints``, ``skeleton``, ``adjacency`` as in
  :mod:`graphpose.graphs.keypoint_graph`, one and the same tensors for all persons;
- ``scale`` (1,) and ``middle`` (1, 2) in pixels: ``pos * scale + middle`` are pixels of the image again;
- ``image_id`` and ``annotation_id`` (1,) of the file, and ``y`` (1,) where labels were given.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.data.separate import separate

from graphpose.data.annotations.read import read_annotations
from graphpose.data.annotations.table import Annotations
from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import ADJACENCIES
from graphpose.graphs.custom_adjacency import as_adjacency, custom_adjacency
from graphpose.graphs.keypoint_graph import from_dense, keypoint_graph, keypoint_nodes
from graphpose.graphs.statistics import PoseStatistics
from graphpose.skeleton import ScaleRule, Skeleton

if TYPE_CHECKING:
    import networkx

FORMAT = 1  # of the file below processed/; another number makes it anew


class KeypointGraphDataset(InMemoryDataset):
    """The labelled persons of an annotation file, as graphs.

    Edges are kept once, not per person: 149,813 persons of 17 keypoints take 74 MB whatever the adjacency. What is kept
    on disk (``root/processed``, PyG's way) has no edges, so that all adjacencies share it; its name holds the
    annotation file's checksum, so that another file of the same name is read anew.

    Args:
        annotations: file in any form that :func:`~graphpose.data.annotations.read.read_annotations` reads, or a table.
        skeleton: what the file must contain; None takes what it says itself.
        adjacency: a name of :func:`~graphpose.graphs.adjacency.adjacency_matrix`; a file or ``package.module:function``
            of :func:`~graphpose.graphs.custom_adjacency.custom_adjacency`; or what
            :func:`~graphpose.graphs.custom_adjacency.as_adjacency` takes: a (K, K) matrix whose row i belongs to the
            keypoint that receives, a ``Data`` or a networkx graph.
        root: folder to keep the persons in; None keeps them in memory only. A table is never kept on disk.
        y: label of every person by its annotation id.
        statistics: M_d of soft and dynamic graphs; by default what is shipped for the skeleton.
        gamma: γ of Eq. 6.
        scale_rule: what a person's scale is; the skeleton's own rule by default.
        min_keypoints: persons with fewer labelled keypoints are left out.
        transform: of each ``Data`` when it is asked for.

    Raises:
        GraphposeError: the file or the adjacency is not usable, nobody is left, or ``y`` lacks a person.
    """

    def __init__(
        self,
        annotations: str | Path | Annotations,
        skeleton: Skeleton | None = None,
        adjacency: str | Tensor | np.ndarray | Data | networkx.Graph = "hand_crafted",
        *,
        root: str | Path | None = None,
        y: Mapping[int, float] | None = None,
        statistics: PoseStatistics | None = None,
        gamma: float = 0.5,
        scale_rule: ScaleRule | None = None,
        min_keypoints: int = 1,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        if isinstance(annotations, Annotations) and root is not None:
            raise GraphposeError(f"root {root}: a table of annotations is not kept on disk; give the file it is from")
        if isinstance(adjacency, str) and adjacency not in ADJACENCIES and not _is_custom(adjacency):
            raise GraphposeError(
                f"unknown adjacency '{adjacency}'; choose one of {', '.join(ADJACENCIES)}, a file or module:function"
            )
        self._source = annotations if isinstance(annotations, Annotations) else Path(annotations)
        self._asked, self._scale_rule = skeleton, scale_rule
        self._kept = root is not None  # PyG's own root is never None
        super().__init__(None if root is None else str(root), transform, log=False)
        if not self._kept:
            self._data, self.slices, self.skeleton = self._read()
        else:
            self.load(self.processed_paths[0])
            self.skeleton = Skeleton.from_dict(json.loads(self._data.skeleton_json))
            del self._data.skeleton_json
        self._indices = self._with_keypoints(min_keypoints)
        self._label(y)
        self._graph = self._edges(adjacency, statistics, gamma)

    @property
    def has_process(self) -> bool:
        """Whether persons are kept on disk."""
        return self._kept

    @property
    def raw_file_names(self) -> list[str]:
        return []  # the annotation file lies wherever it lies

    @property
    def processed_file_names(self) -> str:
        assert isinstance(self._source, Path)
        try:
            checksum = hashlib.sha256(self._source.read_bytes())
        except OSError as error:
            raise GraphposeError(f"annotation file {self._source} cannot be read: {error.strerror}") from None
        asked = self._asked and self._asked.to_dict()
        checksum.update(json.dumps([FORMAT, asked, self._scale_rule]).encode())
        return f"{self._source.name.partition('.')[0]}-{checksum.hexdigest()[:16]}.pt"

    def process(self) -> None:
        """Read the annotation file and keep its persons; called by PyG where they are not on disk yet."""
        data, slices, skeleton = self._read()
        data.skeleton_json = json.dumps(skeleton.to_dict())
        path = Path(self.processed_paths[0])
        temporary = path.with_suffix(".tmp")
        torch.save((data.to_dict(), slices), temporary)  # as PyG's save, which takes a list of graphs instead
        temporary.replace(path)

    def _read(self) -> tuple[Data, dict[str, Tensor], Skeleton]:
        """All labelled persons as one ``Data`` with PyG's slices."""
        table = self._source if isinstance(self._source, Annotations) else read_annotations(self._source, self._asked)
        if self._asked is not None and table.skeleton.keypoints != self._asked.keypoints:
            raise GraphposeError(
                f"{table.path} has the {table.skeleton.num_keypoints} keypoints of '{table.skeleton.name}', not those "
                f"of skeleton '{self._asked.name}'"
            )
        skeleton = self._asked or table.skeleton
        scale = table.scales(self._scale_rule or skeleton.scale_rule)
        rows = np.flatnonzero(table.labelled & ~np.isnan(scale))
        if not len(rows):
            raise GraphposeError(f"{table.path} has no person with a labelled keypoint; there are no graphs to make")
        keypoints, scale = table.keypoints[rows], scale[rows]
        mask = keypoints[:, :, 2] > 0  # (N, K)
        middle = keypoints[:, :, :2].sum(axis=1) / mask.sum(axis=1, keepdims=True)  # unlabelled are 0, 0
        pos = (keypoints[:, :, :2] - middle[:, None]) / scale[:, None, None] * mask[:, :, None]
        N, K = mask.shape
        data = Data(
            x=torch.from_numpy(np.concatenate((pos, keypoints[:, :, 2:]), axis=2)).float().view(N * K, 3),
            pos=torch.from_numpy(pos).float().view(N * K, 2),
            mask=torch.from_numpy(mask).view(N * K),
            scale=torch.from_numpy(scale).float(),
            middle=torch.from_numpy(middle).float(),
            image_id=torch.from_numpy(table.image_ids[rows]),
            annotation_id=torch.from_numpy(table.ids[rows]),
        )
        of_nodes, of_persons = torch.arange(0, (N + 1) * K, K), torch.arange(N + 1)
        slices = {key: of_nodes if key in ("x", "pos", "mask") else of_persons for key in data.keys()}  # noqa: SIM118
        return data, slices, skeleton

    def _with_keypoints(self, least: int) -> list[int] | None:
        """PyG's indices of the persons with so many labelled keypoints; None for all."""
        counts = self._data.mask.view(-1, self.num_keypoints).sum(1)
        if not bool((counts >= least).any()):
            raise GraphposeError(
                f"min_keypoints {least}: no person has so many labelled keypoints; the most are {int(counts.max())}"
            )
        return None if least <= 1 else torch.nonzero(counts >= least).flatten().tolist()

    def _label(self, y: Mapping[int, float] | None) -> None:
        if y is None:
            return
        ids = self._data.annotation_id[list(self.indices())].tolist()
        missing = [own for own in ids if own not in y]
        if missing:
            raise GraphposeError(f"y has no label for annotation {missing[0]} ({len(missing)} of {len(ids)} lack one)")
        labels = torch.tensor([y[own] for own in ids])
        self._data.y = labels.new_zeros(len(self._data.annotation_id))
        self._data.y[list(self.indices())] = labels
        self.slices["y"] = self.slices["scale"]  # type: ignore[index]

    def _edges(self, adjacency: Any, statistics: PoseStatistics | None, gamma: float) -> Data:
        if isinstance(adjacency, str) and adjacency in ADJACENCIES:
            return keypoint_graph(self.skeleton, adjacency, statistics, gamma)
        if isinstance(adjacency, str):
            matrix = custom_adjacency(adjacency, self.skeleton, statistics)
        else:
            matrix = as_adjacency(adjacency, self.skeleton, "the adjacency")
        graph = from_dense(matrix.to(torch.get_default_dtype()), keypoint_nodes(self.skeleton))
        graph.adjacency = Path(adjacency).name if isinstance(adjacency, str) else "given"
        return graph

    @property
    def num_keypoints(self) -> int:
        """K."""
        return self.skeleton.num_keypoints

    @property
    def graph(self) -> Data:
        """The graph that all persons share, with names and without positions."""
        return copy.copy(self._graph)

    def get(self, idx: int) -> Data:
        """Person ``idx`` of the file with the shared edges; a new ``Data`` each time."""
        # Not PyG's own, which would keep every Data that was ever asked for: 5 kB a person.
        if len(self._data.annotation_id) == 1:
            own = copy.copy(self._data)
        else:
            own = separate(Data, self._data, idx, self.slices, decrement=False)
        data = copy.copy(self._graph)
        for key, value in own.to_dict().items():
            data[key] = value
        return data

    def stacked(self, key: str) -> Tensor:
        """An entry of all persons of this set: (N, K, …) of nodes, (N, …) of persons.

        The way to train on dense batches: no ``Data`` is made.

        Raises:
            GraphposeError: it is no entry, or one of the shared graph.
        """
        if key not in self.slices:  # type: ignore[operator]
            raise GraphposeError(f"'{key}' is no entry of a person; choose one of {', '.join(sorted(self.slices))}")  # type: ignore
        value = self._data[key]
        if key in ("x", "pos", "mask"):
            value = value.view(-1, self.num_keypoints, *value.shape[1:])
        return value if self._indices is None else value[torch.tensor(self._indices, dtype=torch.long)]

    def split(self, shares: Sequence[float], seed: int = 0) -> tuple[KeypointGraphDataset, ...]:
        """Parts of the images with all their persons, so that no image is in two parts.

        Args:
            shares: of the images, positive and in sum at most 1.
            seed: of the order in which images are dealt out.

        Returns:
            As many sets over the same memory, each in the order of this one.

        Raises:
            GraphposeError: shares are not such, or a part gets nobody.
        """
        if not shares or min(shares) <= 0 or not sum(shares) <= 1 + 1e-9:
            raise GraphposeError(f"shares {tuple(shares)} are not positive with a sum of at most 1")
        images, part_of = self.stacked("image_id").unique(return_inverse=True)
        place = torch.empty(len(images), dtype=torch.long)
        place[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))] = torch.arange(len(images))
        ends = [round(len(images) * math.fsum(shares[: n + 1])) for n in range(len(shares))]
        parts = []
        for low, high in zip([0, *ends], ends, strict=False):
            chosen = (place[part_of] >= low) & (place[part_of] < high)
            if not bool(chosen.any()):
                raise GraphposeError(f"shares {tuple(shares)} of {len(images)} images leave a part without a person")
            parts.append(self[chosen])
        return tuple(parts)

    def __repr__(self) -> str:
        kind: Any = self._graph.adjacency
        return f"{type(self).__name__}({len(self)} persons, {self.skeleton.name}, {kind})"


def _is_custom(adjacency: str) -> bool:
    """Whether it names a file or a function."""
    return ":" in adjacency or Path(adjacency).suffix != ""
