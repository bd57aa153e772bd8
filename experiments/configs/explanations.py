"""What each key and each named configuration is for, read from the docstrings that say it."""

from __future__ import annotations

import inspect
import re

from experiments.configs.named import NAMED_MODULES
from experiments.configs.settings import FLAT, GROUPED


def attribute_lines(dataclass: type) -> dict[str, str]:
    """First sentence of every entry under "Attributes:" of a dataclass's docstring, without markup."""
    _, _, section = (inspect.getdoc(dataclass) or "").partition("Attributes:\n")
    section = re.split(r"\n\n", section)[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: _first_sentence(text) for name, text in entries}


def _first_sentence(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]*)`|``([^`]*)``", lambda match: match[1] or match[2], " ".join(text.split()))
    return re.split(r"(?<!Eq)(?<!Fig)\. ", text)[0].rstrip(".")


EXPLANATIONS: dict[str, str] = {
    "resume": "number or folder of a run, or a checkpoint file, to go on from",
    "seed": "of weights, drawn graphs, augmentation and demo scenes; drawn anew where it is not set",
    "loss": "weights and normalisation",
    "augment": "random changes of a training image",
    "crowd": "training images composed of several",
    "decoder": "thresholds from fields to poses",
    "skeleton": "what the annotation file does not say of its skeleton",
}
for _config in FLAT:
    EXPLANATIONS |= attribute_lines(_config)
for _group, _grouped in GROUPED.items():
    EXPLANATIONS |= {f"{_group}.{key}": line for key, line in attribute_lines(_grouped).items()}

PURPOSES: dict[str, str] = {
    name: (module.__doc__ or "").splitlines()[0].rstrip(".") for name, module in NAMED_MODULES.items()
}
