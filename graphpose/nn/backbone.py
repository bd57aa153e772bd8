"""Feature pyramids from timm models.

Convention: the features of stride s of an H × W image are ceil(H / s) × ceil(W / s) cells, cell (r, c) at pixel
(r · s, c · s).
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from graphpose.nn import torchvision_ops  # noqa: F401  (before timm, which imports torchvision)

# isort: split
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphpose.errors import GraphposeError
from graphpose.nn.config import BackboneVariant
from graphpose.nn.weights import bottleneck_blocks, load_weights, resolve_variant, use_v1_strides

# Side of the images that features are measured on; above every backbone's coarsest stride.
PROBE_SIZE = 128


class Backbone(nn.Module):
    """A timm model cut to the stages that give the wanted strides.

    Args:
        name: timm name.
        strides: wanted strides; each is the model's last stage of that stride.
        pretrained: True for timm's weights, or the path of a local file.
        variant: see :class:`~graphpose.nn.config.PoseNetworkConfig`.
        stem_pool: keep the stem's max-pool; without it every later stride is halved.
        dilate: hold the last stage at stride 16.
        norm_eps: ε of the batch norms; None for the model's own.

    Attributes:
        channels: C at each stride.
        variant: "v1" or "v1.5", where "auto" has been resolved.
        input_channels: of what it takes.
        input_stride: pixels per cell of that.

    Raises:
        GraphposeError: unknown name, a model that takes images of one size alone, a stride that the model lacks, a
            weights file that does not fit.
    """

    input_channels, input_stride = 3, 1

    def __init__(
        self,
        name: str,
        strides: Sequence[int],
        pretrained: bool | str = False,
        variant: str = "auto",
        stem_pool: bool = False,
        dilate: bool = False,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        measured = _measure(name, stem_pool, dilate)
        levels = measured.levels
        by_stride = _stages(name, strides, stem_pool, dilate, levels)
        self.channels = {stride: levels[by_stride[stride]][1] for stride in strides}
        indices = sorted(by_stride[stride] for stride in strides)
        self.order = tuple(levels[index][0] for index in indices)
        self.multiple = measured.multiple
        self._built = name, stem_pool, dilate, tuple(indices)
        self.features: Any = _create(
            name,
            stem_pool,
            dilate,
            out_indices=tuple(indices),
            pretrained=pretrained is True,
            **dict(measured.options),
        )
        if norm_eps is not None:
            for module in self.features.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eps = norm_eps
        path = Path(pretrained) if isinstance(pretrained, str) else None
        self.variant = resolve_variant(variant, path, matters=bool(bottleneck_blocks(self.features.model)))
        if self.variant == "v1":
            use_v1_strides(self.features.model, name)
        if path is not None:
            load_weights(self.features.model, path)

    def freeze(self, weights: bool = True, statistics: bool = True, up_to: int = 0) -> None:
        """Freeze or thaw the parameters and the batch norms' statistics; call after ``train()``.

        Parameters that the features do not read, as of a stage that is computed further than needed, are never thawed:
        they get no gradient, which several ranks would wait for.

        Args:
            weights: all parameters.
            statistics: of all batch norms.
            up_to: a stride of the model; both of everything that its features depend on, whatever the others say. 0 for
                nothing.

        Raises:
            GraphposeError: the model has no features at that stride.
        """
        frozen = _read(*self._built[:3], (self._level(up_to),)) if up_to else set()
        thawed = set() if weights else _read(*self._built) - frozen
        for name, parameter in self.features.named_parameters():
            parameter.requires_grad_(name in thawed)
        for name, module in self.features.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(self.training and not statistics and f"{name}.weight" not in frozen)

    def _level(self, stride: int) -> int:
        """Index of the model's last stage of a stride."""
        name, stem_pool, dilate, _ = self._built
        levels = _measure(name, stem_pool, dilate).levels
        return _stages(name, (stride,), stem_pool, dilate, levels, f"frozen_stride {stride}")[stride]

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Features by stride.

        Args:
            images: (B, 3, H, W).

        Returns:
            For each wanted stride s (B, C_s, ceil(H / s), ceil(W / s)).
        """
        if self.multiple == 1:
            return dict(zip(self.order, self.features(images), strict=True))
        H, W = images.shape[-2:]
        missing = [(self.multiple - size % self.multiple) % self.multiple for size in (W, H)]
        features = zip(self.order, self.features(F.pad(images, (0, missing[0], 0, missing[1]))), strict=True)
        return {s: level[..., : (H + s - 1) // s, : (W + s - 1) // s] for s, level in features}


class GivenFeatures(nn.Module):
    """Takes the place of a :class:`Backbone` that is frozen and whose features were computed before: hands them on.

    Args:
        name, stem_pool, dilate: whose features they are.
        stride: of the features.
        variant: kept as it is given.

    Attributes:
        channels, variant, input_channels, input_stride: as of a backbone; it takes what it gives.

    Raises:
        GraphposeError: unknown name, or a stride that the model lacks.
    """

    def __init__(
        self,
        name: str,
        stride: int,
        variant: BackboneVariant = "auto",
        stem_pool: bool = False,
        dilate: bool = False,
    ) -> None:
        super().__init__()
        levels = _measure(name, stem_pool, dilate).levels
        channels = levels[_stages(name, (stride,), stem_pool, dilate, levels)[stride]][1]
        self.name, self.variant, self.stride = name, variant, stride
        self.channels = {stride: channels}
        self.input_channels, self.input_stride = channels, stride

    def freeze(self, weights: bool = True, statistics: bool = True, up_to: int = 0) -> None:
        """Nothing is here to be frozen."""

    def forward(self, features: Tensor) -> dict[int, Tensor]:
        """The features in float32, by their stride.

        Args:
            features: (B, C, h, w), any floating-point type.

        Raises:
            GraphposeError: another number of channels, as of images.
        """
        if features.shape[1] != self.input_channels:
            raise GraphposeError(
                f"this network was trained on the features of '{self.name}' at stride {self.stride} and takes "
                f"{self.input_channels} channels of them, not {features.shape[1]}"
                + (" of an image; it has no trunk" if features.shape[1] == 3 else "")
            )
        return {self.stride: features.float()}


def _stages(
    name: str,
    strides: Sequence[int],
    stem_pool: bool,
    dilate: bool,
    levels: Sequence[tuple[int, int]],
    setting: str | None = None,
) -> dict[int, int]:
    """Index of the last stage of each stride; GraphposeError, which begins with the ``setting`` that asked for them,
    where the model lacks one of ``strides``."""
    by_stride = {stride: index for index, (stride, _) in enumerate(levels)}
    for stride in strides:
        if stride not in by_stride:
            raise GraphposeError(
                f"{setting or f'strides {tuple(strides)}'}: backbone '{name}' with stem_pool={stem_pool} and "
                f"dilate={dilate} has no features at stride {stride}, only at {', '.join(map(str, sorted(by_stride)))}"
            )
    return by_stride


def _create(name: str, stem_pool: bool, dilate: bool, **options: Any) -> Any:
    if not timm.is_model(name.split(".")[0]):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f", for example {', '.join(close)}" if close else ""
        raise GraphposeError(f"backbone '{name}' is no timm model; use a name that timm.list_models() has{hint}")
    if dilate:
        options["output_stride"] = 16
    try:
        model: Any = timm.create_model(name, features_only=True, feature_cls="getter", **options)
    except Exception as error:  # timm's own are of every kind; the settings at fault are the same
        if options.get("pretrained"):
            setting, advice = "pretrained=True with ", "give the path of a local weights file or pretrained=False"
        else:
            setting, advice = "dilate=True with " if dilate else "", "choose another backbone"
        raise GraphposeError(f"{setting}backbone '{name}': timm cannot build it ({error}); {advice}") from error
    if not stem_pool:
        _remove_stem_pool(model.model)
    for module in model.modules():
        if isinstance(module, nn.AvgPool2d) and module.stride in (2, (2, 2)) and not module.padding:
            module.ceil_mode = True  # an odd size keeps its last row and column (DenseNet's transitions)
    return model


def _remove_stem_pool(model: nn.Module) -> None:
    """Replace the model's first max-pool by the identity; a model without one stays as it is."""
    if hasattr(model, "maxpool"):  # ResNets, also where the "pool" is a strided convolution
        model.maxpool = nn.Identity()
        return
    for parent in model.modules():
        for child_name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, child_name, nn.Identity())
                return


