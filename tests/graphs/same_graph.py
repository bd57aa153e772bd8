"""What tests of keypoint graphs share."""

import torch
from torch_geometric.data import Data


def assert_same_graph(a: Data, b: Data) -> None:
    assert torch.equal(a.edge_index, b.edge_index)
    assert torch.equal(a.edge_weight, b.edge_weight)
    assert a.edge_weight.dtype == b.edge_weight.dtype
    assert (a.num_nodes, a.keypoints, a.skeleton, a.adjacency) == (b.num_nodes, b.keypoints, b.skeleton, b.adjacency)
    assert ("pos" in a) == ("pos" in b)
    if "pos" in a:
        assert torch.equal(a.pos, b.pos)
