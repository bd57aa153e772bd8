"""Weights of one skeleton for a network of another: exactly the channels that mean the same, and nothing else."""

import dataclasses

import pytest
import torch
from torch import nn

from graphpose.errors import GraphposeError
from graphpose.fields.spec import PAF
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.nn.transfer import correspondence, transfer
from graphpose.skeleton import COCO, CROWDPOSE, Skeleton

OLD = Skeleton("old", ("head", "left_hand", "right_hand", "tail"), ((0, 1), (0, 2), (3, 0)), (0.1,) * 4)
# tail and head are known; the limb between them is turned; "l_wrist" is no "left_hand"
NEW = Skeleton("new", ("tail", "l_wrist", "head", "horn", "hoof"), ((2, 0), (2, 3), (1, 2), (2, 4)), (0.1,) * 5)
SETTINGS = {"backbone": "test_resnet", "stem_pool": True, "upsample": 2, "node_width": 2, "strides": (16, 8)}


def trained(skeleton: Skeleton, **settings) -> PoseNetwork:
    """A network none of whose tensors is what it began as."""
    network = PoseNetwork(
        PoseNetworkConfig(**{"skeleton": skeleton, "adjacency": "hand_crafted", **SETTINGS, **settings})
    )
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return network.eval()


def test_keypoints_of_one_name_or_of_one_side_and_part_correspond():
    common = correspondence(OLD, NEW)
    assert common.keypoints == ((0, 3), (2, 0))
    assert common.limbs == ((0, 2, True),)
    halpe = Skeleton("feet", ("Nose", "LShoulder", "r_shoulder", "heel", "neck"), ((0, 4), (1, 4)), (0.1,) * 5)
    assert correspondence(COCO, halpe).keypoints == ((0, 0), (1, 5), (2, 6))
    assert correspondence(CROWDPOSE, halpe).keypoints == ((1, 0), (2, 1), (4, 13))
    unsure = Skeleton("unsure", ("left_hip", "LHip", "lhip"), ((0, 1),), (0.1,) * 3)
    assert correspondence(COCO, unsure).keypoints == ((0, 11),)  # the name itself is sure
    assert correspondence(COCO, COCO).limbs == tuple((m, m, False) for m in range(19))


def test_channels_of_common_keypoints_are_taken_and_all_others_stay():
    old, network = trained(OLD), PoseNetwork(PoseNetworkConfig(skeleton=NEW, adjacency="hand_crafted", **SETTINGS))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    common = transfer(network, old.state_dict(), OLD)
    own, theirs = network.state_dict(), old.state_dict()
    for name in own:
        if name.startswith("backbone."):
            assert torch.equal(own[name], theirs[name])
        elif name.startswith("keypoint_graph.") or ".non_local." in name:
            assert torch.equal(own[name], before[name])

    def fields(state, head, count):  # (N, channels, u², C)
        return state[f"{head}.conv.weight"].flatten(1).unflatten(0, (count, -1, 4))

    pif, old_pif, fresh = fields(own, "pif_head", 5), fields(theirs, "pif_head", 4), fields(before, "pif_head", 5)
    assert torch.equal(pif[0], old_pif[3])  # tail
    assert torch.equal(pif[2], old_pif[0])  # head
    assert torch.equal(pif[[1, 3, 4]], fresh[[1, 3, 4]])
    paf, old_paf, fresh = fields(own, "paf_head", 4), fields(theirs, "paf_head", 3), fields(before, "paf_head", 4)
    ends = {PAF.X1: PAF.X2, PAF.Y1: PAF.Y2, PAF.SPREAD1: PAF.SPREAD2}
    for one, other in {PAF.CONFIDENCE: PAF.CONFIDENCE, **ends, **{b: a for a, b in ends.items()}}.items():
        assert torch.equal(paf[0, one], old_paf[2, other])  # tail–head as head–tail
    assert torch.equal(paf[1:], fresh[1:])
    for pyramid in ("pif_pyramid", "paf_pyramid"):
        for stride in (8, 16):
            place = f"{pyramid}.modules_at.{stride}"
            for name in ("reduce.weight", "norm.weight", "norm.running_var", "layers.1.norm.bias"):
                mine, old_one, fresh = (
                    state[f"{place}.{name}"].unflatten(0, (-1, 2)) for state in (own, theirs, before)
                )
                assert torch.equal(mine[[0, 2]], old_one[[3, 0]])
                assert torch.equal(mine[[1, 3, 4]], fresh[[1, 3, 4]])
            expand, old_expand = (state[f"{place}.expand.weight"].unflatten(1, (-1, 2)) for state in (own, theirs))
            assert torch.equal(expand[:, [0, 2]], old_expand[:, [3, 0]])
            assert not expand[:, [1, 3, 4]].any()  # a new keypoint adds nothing yet
            W_d, old_W_d = (state[f"{place}.layers.0.conv.W_d"] for state in (own, theirs))
            assert torch.equal(W_d[0, [0, 2]], old_W_d[3, [3, 0]])
            assert W_d[2, 0] == old_W_d[0, 3]
            assert torch.equal(W_d[1], before[f"{place}.layers.0.conv.W_d"][1])
            for name in ("expand.bias", "layers.0.conv.weight"):
                assert torch.equal(own[f"{place}.{name}"], theirs[f"{place}.{name}"])
            assert torch.equal(own[f"{place}.read.bias"][[2, 0]], theirs[f"{place}.read.bias"][[0, 3]])
        for name in (name for name in own if name.startswith(f"{pyramid}.down.")):
            assert torch.equal(own[name], theirs[name])
    assert common.lines() == [
        "the trunk, 2 of 5 keypoints and 1 of 4 limbs of skeleton 'old' are taken over",
        "  taken: tail, head",
        "  begin anew: l_wrist, horn, hoof",
    ]


