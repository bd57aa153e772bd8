"""Backbones: strides, sizes, cutting and weights."""

import os
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import save_file

from graphpose.errors import GraphposeError
from graphpose.nn import backbone as backbones
from graphpose.nn.backbone import Backbone
from graphpose.nn.weights import declared_variant, read_state


@pytest.mark.parametrize("name", ["resnet10t", "densenet121", "mobilenetv3_small_050", "convnext_atto", "regnetx_002"])
@pytest.mark.parametrize("size", [(65, 97), (80, 71)])
def test_features_have_the_size_of_their_stride_rounded_up(name, size):
    backbone = Backbone(name, (16, 8, 4), stem_pool=True).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, *size))
    for stride, level in features.items():
        assert tuple(level.shape[1:]) == (backbone.channels[stride], *(-(-side // stride) for side in size))


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet50", {16: 2048, 8: 1024, 4: 512}),
        ("resnext50_32x4d", {16: 2048, 8: 1024, 4: 512}),
        ("densenet121", {16: 1024, 8: 1024, 4: 512}),
    ],
)
def test_without_the_stem_pool_the_last_stages_are_at_strides_4_8_16(name, channels):
    with torch.device("meta"):
        assert Backbone(name, (16, 8, 4)).channels == channels


def test_with_the_stem_pool_stages_are_one_level_further_down():
    with torch.device("meta"):
        backbone = Backbone("resnet50", (4, 8, 16), stem_pool=True)
    assert backbone.channels == {4: 256, 8: 512, 16: 1024}


def test_dilation_holds_the_last_stage_at_stride_16():
    with torch.device("meta"):
        backbone = Backbone("resnet50", (16,), stem_pool=True, dilate=True)
    assert backbone.channels == {16: 2048}


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_stages_beyond_the_coarsest_wanted_stride_are_not_built(name):
    def count(strides):
        with torch.device("meta"):
            return sum(p.numel() for p in Backbone(name, strides, stem_pool=True).parameters())

    assert count((8,)) < count((16,)) < count((32,))
    assert count((16, 8)) == count((16,))


def test_a_stage_reads_the_pixels_around_its_cell():
    """A cell of stride s at (r, c) has its centre at pixel (r · s, c · s)."""
    backbone = Backbone("resnet18", (8,)).eval()
    image = torch.rand(1, 3, 129, 129, requires_grad=True)
    backbone(image)[8][0, :, 7, 9].sum().backward()
    rows, columns = image.grad.abs().sum((0, 1)).nonzero().unbind(1)
    assert (rows.min() + rows.max()) / 2 == 7 * 8
    assert (columns.min() + columns.max()) / 2 == 9 * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet5000", "strides": (16,)}, r"backbone 'resnet5000' is no timm model.*for example resnet.*"),
        ({"name": "resnet18", "strides": (32,)}, r"strides \(32,\): backbone 'resnet18' with stem_pool=False.*2, 4, 8"),
        ({"name": "densenet121", "strides": (16,), "stem_pool": True, "dilate": True}, r"dilate=True.*'densenet121'"),
        ({"name": "resnet18", "strides": (16,), "variant": "v1"}, r"'v1' with backbone 'resnet18'"),
        ({"name": "resnet18", "strides": (16,), "pretrained": "absent.safetensors"}, r"'absent.safetensors' cannot"),
    ],
)
def test_impossible_backbones_are_refused(arguments, message):
    with pytest.raises(GraphposeError, match=message):
        Backbone(**arguments)


