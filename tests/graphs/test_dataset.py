"""Labelled persons as a PyG data set: values by hand, one graph for all, the cache on disk, and PyG's own tools."""

import json
import os
import resource

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import DenseGCNConv, GCNConv

from graphpose.data.annotations.read import read_annotations
from graphpose.errors import GraphposeError
from graphpose.graphs import dataset as module
from graphpose.graphs.adjacency import ADJACENCIES, adjacency_matrix
from graphpose.graphs.dataset import KeypointGraphDataset
from graphpose.graphs.keypoint_graph import to_dense, to_networkx
from graphpose.graphs.transforms import SampleEdges
from graphpose.skeleton import COCO

PERSONS = [  # id, image, area, keypoints; 14 is labelled nowhere, 15 is a crowd
    (11, 1, 100.0, [10, 20, 2, 30, 20, 1, 20, 50, 2]),
    (12, 2, 400.0, [0, 0, 0, 7, 8, 2, 0, 0, 0]),
    (13, 2, 25.0, [5, 5, 2, 0, 0, 0, 15, 5, 1]),
    (14, 2, 25.0, [0] * 9),
    (15, 1, 900.0, [1, 1, 2, 2, 2, 2, 3, 3, 2]),
]


@pytest.fixture
def file(tmp_path):
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 90, "height": 90} for i in (1, 2)],
        "categories": [{"id": 1, "name": "trio", "keypoints": ["a", "b", "c"], "skeleton": [[1, 2], [2, 3]]}],
        "annotations": [
            {"id": i, "image_id": image, "category_id": 1, "area": area, "bbox": [0, 0, 9, 9], "keypoints": keypoints,
             "iscrowd": int(i == 15), "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
             "segmentation": {"counts": [8100], "size": [90, 90]}}
            for i, image, area, keypoints in PERSONS
        ],
    }  # fmt: skip
    path = tmp_path / "trio.json"
    path.write_text(json.dumps(content))
    return path