@pytest.mark.parametrize("adjacency", ["none", "hand_crafted"])
def test_a_body_with_feet_has_the_fields_of_its_body(adjacency):
    """Keypoints in another order, and limbs of its own; without graphs the fields are the same, with new ones too."""
    names = (*COCO.keypoints[::-1], "left_heel", "right_heel")
    limbs = tuple((16 - b, 16 - a) for a, b in COCO.limbs)
    feet = Skeleton("feet", names, (*limbs, (1, 17), (0, 18)), (0.1,) * 19)
    config = PoseNetworkConfig(backbone="test_resnet", stem_pool=True, upsample=2, adjacency="none")
    old = PoseNetwork(config).eval()
    for module in old.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
    network = PoseNetwork(dataclasses.replace(config, skeleton=feet, adjacency=adjacency)).eval()
    common = transfer(network, old.state_dict(), COCO)
    assert (len(common.keypoints), len(common.limbs)) == (17, 19)
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        fields, expected = network(images), old(images)
    torch.testing.assert_close(fields["pif"][:, :17], expected["pif"].flip(1))
    order = [PAF.CONFIDENCE, PAF.X2, PAF.Y2, PAF.SPREAD2, PAF.X1, PAF.Y1, PAF.SPREAD1]
    torch.testing.assert_close(fields["paf"][:, :19], expected["paf"][:, :, order])


@pytest.mark.parametrize("layer", ["convolution", "DenseGCNConv", "dgcn"])
def test_other_graph_layers_are_taken_where_they_correspond(layer):
    old = trained(OLD, adjacency="full", graph_layer=layer)
    settings = {**SETTINGS, "graph_layers": 3}  # one more than there is
    network = PoseNetwork(PoseNetworkConfig(skeleton=NEW, adjacency="full", graph_layer="convolution", **settings))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    transfer(network, old.state_dict(), OLD)
    for n in range(3):
        name = f"paf_pyramid.modules_at.8.layers.{n}.conv.weight"
        mine, fresh = (state[name].view(5, 2, 5, 2) for state in (network.state_dict(), before))
        if layer == "convolution" and n < 2:
            theirs = old.state_dict()[name].view(4, 2, 4, 2)
            assert torch.equal(mine[2, :, 0], theirs[0, :, 3])  # what head gets from tail
            assert torch.equal(mine[0, :, 0], theirs[3, :, 3])
            assert torch.equal(mine[1], fresh[1])
            assert torch.equal(mine[2, :, 1], fresh[2, :, 1])
        else:
            assert torch.equal(mine, fresh)
    norm = network.state_dict()["paf_pyramid.modules_at.8.layers.1.norm.bias"].unflatten(0, (5, 2))
    assert torch.equal(norm[2], old.state_dict()["paf_pyramid.modules_at.8.layers.1.norm.bias"].unflatten(0, (4, 2))[0])


def test_without_a_common_keypoint_only_the_trunk_is_taken():
    old, nobody = trained(OLD), Skeleton("nobody", ("x", "y"), ((0, 1),), (0.1, 0.1))
    network = PoseNetwork(PoseNetworkConfig(skeleton=nobody, adjacency="hand_crafted", **SETTINGS))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    common = transfer(network, old.state_dict(), OLD)
    for name, tensor in network.state_dict().items():
        taken = old.state_dict()[name] if name.startswith("backbone.") else before[name]
        assert torch.equal(tensor, taken)
    assert common.lines()[0] == "the trunk, 0 of 2 keypoints and 0 of 1 limbs of skeleton 'old' are taken over"


def test_weights_of_other_settings_are_refused():
    network = PoseNetwork(PoseNetworkConfig(skeleton=NEW, adjacency="none", **{**SETTINGS, "strides": (16,)}))
    with pytest.raises(GraphposeError, match=r"'pif_head\.conv\.weight' is \(320, 192, 1, 1\) where"):
        transfer(network, trained(OLD, upsample=4).state_dict(), OLD)