def test_weights_that_timm_cannot_get_are_reported_with_the_setting(monkeypatch):
    create = backbones.timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no route to host")
        return create(name, **options)

    monkeypatch.setattr(backbones.timm, "create_model", offline)
    with pytest.raises(
        GraphposeError, match=r"pretrained=True with backbone 'resnet10t': .*no route.*local weights file"
    ):
        Backbone("resnet10t", (16,), pretrained=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_weights_are_loaded_and_later_stages_in_the_file_are_left_out(tmp_path, suffix):
    source = Backbone("resnet18", (16, 8))
    path = tmp_path / f"weights{suffix}"
    state = {**source.features.model.state_dict(), "fc.weight": torch.zeros(10, 512)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    backbone = Backbone("resnet18", (8,), pretrained=str(path))
    for key, value in backbone.features.model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_weights_of_another_backbone_are_refused_by_name(tmp_path):
    state = Backbone("resnet18", (16,)).features.model.state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    with pytest.raises(GraphposeError, match=r"weights.safetensors' lacks 'layer1.2.conv1.weight'"):
        Backbone("resnet34", (16,), pretrained=str(path))
    save_file({**state, "conv1.weight": torch.zeros(32, 3, 7, 7)}, path)
    with pytest.raises(
        GraphposeError, match=r"'conv1.weight' is \(32, 3, 7, 7\) where the backbone has \(64, 3, 7, 7\)"
    ):
        Backbone("resnet18", (16,), pretrained=str(path))


@pytest.mark.parametrize("content", [b"no zip", b""])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_weights_file_is_named(tmp_path, content, suffix):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(GraphposeError, match=r"damaged.* cannot be read"):
        read_state(path)


@pytest.mark.parametrize(
    ("metadata", "name", "variant"),
    [
        ({"variant": "v1"}, "resnet50.safetensors", "v1"),
        ({"note": "v1: stride 2 sits in conv1"}, "resnet50.safetensors", "v1"),
        ({"note": "v1.5"}, "resnet50.safetensors", "v1.5"),
        (None, "resnet50_v1_imagenet.safetensors", "v1"),
        (None, "resnet50_v1.5.safetensors", "v1.5"),
        (None, "resnet50.safetensors", None),
    ],
)
def test_a_file_declares_its_resnet_variant(tmp_path, metadata, name, variant):
    save_file({"x": torch.zeros(1)}, tmp_path / name, metadata)
    assert declared_variant(tmp_path / name) == variant


def test_v1_moves_the_strides_to_the_first_convolution_and_keeps_the_sizes():
    torch.manual_seed(0)
    v15 = Backbone("resnet26", (16, 8)).eval()
    v1 = Backbone("resnet26", (16, 8), variant="v1").eval()
    for name, parameter in v15.named_parameters():
        if name.endswith("bn3.weight"):
            parameter.data.fill_(1)  # timm starts residual branches at zero
    v1.load_state_dict(v15.state_dict())
    block = v1.features.model.layer3[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        a, b = v15(x), v1(x)
    assert a[16].shape == b[16].shape
    assert not torch.allclose(a[16], b[16], atol=1e-2)


@pytest.fixture
def resnet50_v1_file() -> Path:
    if "GRAPHPOSE_DATA" not in os.environ:
        pytest.skip("GRAPHPOSE_DATA is not set: no local weights")
    path = Path(os.environ["GRAPHPOSE_DATA"]).parent / "weights" / "resnet50_v1_imagenet_fp16.safetensors"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside GRAPHPOSE_DATA")
    return path


def test_the_v1_file_is_recognised_and_cannot_be_loaded_as_v15(resnet50_v1_file):
    backbone = Backbone("resnet50", (16,), pretrained=str(resnet50_v1_file))
    assert backbone.variant == "v1"
    assert next(backbone.parameters()).dtype == torch.float32
    with pytest.raises(GraphposeError, match=r"backbone_variant 'v1.5' with pretrained .*the file says that it is v1"):
        Backbone("resnet50", (16,), pretrained=str(resnet50_v1_file), variant="v1.5")


@pytest.mark.slow
def test_the_v1_file_classifies_photographs_surely_only_with_v1_strides(resnet50_v1_file):
    photographs = sorted(Path(os.environ["GRAPHPOSE_DATA"]).glob("coco/val2017/*.jpg"))[:12]
    if len(photographs) < 12:
        pytest.skip("no photographs under GRAPHPOSE_DATA")
    images = []
    for photograph in photographs:
        image = cv2.cvtColor(cv2.imread(str(photograph)), cv2.COLOR_BGR2RGB)
        height, width = (side * 256 // min(image.shape[:2]) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        top, left = (height - 224) // 2, (width - 224) // 2
        images.append(torch.from_numpy(image[top : top + 224, left : left + 224].copy()))
    x = torch.stack(images).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    state = read_state(resnet50_v1_file)

    def sureness(backbone: Backbone) -> float:
        with torch.no_grad():
            features = backbone.eval()(x)[32].mean((2, 3))
        logits = features @ state["fc.weight"].float().T + state["fc.bias"].float()
        return logits.softmax(1).amax(1).mean().item()

    v1 = Backbone("resnet50", (32,), pretrained=str(resnet50_v1_file), stem_pool=True)
    v15 = Backbone("resnet50", (32,), stem_pool=True)
    v15.load_state_dict(v1.state_dict())
    assert sureness(v1) > sureness(v15) + 0.15


def test_a_weights_file_that_does_not_declare_its_resnet_variant_is_reported(tmp_path, caplog):
    path = tmp_path / "resnet26.safetensors"
    save_file(Backbone("resnet26", (8,)).features.model.state_dict(), path)
    assert Backbone("resnet26", (8,), pretrained=str(path)).variant == "v1.5"
    assert "resnet26.safetensors' does not say whether it is a ResNet v1 or v1.5" in caplog.text
    caplog.clear()
    assert Backbone("resnet26", (8,), pretrained=str(path), variant="v1").variant == "v1"
    assert not caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "resnet10t", "resnest14d", "res2net50_26w_4s", "regnetx_002", "densenet121", "vgg11_bn", "dla34",
        "ghostnet_050", "mobilenetv3_small_050", "efficientnet_lite0", "hrnet_w18_small",
        pytest.param("hrnet_w32", marks=pytest.mark.slow), "cspresnet50", "convnext_atto", "edgenext_xx_small",
        "pvt_v2_b0",
    ],
)  # fmt: skip
def test_every_parameter_that_learns_gets_a_gradient(name):
    """DistributedDataParallel ends in its second step where one does not, and has no name for it."""
    with torch.device("meta"):
        backbone = Backbone(name, (16,), stem_pool=True)
        backbone.freeze(weights=False)
        backbone(torch.empty(1, 3, 64, 64))[16].sum().backward()
    without = [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    thawed = sum(p.requires_grad for p in backbone.parameters())
    assert thawed == sum(p.grad is not None for p in backbone.parameters()) > 0


@pytest.mark.parametrize(
    ("name", "stem_pool", "stride", "frozen"),
    [
        ("resnet18", True, 4, ("conv1", "bn1", "layer1")),
        ("resnet18", True, 2, ("conv1", "bn1")),
        ("resnet18", False, 4, ("conv1", "bn1", "layer1", "layer2")),
        ("efficientnet_lite0", False, 4, ("conv_stem", "bn1", "blocks.0", "blocks.1")),
    ],
)
def test_stages_up_to_a_stride_stay_as_they_are_while_the_others_learn(name, stem_pool, stride, frozen):
    backbone = Backbone(name, (16,), stem_pool=stem_pool).train()
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # timm begins residual branches at 0, which stops their gradients
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    backbone.freeze(weights=False)
    learning = {key for key, parameter in backbone.features.model.named_parameters() if parameter.requires_grad}
    backbone.train()
    backbone.freeze(weights=False, statistics=False, up_to=stride)
    before = {key: tensor.clone() for key, tensor in backbone.features.model.state_dict().items()}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    backbone(torch.randn(4, 3, 64, 64))[16].square().sum().backward()
    optimizer.step()
    after = backbone.features.model.state_dict()
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    of_frozen = {key for key in before if key.startswith(tuple(f"{part}." for part in frozen))}
    assert of_frozen
    assert not changed & of_frozen
    assert learning - of_frozen <= changed
    statistics = {key for key in changed if key.endswith("running_mean")}
    assert {key.replace("running_mean", "weight") for key in statistics} <= learning - of_frozen
    assert statistics


def test_a_stride_that_the_model_lacks_cannot_be_frozen():
    with pytest.raises(GraphposeError, match=r"^frozen_stride 3: backbone .* no features at stride 3, only at 2, 4, 8"):
        Backbone("resnet18", (16,), stem_pool=True).freeze(up_to=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strides", "multiple"),
    [
        ("swin_tiny_patch4_window7_224", (16, 8), 32),
        ("vit_tiny_patch16_224", (16,), 1),
        ("maxvit_rmlp_pico_rw_256", (16, 8), 256),
    ],
)
def test_families_of_one_image_size_take_others_where_timm_lets_them(name, strides, multiple):
    backbone = Backbone(name, strides, stem_pool=True).eval()
    assert backbone.multiple == multiple
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 97, 65))
    for stride, level in features.items():
        assert tuple(level.shape[1:]) == (backbone.channels[stride], -(-97 // stride), -(-65 // stride))
    backbone.freeze(weights=False)
    assert any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("name", ["swinv2_tiny_window8_256", "deit3_small_patch16_224", "swin_s3_tiny_224"])
def test_the_sizes_of_other_such_families_are_measured(name):
    measured = backbones._measure(name, True, False)
    assert measured.options
    assert 16 in [stride for stride, _ in measured.levels]


@pytest.mark.parametrize("name", ["coatnet_nano_rw_224", "hiera_tiny_224", "levit_128s", "efficientformer_l1"])
def test_a_family_that_takes_one_size_alone_is_refused_with_what_does_work(name):
    with pytest.raises(GraphposeError, match=rf"backbone '{name}' takes images of 224×224 pixels alone.*convnext_tiny"):
        Backbone(name, (16,), stem_pool=True)


def test_a_backbone_without_a_pyramid_is_refused_by_its_strides():
    with pytest.raises(GraphposeError, match=r"'vit_tiny_patch16_224' .* has no features at stride 8, only at 16"):
        Backbone("vit_tiny_patch16_224", (8,), stem_pool=True)