def test_a_person_is_scaled_around_the_middle_of_what_is_labelled(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = KeypointGraphDataset(file)
    assert [int(data.annotation_id) for data in dataset] == [11, 12, 13]
    data = dataset[0]  # middle (20, 30), scale √100
    assert data.pos.tolist() == [[-1, -1], [1, -1], [0, 2]]
    assert data.x.tolist() == [[-1, -1, 2], [1, -1, 1], [0, 2, 2]]
    assert data.mask.tolist() == [True, True, True]
    assert (data.scale.tolist(), data.middle.tolist(), data.image_id.tolist()) == ([10], [[20, 30]], [1])
    data = dataset[2]  # middle (10, 5), scale 5; b is missing
    assert data.pos.tolist() == [[-1, 0], [0, 0], [1, 0]]
    assert data.x.tolist() == [[-1, 0, 2], [0, 0, 0], [1, 0, 1]]
    assert data.mask.tolist() == [True, False, True]
    assert "y" not in data
    pixels = data.pos * data.scale + data.middle
    assert pixels[data.mask].tolist() == [[5, 5], [15, 5]]
    assert list(tmp_path.iterdir()) == [file]  # nothing is kept without a root


def test_missing_keypoints_leave_with_their_names_and_edges(file):
    data = KeypointGraphDataset(file, adjacency="full")[2]
    labelled = data.subgraph(data.mask)
    assert labelled.keypoints == ["a", "c"]
    assert to_dense(labelled).tolist() == [[1, 1], [1, 1]]
    assert dict(to_networkx(labelled).nodes(data="pos")) == {"a": (-1, 0), "c": (1, 0)}


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_every_person_has_the_same_graph(data_root, adjacency):
    path = data_root / "coco/annotations/person_keypoints_val2017_local.json"
    dataset = KeypointGraphDataset(path, COCO, adjacency)
    expected = adjacency_matrix(COCO, adjacency).float()
    for data in (dataset[0], dataset[-1], dataset[3:5][1]):
        torch.testing.assert_close(to_dense(data), expected)
        assert data.adjacency == adjacency
    assert dataset[0].edge_index.data_ptr() == dataset[1].edge_index.data_ptr()


def test_a_matrix_is_an_adjacency_whose_rows_receive(file):
    A = np.array([[1, 0.5, 0], [0, 1, 0], [0.25, 0, 1]])
    data = KeypointGraphDataset(file, adjacency=A)[0]
    assert to_dense(data).tolist() == A.tolist()
    assert data.adjacency == "given"


def test_a_graph_of_ones_own_is_an_adjacency_too(file, tmp_path):
    A = [[1, 0.5, 0], [0, 1, 0], [0.25, 0, 1]]
    graph = KeypointGraphDataset(file, adjacency=np.array(A)).graph
    np.savetxt(tmp_path / "mine.csv", A, delimiter=",")
    for own in (graph, to_networkx(graph), str(tmp_path / "mine.csv")):
        assert to_dense(KeypointGraphDataset(file, adjacency=own)[0]).tolist() == A
    assert KeypointGraphDataset(file, adjacency=str(tmp_path / "mine.csv"))[0].adjacency == "mine.csv"


def test_what_a_transform_does_to_one_person_stays_with_that_person(file):
    dataset = KeypointGraphDataset(file, adjacency=0.5 * torch.ones(3, 3), transform=SampleEdges(torch.Generator()))
    drawn = [dataset[0].num_edges for _ in range(20)]
    assert len(set(drawn)) > 1
    assert dataset.graph.num_edges == 9


def test_pyg_loader_and_stacked_tensors_are_the_same_batch(data_root):
    path = data_root / "coco/annotations/person_keypoints_val2017_local.json"
    dataset = KeypointGraphDataset(path, adjacency="soft", min_keypoints=5)
    batch = next(iter(DataLoader(dataset, batch_size=7)))
    assert batch.num_graphs == 7
    torch.testing.assert_close(batch.x.view(7, 17, 3), dataset.stacked("x")[:7])
    torch.testing.assert_close(batch.image_id, dataset.stacked("image_id")[:7])
    # a layer over PyG's block-diagonal edges is its dense twin over the one shared matrix
    sparse, dense = GCNConv(3, 4, add_self_loops=False), DenseGCNConv(3, 4)
    dense.load_state_dict(sparse.state_dict())
    degree = to_dense(dataset.graph).sum(1)  # GCNConv: of what a keypoint receives, as D of Eq. 4
    A = to_dense(dataset.graph) / (degree[:, None] * degree).sqrt()
    expected = A @ (dataset.stacked("x")[:7] @ sparse.lin.weight.T) + sparse.bias
    torch.testing.assert_close(sparse(batch.x, batch.edge_index, batch.edge_weight).view(7, 17, 4), expected)
    torch.testing.assert_close(dense(dataset.stacked("x")[:7], to_dense(dataset.graph)), expected)


def test_persons_are_kept_on_disk_until_the_file_changes(file, tmp_path, monkeypatch):
    root = tmp_path / "kept"
    first = KeypointGraphDataset(file, adjacency="full", root=root)
    read = []
    monkeypatch.setattr(module, "read_annotations", lambda *args: read.append(args) or read_annotations(*args))
    again = KeypointGraphDataset(file, adjacency="identity", root=root)
    assert read == []
    assert again.skeleton == first.skeleton
    for a, b in zip(first, again, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in ("x", "pos", "mask", "scale", "middle", "image_id"))
    content = json.loads(file.read_text())
    content["annotations"][0]["area"] = 400.0
    file.write_text(json.dumps(content))
    assert KeypointGraphDataset(file, root=root)[0].pos[0].tolist() == [-0.5, -0.5]
    assert KeypointGraphDataset(file, root=root, scale_rule="bbox_diagonal")[0].scale.tolist() == [
        pytest.approx(9 * 2**0.5)
    ]
    assert len(read) == 2


def test_no_image_is_in_two_parts_and_parts_are_drawn_by_seed(data_root):
    path = data_root / "coco/annotations/person_keypoints_train2017_local.json"
    dataset = KeypointGraphDataset(path)
    parts = dataset.split((0.5, 0.3, 0.2), seed=1)
    images = [set(part.stacked("image_id").tolist()) for part in parts]
    assert sum(map(len, images)) == len(set.union(*images)) == len(dataset.stacked("image_id").unique())
    assert sum(map(len, parts)) == len(dataset)
    assert len(images[0]) == pytest.approx(0.5 * sum(map(len, images)), abs=1)
    same, other = dataset.split((0.5,), seed=1), dataset.split((0.5,), seed=2)
    assert torch.equal(same[0].stacked("annotation_id"), parts[0].stacked("annotation_id"))
    assert set(other[0].stacked("annotation_id").tolist()) != set(parts[0].stacked("annotation_id").tolist())
    assert [int(data.annotation_id) for data in parts[2]] == parts[2].stacked("annotation_id").tolist()


def test_labels_are_given_by_annotation(file):
    dataset = KeypointGraphDataset(file, y={11: 3, 12: 0, 13: 1, 99: 5})
    assert [int(data.y) for data in dataset] == [3, 0, 1]
    assert dataset.stacked("y").tolist() == [3, 0, 1]
    assert dataset.num_classes == 4
    assert KeypointGraphDataset(file, min_keypoints=2, y={11: 0.5, 13: 1.5})[1].y.tolist() == [1.5]


def test_wrong_input_is_named(file, tmp_path):
    for arguments, message in (
        ({"adjacency": "handcrafted"}, "unknown adjacency 'handcrafted'; choose one of identity"),
        ({"adjacency": torch.ones(2, 3)}, "the adjacency is 2 × 3; skeleton"),
        ({"adjacency": torch.ones(2, 2)}, "the adjacency is 2 × 2; skeleton"),
        ({"adjacency": "nowhere.csv"}, r"nowhere\.csv"),
        ({"adjacency": "soft"}, "no statistics are shipped for skeleton 'trio'"),
        ({"min_keypoints": 4}, "min_keypoints 4: no person has so many labelled keypoints; the most are 3"),
        ({"y": {11: 1}}, r"y has no label for annotation 12 \(2 of 3 lack one\)"),
        ({"skeleton": COCO}, "not the 17 of skeleton 'coco'"),
    ):
        with pytest.raises(GraphposeError, match=message):
            KeypointGraphDataset(file, **arguments)
    with pytest.raises(GraphposeError, match=r"missing\.json does not exist"):
        KeypointGraphDataset(tmp_path / "missing.json")
    with pytest.raises(GraphposeError, match=r"missing\.json cannot be read: No such file"):
        KeypointGraphDataset(tmp_path / "missing.json", root=tmp_path / "root")
    with pytest.raises(GraphposeError, match="a table of annotations is not kept on disk"):
        KeypointGraphDataset(read_annotations(file), root=tmp_path / "root")
    dataset = KeypointGraphDataset(file)
    with pytest.raises(
        GraphposeError, match="'edge_index' is no entry of a person; choose one of annotation_id, image_id"
    ):
        dataset.stacked("edge_index")
    with pytest.raises(GraphposeError, match=r"shares \(0.9, 0.2\) are not positive"):
        dataset.split((0.9, 0.2))
    with pytest.raises(GraphposeError, match="of 2 images leave a part without a person"):
        dataset.split((0.1, 0.9))
    (nobody := json.loads(file.read_text()))["annotations"] = []
    file.write_text(json.dumps(nobody))
    with pytest.raises(GraphposeError, match=r"trio\.json has no person with a labelled keypoint"):
        KeypointGraphDataset(file)


@pytest.mark.slow
def test_all_of_train2017_is_read_from_the_disk_in_little_memory(data_root, tmp_path):
    path = data_root / "coco/annotations/person_keypoints_train2017.json.gz"
    assert len(KeypointGraphDataset(path, root=tmp_path, adjacency="full")) == 149_813
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dataset = KeypointGraphDataset(path, root=tmp_path, adjacency="full")
    assert sum(os.path.getsize(name) for name in dataset.processed_paths) < 70e6
    assert sum(dataset.stacked(key).nbytes for key in ("x", "pos", "mask", "scale", "middle")) < 60e6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100e3  # kB
