"""Quotients of int64 arrays, rounded to whole numbers; sim/reference.py says what each rounding is."""

from typing import Any

import numpy as np


def rounded_quotients(numerators: np.ndarray, denominators: Any, rounding: str) -> np.ndarray:
    """The same for every element; denominators are not 0.  Magnitudes below 2^62, as twice a rest is taken."""
    sign = np.where(np.asarray(denominators) < 0, -1, 1)
    above, below = numerators * sign, denominators * sign
    whole = above // below  # numpy rounds down, as Python does
    rest = above - whole * below
    match rounding:
        case "floor":
            more: Any = False
        case "trunc":
            more = (above < 0) & (rest > 0)
        case "half_up":
            more = 2 * rest >= below
        case "half_away":
            more = (2 * rest > below) | ((2 * rest == below) & (above > 0))
        case _:  # half_even
            more = (2 * rest > below) | ((2 * rest == below) & (whole % 2 == 1))
    quotients: np.ndarray = whole + more
    return quotients
