"""Lets torchvision, and with it timm, be imported where torchvision's C++ library does not load.

torchvision registers fake kernels for ``torchvision::nms`` while it is imported. Where its C++ library does not fit the
installed torch (a CPU wheel beside a CUDA one, say), nobody has declared that operator and the import dies with
"operator torchvision::nms does not exist". graphpose uses none of these operators, so it declares their names, and only
then: with a library that loads, torchvision's own declaration is used and nothing is declared here.

Import this module before timm or torchvision.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

# The operators whose fake kernels torchvision registers on import without asking whether its library has loaded.
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _library_loads(package: Path) -> bool:
    """Whether torchvision's C++ library can be loaded; loading it again is harmless."""
    for library in sorted(package.glob("_C*.so")) + sorted(package.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return True
    return False


def _declared() -> bool:
    return hasattr(torch.ops.torchvision, "nms")


def declare_missing_operators() -> torch.library.Library | None:
    """Declare torchvision's operators if its library does not load.

    Returns:
        The declarations, which live as long as this object does; None where torchvision is absent or whole.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations or _declared():
        return None
    if _library_loads(Path(next(iter(spec.submodule_search_locations)))):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    return library


DECLARED = declare_missing_operators()
