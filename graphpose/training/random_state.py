"""States of the global random generators: a resumed run draws what the interrupted one would have drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

CPU = torch.device("cpu")


def random_states(device: torch.device = CPU) -> dict[str, Any]:
    """States of Python's, numpy's and torch's global generators, as values that ``weights_only=True`` reads.

    Args:
        device: that trains; the generators of other GPUs are left alone, asking for them opens a context there.
    """
    version, state, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]  # noqa: NPY002
    return {
        "python": [version, list(state), gauss],
        "numpy": [str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def restore_random_states(states: Mapping[str, Any], device: torch.device = CPU) -> None:
    """Inverse of :func:`random_states`, whichever GPU it was then; the CPU's states alone where it was none."""
    version, state, gauss = states["python"]
    random.setstate((version, tuple(state), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    found = states["cuda"]  # of the GPU that trained, or in older checkpoints of all that were visible
    if device.type == "cuda" and found:
        own = found[0] if len(found) == 1 else found[min(device.index or 0, len(found) - 1)]
        torch.cuda.set_rng_state(own.cpu(), device)


def derived_seed(seed: int, rank: int) -> int:
    """A seed for one rank of a distributed run; rank 0 keeps ``seed`` itself, as a run of one process has it."""
    return seed if rank == 0 else int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
