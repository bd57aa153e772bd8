"""PyG's dense layers in a DGCM: against plain PyG on sparse graphs, folded, and layers of users."""

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv, GraphConv, MessagePassing
from torch_geometric.utils import scatter

from graphpose.checkpoint import load_network, save_checkpoint
from graphpose.errors import GraphposeError
from graphpose.graphs.adjacency import adjacency_matrix, sample_adjacency
from graphpose.graphs.keypoint_graph import batch_graphs, from_dense
from graphpose.nn.config import PYG_LAYERS, PoseNetworkConfig
from graphpose.nn.dgcm import GraphLayer
from graphpose.nn.fold import fold_graph_layer
from graphpose.nn.layers import AFFINE_LAYERS, DenseLayer
from graphpose.nn.network import PoseNetwork
from graphpose.nn.relations import learned_relations
from graphpose.skeleton import COCO
from tests.nn.own_layers import Half

K = 17
LAYERS = pytest.mark.parametrize("name", PYG_LAYERS)
WIDTHS = pytest.mark.parametrize("d", [1, 3])
SMALL = {"backbone": "test_resnet", "stem_pool": True}


class WeightedMean(MessagePassing):
    """DenseSAGEConv by messages: PyG's SAGEConv has no weights of edges."""

    def __init__(self, dense: nn.Module) -> None:
        super().__init__(aggr="add")
        self.dense = dense

    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        total = scatter(weight, edge_index[1], dim_size=len(x)).clamp(min=1)
        mean = self.propagate(edge_index, x=x, weight=weight) / total[:, None]
        return self.dense.lin_rel(mean) + self.dense.lin_root(x)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return weight[:, None] * x_j


class WeightedGIN(WeightedMean):
    """DenseGINConv by messages: PyG's GINConv has no weights of edges."""

    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        return self.dense.nn((1 + self.dense.eps) * x + self.propagate(edge_index, x=x, weight=weight))


def plain(name: str, dense: nn.Module, d: int, binary: bool) -> nn.Module:
    """PyG's own sparse layer with the parameters of the dense one."""
    if name == "DenseGCNConv":
        sparse: nn.Module = GCNConv(d, d, bias=False)
        sparse.lin.weight = dense.lin.weight
    elif name == "DenseGraphConv":
        sparse = GraphConv(d, d, bias=False)
        sparse.lin_rel.weight, sparse.lin_root.weight = dense.lin_rel.weight, dense.lin_root.weight
    elif name == "DenseGATConv":
        sparse = GATConv(d, d, bias=False, add_self_loops=False)  # every self-loop is there
        sparse.lin.weight = dense.lin.weight
        del sparse.att_src, sparse.att_dst  # the dense ones have one dimension more
        sparse.att_src, sparse.att_dst = dense.att_src[0], dense.att_dst[0]
    elif name == "DenseGINConv":
        sparse = GINConv(dense.nn) if binary else WeightedGIN(dense)
    else:
        sparse = WeightedMean(dense)
    return sparse.double()


def random_layer(name: str, d: int) -> DenseLayer:
    layer = DenseLayer(name, d, d).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


