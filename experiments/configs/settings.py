"""The settings that a run is built from, checked: keys, types, choices and contradictions."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from experiments.configs.data import DataConfig, SkeletonConfig
from graphpose.data.config import AugmentConfig, CrowdConfig
from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig
from graphpose.nn.config import LossConfig, PoseNetworkConfig
from graphpose.skeleton import COCO, Skeleton
from graphpose.training.config import TrainConfig

FLAT = (PoseNetworkConfig, TrainConfig, DataConfig)
GROUPED = {
    "loss": LossConfig, "augment": AugmentConfig, "crowd": CrowdConfig, "decoder": DecoderConfig,
    "skeleton": SkeletonConfig,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that a run is built from."""

    network: PoseNetworkConfig
    train: TrainConfig
    loss: LossConfig
    augment: AugmentConfig
    crowd: CrowdConfig
    decoder: DecoderConfig
    data: DataConfig
    skeleton: SkeletonConfig


def _annotations() -> dict[str, Any]:
    """Annotated type of every key, those of a group as "loss.pif_offset"."""
    found: dict[str, Any] = {key: hint for config in FLAT for key, hint in typing.get_type_hints(config).items()}
    del found["skeleton"]  # the training set's; what a run knows better is a group
    found["adjacency"] |= None  # `adjacency=None`, as typed
    for group, config in GROUPED.items():
        found |= {f"{group}.{key}": hint for key, hint in typing.get_type_hints(config).items()}
    return found


ANNOTATIONS = _annotations()
NESTED = ("train_sets",)  # keys whose values are lists of settings


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value as JSON or a command line has it is of an annotated type: 1 is a float, a list is a tuple."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(conforms(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            return False
        items = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return len(items) == len(value) and all(map(conforms, value, items))
    if dataclasses.is_dataclass(hint):
        return isinstance(value, Mapping)  # its keys and values are checked one by one, see _entries
    kinds = (int, float) if hint is float else hint
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))


def describe(hint: Any) -> str:
    """An annotated type in words: what follows "must be"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin is tuple:
        length = "" if arguments[-1] is ... else f" of {len(arguments)}"
        return f"a list{length}, each of it {describe(arguments[0])}"
    if dataclasses.is_dataclass(hint):
        return "{" + ", ".join(f"{key}: …" for key in _required(hint)) + "}, other keys as they are needed"
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", types.NoneType: "None"}
    return names[hint]


def _required(config: Any) -> list[str]:
    """Keys of a dataclass that have no default."""
    return [field.name for field in dataclasses.fields(config) if field.default is dataclasses.MISSING]


def _built_entries(key: str, entries: Any, hint: Any) -> tuple[Any, ...]:
    """A list of settings of the dataclass that ``hint`` is a tuple of.

    Raises:
        GraphposeError: names the entry and its key.
    """
    dataclass = typing.get_args(hint)[0]
    hints = typing.get_type_hints(dataclass)
    built = []
    for number, entry in enumerate(entries):
        place = f"{key}[{number}]"
        for name, value in entry.items():
            if name in hints and not conforms(value, hints[name]):
                raise GraphposeError(f"{place}: {name}={value} must be {describe(hints[name])}")
        built.append(dataclass.from_dict(entry, place))
    return tuple(built)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value, those of a group as "loss.pif_offset"."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nearest_keys(key: str) -> list[str]:
    """Keys that an unknown one may mean: those of its name in any group, or else up to three of a similar name."""

    def name(key: str) -> str:
        return key.rpartition(".")[2]

    def similarity(known: str) -> float:
        pairs = ((key, known), (name(key), name(known)))
        return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    same = [known for known in ANNOTATIONS if name(known) == name(key)]
    near = sorted(ANNOTATIONS, key=similarity, reverse=True)[:3]
    return same or [known for known in near if similarity(known) >= 0.6]


def check_keys_and_types(config: Mapping[str, Any]) -> None:
    """Refuse keys that no part reads, and values of the wrong type.

    Raises:
        GraphposeError: names the key and the nearest valid ones, or what its value must be.
    """
    for key, value in flatten(config):
        if key == "seed":
            continue
        if key in GROUPED:
            raise GraphposeError(f"configuration key '{key}' is a group; set {key}.<name>=…")
        if key not in ANNOTATIONS:
            near = ", ".join(nearest_keys(key))
            advice = f"did you mean {near}?" if near else "`run.py print_config` shows every key"
            raise GraphposeError(f"unknown configuration key '{key}'; {advice}")
        if not conforms(value, ANNOTATIONS[key]):
            raise GraphposeError(f"{key}={value} must be {describe(ANNOTATIONS[key])}")


def build_settings(config: Mapping[str, Any], skeleton: Skeleton = COCO) -> Settings:
    """Settings from a configuration.

    Args:
        config: value of every key; the groups are dictionaries of theirs.
        skeleton: of the training set, as it is used.

    Raises:
        GraphposeError: an unknown key, a value that is not among the choices, or a contradiction; names the keys.
    """
    check_keys_and_types(config)

    def build(dataclass: Any, values: Mapping[str, Any], **others: Any) -> Any:
        for name in values.keys() & {field.name for field in dataclasses.fields(dataclass)}:
            others[name] = tuple(values[name]) if isinstance(values[name], (list, tuple)) else values[name]
            if name in NESTED:
                others[name] = _built_entries(name, values[name], ANNOTATIONS[name])
        return dataclass(**others)

    values = {**config, "adjacency": config["adjacency"] or "none"}
    return Settings(
        network=build(PoseNetworkConfig, {key: values[key] for key in values if key != "skeleton"}, skeleton=skeleton),
        train=build(TrainConfig, values),
        loss=build(LossConfig, values["loss"]),
        augment=build(AugmentConfig, values["augment"]),
        crowd=build(CrowdConfig, values["crowd"]),
        decoder=build(DecoderConfig, values["decoder"]),
        data=build(DataConfig, values),
        skeleton=build(SkeletonConfig, values["skeleton"]),
    )
