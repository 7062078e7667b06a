"""Numbers beside each other."""

import numpy as np


def differs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays differ, bool; a number that is none equals itself."""
    wrong: np.ndarray = a != b
    if a.dtype.kind == b.dtype.kind == "f":
        wrong &= ~(np.isnan(a) & np.isnan(b))
    return wrong


def is_equal(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether there are two arrays, and no number of them differs."""
    return a is not None and b is not None and a.shape == b.shape and not differs(a, b).any()