@LAYERS
@WIDTHS
@pytest.mark.parametrize("adjacency", ["identity", "hand_crafted", "soft", "drawn", "one way"])
def test_a_layer_is_pyg_s_sparse_one_on_the_same_graph_with_its_gradients(name, d, adjacency):
    soft = adjacency_matrix(COCO, "soft")
    if adjacency == "one way":
        A = torch.eye(K, dtype=torch.float64) + torch.diag(torch.ones(K - 1, dtype=torch.float64), 1)
    else:
        A = sample_adjacency(soft) if adjacency == "drawn" else adjacency_matrix(COCO, adjacency)
    layer = random_layer(name, d)
    sparse = plain(name, layer.conv, d, binary=bool((A == A.round()).all()))
    x = torch.randn(2, K, d, 3, 2, dtype=torch.float64, requires_grad=True)
    out = layer(x, A)
    goal = torch.randn_like(out)
    found = torch.autograd.grad((out * goal).sum(), [x, *layer.parameters()])

    data = batch_graphs([from_dense(A)] * 12)
    nodes = x.permute(0, 3, 4, 1, 2).reshape(-1, d)
    weights = () if name == "DenseGATConv" or isinstance(sparse, GINConv) else (data.edge_weight,)
    expected = sparse(nodes, data.edge_index, *weights).view(2, 3, 2, K, d).permute(0, 3, 4, 1, 2)
    gradients = torch.autograd.grad((expected * goal).sum(), [x, *layer.parameters()])
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=1e-10)
    for a, b in zip(found, gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@LAYERS
@WIDTHS
def test_one_graph_per_image_is_the_layer_on_each_of_them(name, d):
    graphs = sample_adjacency(adjacency_matrix(COCO, "soft"), 3)
    layer = random_layer(name, d)
    x = torch.randn(3, K, d, 2, 2, dtype=torch.float64)
    expected = torch.cat([layer(one[None], A) for one, A in zip(x, graphs, strict=True)])
    torch.testing.assert_close(layer(x, graphs), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", AFFINE_LAYERS)
@WIDTHS
def test_the_one_matrix_of_an_affine_layer_is_the_layer_at_every_position(name, d):
    A = adjacency_matrix(COCO, "soft")
    layer = random_layer(name, d)
    x = torch.randn(2, K, d, 5, dtype=torch.float64)
    quick = layer(x, A)
    layer.affine = False
    torch.testing.assert_close(layer(x, A), quick, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", ["DenseGINConv", "DenseGATConv"])
def test_the_others_are_not_affine(name):
    layer = random_layer(name, 3)
    a, b = torch.randn(2, 1, K, 3, dtype=torch.float64)
    A = adjacency_matrix(COCO, "soft")
    assert not torch.allclose(layer(a + b, A) + layer(0 * a, A), layer(a, A) + layer(b, A))


@pytest.mark.parametrize("name", [*PYG_LAYERS, "tests.nn.own_layers:Half"])
@WIDTHS
def test_a_layer_folds_with_its_batch_norm(name, d):
    config = PoseNetworkConfig(**SMALL, adjacency="soft", graph_layer=name, node_width=d)
    layer = GraphLayer(config)
    for tensor in (*layer.parameters(), layer.norm.running_mean, layer.norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2.0)
    A = adjacency_matrix(COCO, "soft").float()
    x = torch.randn(2, K * d, 4, 3)
    folded = fold_graph_layer(layer.eval(), A)
    assert isinstance(folded, nn.Conv2d) == (name in AFFINE_LAYERS or ":" in name)
    torch.testing.assert_close(folded(x).relu(), layer(x, A), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in PYG_LAYERS if name != "DenseGATConv"])
@pytest.mark.parametrize("d", [1, 2])
def test_layers_start_as_an_exchange_that_keeps_the_signs_of_confidences(name, d):
    """As the paper's does: a random sign would turn the maps over."""
    out = DenseLayer(name, d, d)(torch.ones(1, K, d, 1), adjacency_matrix(COCO, "soft").float())
    assert bool((out > 0).all())


@pytest.mark.parametrize("name", [*PYG_LAYERS, "tests.nn.own_layers:Half"])
def test_a_network_of_any_layer_learns_folds_and_comes_back(tmp_path, name):
    config = PoseNetworkConfig(**SMALL, adjacency="dynamic", graph_layer=name, node_width=2, per_sample=True)
    network = PoseNetwork(config)
    for pyramid in (network.pif_pyramid, network.paf_pyramid):
        nn.init.normal_(pyramid.modules_at["16"].expand.weight, std=0.1)
    images = torch.randn(2, 3, 65, 65)
    network(images)["pif"].sum().backward()
    convs = [layer.conv for layer in network.pif_pyramid.modules_at["16"].layers]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for conv in convs for p in conv.parameters())
    assert learned_relations(network) == {}
    save_checkpoint(tmp_path / "c.pt", network, network.config)
    loaded = load_network(tmp_path / "c.pt")
    network.eval()
    with torch.no_grad():
        expected = network(images)
        for other in (loaded, loaded.fold()):
            torch.testing.assert_close(other(images)["paf"], expected["paf"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.layers:Layer", r"graph_layer 'nowhere.layers:Layer' cannot be imported .* nowhere in PYTHONPATH"),
        ("tests.nn.own_layers:Nothing", "cannot be imported .*has no attribute 'Nothing'"),
        ("tests.nn.own_layers:NOT_A_LAYER", r"is no torch.nn.Module class"),
        ("tests.nn.own_layers:Unlike", r"Class\(in_channels, out_channels\)"),
        ("tests.nn.own_layers:Wider", r"makes \(2, 3, 3\) of \(2, 3, 2\) nodes, not \(2, 3, 2\)"),
    ],
)
def test_what_is_no_layer_is_named(name, message):
    with pytest.raises(GraphposeError, match=message):
        DenseLayer(name, 2, 2)


def test_a_checkpoint_does_not_import_the_layers_that_it_names(tmp_path, monkeypatch):
    (tmp_path / "stranger_s_layers.py").write_text(
        "from tests.nn.own_layers import Half\nclass Layer(Half): pass\nopen('imported', 'w').close()\n"
    )
    monkeypatch.chdir(tmp_path)
    network = PoseNetwork(PoseNetworkConfig(**SMALL, adjacency="full", graph_layer="tests.nn.own_layers:Half"))
    config = PoseNetworkConfig(**SMALL, adjacency="full", graph_layer="stranger_s_layers:Layer")
    save_checkpoint(tmp_path / "c.pt", network, config)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(
            GraphposeError, match=r"'stranger_s_layers:Layer', code .* GRAPHPOSE_LAYERS=stranger_s_layers:L"
        ):
            load_network(tmp_path / "c.pt")
        assert not (tmp_path / "imported").exists()
        patch.setenv("GRAPHPOSE_LAYERS", "other:Layer,stranger_s_layers:Layer")
        layer = load_network(tmp_path / "c.pt").pif_pyramid.modules_at["16"].layers[0].conv.conv
    assert isinstance(layer, Half)
    assert (tmp_path / "imported").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DenseGCNConv", "DenseGATConv"])
def test_layers_are_exported(name):
    from graphpose.inference.export import export_program

    network = PoseNetwork(PoseNetworkConfig(**SMALL, adjacency="soft", graph_layer=name)).eval()
    program = export_program(network).module()
    images = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        torch.testing.assert_close(program(images)[0], network(images)["pif"], atol=1e-4, rtol=1e-4)
