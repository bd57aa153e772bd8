"""Networks in OpenPifPaf's form, written from its published layout, to compare the imported ones with.

The classes stand in modules of the original's names while a file is written, and nowhere when it is read.
"""

import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

import graphpose.nn.torchvision_ops  # noqa: F401  (before torchvision)

# isort: split
import torchvision
from torch.nn import functional as F

from graphpose.skeleton import COCO

LIMBS = [(a + 1, b + 1) for a, b in COCO.limbs]


class Shell(nn.Module):
    def __init__(self, base_net: nn.Module, head_nets: list[nn.Module]) -> None:
        super().__init__()
        self.base_net = base_net
        self.head_nets = nn.ModuleList(head_nets)

    def forward(self, images):
        features = self.base_net(images)
        return [head(features) for head in self.head_nets]


class BaseNetwork(nn.Module):
    """Of v0.8."""

    def __init__(self, resnet, name: str, stem: list[nn.Module]) -> None:
        super().__init__()
        self.shortname = name
        self.net = nn.Sequential(nn.Sequential(*stem), resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)

    def forward(self, images):
        return self.net(images)


class Resnet(nn.Module):
    """Of 0.13."""

    def __init__(self, resnet, name: str, stem: list[nn.Module]) -> None:
        super().__init__()
        self.name = name
        self.input_block = nn.Sequential(*stem)
        self.block2, self.block3 = resnet.layer1, resnet.layer2
        self.block4, self.block5 = resnet.layer3, resnet.layer4

    def forward(self, images):
        return self.block5(self.block4(self.block3(self.block2(self.input_block(images)))))


def shuffle(x, quad=True):
    return F.pixel_shuffle(x, 2)[:, :, :-1, :-1] if quad else x


class CompositeField(nn.Module):
    """Of v0.8: (confidence (B, N, h, w), one offset (B, N, 2, h, w) per end, one log b per end, scales)."""

    def __init__(self, channels: int, fields: int, ends: int, scales: int, name: str) -> None:
        super().__init__()
        self.shortname, self._quad, self.dilation = name, 1, 1

        def convs(width, count):
            return nn.ModuleList(nn.Conv2d(channels, fields * width * 4, 1) for _ in range(count))

        self.class_convs, self.reg_convs = convs(1, 1), convs(2, ends)
        self.reg_spreads, self.scale_convs = convs(1, ends), convs(1, scales)

    def forward(self, x):
        spreads = [shuffle(F.leaky_relu(conv(x) + 2.0) - 2.0) for conv in self.reg_spreads]
        offsets = [shuffle(conv(x)).unflatten(1, (-1, 2)) for conv in self.reg_convs]
        scales = [shuffle(conv(x).relu()) for conv in self.scale_convs]
        return shuffle(self.class_convs[0](x).sigmoid()), offsets, spreads, scales


class Meta:
    """Of 0.13: Cif and Caf."""

    def __init__(self, name: str, **values) -> None:
        self.name, self.dataset, self.upsample_stride = name, "cocokp", 2
        self.keypoints, self.sigmas = list(COCO.keypoints), list(COCO.sigmas)
        vars(self).update(values)


class CompositeField4(nn.Module):
    """Of 0.13: (B, N, [log b, confidence, offsets, scales], h, w)."""

    def __init__(self, channels: int, fields: int, ends: int, meta: Meta) -> None:
        super().__init__()
        self.meta, self.components, self.ends = meta, 2 + 3 * ends, ends
        self.conv = nn.Conv2d(channels, fields * self.components * 4, 1)

    def forward(self, x):
        x = shuffle(self.conv(x)).unflatten(1, (-1, self.components))
        offsets = x[:, :, 2 : 2 + 2 * self.ends]
        return x[:, :, :1], x[:, :, 1:2].sigmoid(), offsets, F.softplus(x[:, :, 2 + 2 * self.ends :])


class CompositeField3(nn.Module):
    """Of 0.12: (B, N, [confidence, offsets, log b of each end, scales], h, w)."""

    def __init__(self, channels: int, fields: int, ends: int, meta: Meta) -> None:
        super().__init__()
        self.meta, self.components, self.ends = meta, 1 + 4 * ends, ends
        self.conv = nn.Conv2d(channels, fields * self.components * 4, 1)

    def forward(self, x):
        x = shuffle(self.conv(x)).unflatten(1, (-1, self.components))
        e = self.ends
        return x[:, :, 1 + 2 * e : 1 + 3 * e], x[:, :, :1].sigmoid(), x[:, :, 1 : 1 + 2 * e], F.softplus(x[:, :, -e:])


_HOMES = {
    "openpifpaf.network.nets": (Shell,),
    "openpifpaf.network.basenetworks": (BaseNetwork, Resnet),
    "openpifpaf.network.heads": (CompositeField, CompositeField3, CompositeField4),
    "openpifpaf.headmeta": (Meta,),
}


def original(
    form: str = "v0.8", backbone: str = "resnet18", pool: bool = False, dilate: bool = False, extra: bool = False
) -> Shell:
    """A random network in evaluation mode, with variances as low as published ones.

    Args:
        form: "v0.8", "0.12" or "0.13".
        backbone: name in torchvision.
        pool: keep the stem's max-pool.
        dilate: dilate the last stage.
        extra: a third head, as the dense associations are.
    """
    options = {"replace_stride_with_dilation": [False, False, True]} if dilate else {}
    resnet = getattr(torchvision.models, backbone)(**options)
    stem = [resnet.conv1, resnet.bn1, resnet.relu] + ([resnet.maxpool] if pool else [])
    channels = resnet.fc.in_features
    base = (BaseNetwork if form == "v0.8" else Resnet)(resnet, backbone, stem)
    if form == "v0.8":
        heads = [CompositeField(channels, 17, 1, 1, "pif"), CompositeField(channels, 19, 2, 0, "paf")]
        heads += [CompositeField(channels, 25, 2, 0, "paf25")] if extra else []
    else:
        kind = CompositeField4 if form == "0.13" else CompositeField3
        heads = [kind(channels, 17, 1, Meta("cif")), kind(channels, 19, 2, Meta("caf", skeleton=LIMBS))]
        heads += [kind(channels, 25, 2, Meta("caf25", skeleton=LIMBS))] if extra else []
    network = Shell(base, heads).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1e-4 if form == "v0.8" else 1e-3
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2.0)
                module.running_var[:2] = torch.tensor([1e-17, 1e-9])
                module.weight[:2] = 0.01
    return network


@contextmanager
def homes() -> Iterator[None]:
    """The original's modules, while a file is written."""
    before = {name: sys.modules.get(name) for name in (*_HOMES, "openpifpaf", "openpifpaf.network")}
    try:
        for name, classes in {"openpifpaf": (), "openpifpaf.network": (), **_HOMES}.items():
            module = types.ModuleType(name)
            for kind in classes:
                kind.__module__ = name
                setattr(module, kind.__name__, kind)
            sys.modules[name] = module
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def write(network: nn.Module, path: Path, zipped: bool | None = None, **content) -> Path:
    """Save as the original does: v0.8 in the old container, later ones as zip, unless ``zipped`` says otherwise."""
    if zipped is None:
        zipped = not isinstance(network.base_net, BaseNetwork)
    with homes(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Couldn't retrieve source code")
        torch.save({"model": network, "epoch": 7, **content}, path, _use_new_zipfile_serialization=zipped)
    return path
