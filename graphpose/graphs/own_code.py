"""Functions and classes of the user's, named by settings as ``package.module:name``.

A setting that somebody types may name code. What a checkpoint names is not imported for that reason alone.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from graphpose.errors import GraphposeError

# Names that may be imported because a checkpoint has them, with commas between them.
ALLOWED = "GRAPHPOSE_LAYERS"


def import_named(name: str, key: str) -> Any:
    """What ``package.module:name`` is.

    Args:
        name: of it.
        key: of the setting, for messages.

    Raises:
        GraphposeError: there is no such module or name.
    """
    module, _, member = name.partition(":")
    try:
        return getattr(importlib.import_module(module), member)
    except (ImportError, AttributeError) as error:
        raise GraphposeError(
            f"{key} '{name}' cannot be imported ({error}); is the folder of {module.split('.')[0]} in PYTHONPATH?"
        ) from error


def require_allowed(name: str) -> None:
    """Refuse to import code because a checkpoint names it.

    Args:
        name: of a layer, in the checkpoint. ``package.module:Class`` is allowed where the program has imported the
            module itself, or the environment's GRAPHPOSE_LAYERS names it; other names are graphpose's own.

    Raises:
        GraphposeError: naming the class and both ways to allow it.
    """
    module, colon, _ = name.partition(":")
    if colon and module not in sys.modules and name not in os.environ.get(ALLOWED, "").split(","):
        raise GraphposeError(
            f"the network has graph layers of '{name}', code that does not come with it and is not imported unasked; "
            f"where you trust it, import {module} first or set {ALLOWED}={name}"
        )