class Measured(NamedTuple):
    """What is known of a model before it is built.

    Attributes:
        levels: (stride, channels) of every level.
        multiple: sides of the images that it is given are padded to a multiple of; 1 where it takes every size and
            rounds up as this module's convention is.
        options: of ``timm.create_model``, without which it takes images of one size alone.
        probe: side of an image that it takes.
    """

    levels: list[tuple[int, int]]
    multiple: int
    options: tuple[tuple[str, bool], ...]
    probe: int


# What families with a fixed input size need to take others: nothing, Swin, ViT and DeiT.
SIZE_OPTIONS: tuple[dict[str, bool], ...] = (
    {},
    {"strict_img_size": False},
    {"dynamic_img_size": True, "dynamic_img_pad": True},
)


@functools.cache
def _measure(name: str, stem_pool: bool, dilate: bool) -> Measured:
    """Levels and sizes of a model, measured without computing."""
    for options in SIZE_OPTIONS:
        shapes = _shapes(name, stem_pool, dilate, options, PROBE_SIZE)
        if shapes is None:
            continue
        levels = [(PROBE_SIZE // height, channels) for channels, height in shapes]
        odd = _shapes(name, stem_pool, dilate, options, PROBE_SIZE + 1)
        # Some models floor, or fail, where the convention is to round up; they get an image padded to whole cells.
        rounds_up = odd is not None and [n for _, n in odd] == [math.ceil((PROBE_SIZE + 1) / s) for s, _ in levels]
        multiple = 1 if rounds_up else max(stride for stride, _ in levels)
        return Measured(levels, multiple, tuple(options.items()), PROBE_SIZE)
    own = (timm.get_pretrained_cfg(name).input_size if timm.get_pretrained_cfg(name) else (3, 224, 224))[-1]  # type: ignore[union-attr]
    once, twice = (_shapes(name, stem_pool, dilate, {}, size) for size in (own, 2 * own))
    if once is not None and twice == [(channels, 2 * height) for channels, height in once]:  # windows that must fit
        return Measured([(own // height, channels) for channels, height in once], own, (), own)
    raise GraphposeError(
        f"backbone '{name}' takes images of {own}×{own} pixels alone, but training and evaluation need every size; "
        f"resnet50, regnetx_004, convnext_tiny, densenet121, swin_tiny_patch4_window7_224 and vit_small_patch16_224, "
        f"for example, take them"
    )


def _shapes(
    name: str, stem_pool: bool, dilate: bool, options: Mapping[str, bool], size: int
) -> list[tuple[int, int]] | None:
    """Channels and height of every level for a square image; None where the model does not take it."""
    with torch.device("meta"), torch.no_grad():
        try:
            model = _create(name, stem_pool, dilate, **options).eval()
        except GraphposeError:
            if options:  # which this family does not know
                return None
            raise
        try:
            return [tuple(level.shape[1:3]) for level in model(torch.empty(1, 3, size, size))]
        except (RuntimeError, AssertionError, ValueError, TypeError):  # timm's own, of many kinds
            return None


@functools.cache
def _read(name: str, stem_pool: bool, dilate: bool, indices: tuple[int, ...]) -> set[str]:
    """Names of the parameters that features depend on; found on the graph of a pass without numbers."""
    with torch.device("meta"), torch.enable_grad():
        measured = _measure(name, stem_pool, dilate)
        model = _create(name, stem_pool, dilate, out_indices=indices, **dict(measured.options)).eval()
        features = model(torch.empty(1, 3, measured.probe, measured.probe))
    read, visited, waiting = set(), set(), [level.grad_fn for level in features]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in visited:
            visited.add(node)
            read.add(id(getattr(node, "variable", None)))  # a leaf's
            waiting += [following for following, _ in node.next_functions]
    return {name for name, parameter in model.named_parameters() if id(parameter) in read}
