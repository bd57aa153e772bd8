"""Network configuration: plain values, refused when they contradict each other."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.errors import GraphposeError
from graphpose.nn.config import PoseNetworkConfig
from graphpose.skeleton import COCO, CROWDPOSE, MPII, Skeleton


@settings(max_examples=50, deadline=None)
@given(
    skeleton=st.sampled_from([COCO, MPII, CROWDPOSE, Skeleton("two", ("a", "b"), ((0, 1),), (0.1, 0.2))]),
    adjacency=st.sampled_from(["identity", "hand_crafted", "full", "soft", "dynamic"]),
    strides=st.sets(st.sampled_from([4, 8, 16]), min_size=1).map(tuple),
    width=st.integers(1, 4),
    upsample=st.sampled_from([1, 2, 4]),
    pretrained=st.sampled_from([True, False, "file.safetensors"]),
)
def test_dictionaries_are_plain_and_give_the_configuration_back(
    skeleton, adjacency, strides, width, upsample, pretrained
):
    config = PoseNetworkConfig(
        skeleton=skeleton,
        adjacency=adjacency,
        strides=strides,
        node_width=width,
        upsample=upsample,
        pretrained=pretrained,
    )
    assert PoseNetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_defaults_are_the_papers():
    config = PoseNetworkConfig()
    assert (config.backbone, config.adjacency, config.gamma, config.strides) == ("resnet50", "dynamic", 0.5, (16,))
    assert (config.node_width, config.graph_layers, config.absent_edges) == (1, 2, "zero")
    assert config.field_stride == 8


def test_strides_are_ordered_and_a_single_one_may_be_a_number():
    assert PoseNetworkConfig(strides=[4, 16, 8]).strides == (16, 8, 4)
    assert PoseNetworkConfig(strides=8).strides == (8,)


def test_skeleton_may_be_a_name_or_a_dictionary():
    assert PoseNetworkConfig(skeleton="mpii").skeleton is MPII
    assert PoseNetworkConfig(skeleton=MPII.to_dict()).skeleton == MPII


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adjacency": "Dynamic"}, "adjacency 'Dynamic' is unknown; choose one of none, identity, hand_crafted"),
        ({"absent_edges": "no"}, "absent_edges 'no' is unknown; choose one of zero, masked"),
        ({"backbone_variant": "v2"}, "backbone_variant 'v2' is unknown; choose one of auto, v1, v1.5"),
        ({"adjacency": "none", "strides": (16, 8)}, r"strides \(16, 8\) with adjacency 'none'"),
        ({"dilate": True}, "dilate=True with stem_pool=False"),
        ({"upsample": 3}, r"upsample 3 with strides \(16,\)"),
        ({"upsample": 0}, "upsample 0 must be at least 1"),
        ({"graph_pool": 4, "adjacency": "soft"}, "graph_pool=4 with adjacency 'soft'"),
        ({"per_sample": True, "adjacency": "none"}, "per_sample=True with adjacency 'none'"),
        ({"strides": ()}, "must name at least one stride"),
        ({"strides": (16, 16)}, "none twice"),
        ({"strides": (12,)}, "12 is not a power of two"),
        ({"graph_layer": "convolution"}, "graph_layer 'convolution' with adjacency 'dynamic'.*set adjacency=full"),
        ({"gamma": 0.0}, "gamma 0.0 must be a positive number"),
        ({"node_width": 0}, "node_width 0 must be at least 1"),
        ({"skeleton": "cow"}, "unknown skeleton 'cow'; choose one of coco"),
    ],
)
def test_contradictions_are_refused_naming_the_settings(settings, message):
    with pytest.raises(GraphposeError, match=message):
        PoseNetworkConfig(**settings)


def test_an_unknown_key_is_refused_with_the_valid_ones():
    with pytest.raises(GraphposeError, match=r"unknown network setting 'adjacancy'; choose from .*adjacency"):
        PoseNetworkConfig.from_dict({"adjacancy": "soft"})
