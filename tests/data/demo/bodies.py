"""What tests of the demo's bodies and scenes share."""

import numpy as np
from hypothesis import strategies as st

from graphpose.data.demo.body import ANGLES

SEEDS = st.integers(0, 2**32 - 1)


def angles_of(**values: float) -> np.ndarray:
    angles = np.zeros(len(ANGLES))
    for name, value in values.items():
        angles[ANGLES.index(name)] = value
    return angles
