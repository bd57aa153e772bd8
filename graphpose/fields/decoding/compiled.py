"""How every step is compiled: without the GIL, and once for all processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import TypeVar, cast

from numba import njit

Step = TypeVar("Step", bound=Callable)

_fields = files("graphpose.fields")
_sources = [source for source in _fields.joinpath("decoding").iterdir() if source.name.endswith(".py")]
_sources += [_fields.joinpath(name) for name in ("config.py", "spec.py")]  # field and channel numbers are compiled in

# Digest of all that the compiled steps are made from.
SOURCES = hashlib.sha256(b"".join(s.read_bytes() for s in sorted(_sources, key=lambda s: s.name))).hexdigest()[:16]


def compiled(step: Step) -> Step:
    """The step, compiled at its first call, with a copy on disk that later processes load.

    Numba takes a copy for fresh by the date of the step's own file and the types of its arguments. It would miss a
    change of a step that this one calls, or of the order of a table's fields, in another file; and it fails on a copy
    that names a table which is no more. So the copies of each state of the sources have file names of their own.
    """
    step.__qualname__ += f"-{SOURCES}"
    return cast(Step, njit(cache=True, nogil=True)(step))
