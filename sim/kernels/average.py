"""Averages over windows: exact sums, divided and rounded.  `_quotient` stands for one of QUOTIENTS."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numba import prange

from sim.kernels.elementwise import POOLED
from sim.kernels.jit import inline

_quotient: Any = None


@inline
def half_away(above: Any, below: Any) -> Any:
    """To the nearest, ties away from 0."""
    return (2 * above + below) // (2 * below) if above >= 0 else -((below - 2 * above) // (2 * below))


@inline
def half_up(above: Any, below: Any) -> Any:
    """To the nearest, ties up."""
    return (2 * above + below) // (2 * below)


@inline
def half_even(above: Any, below: Any) -> Any:
    """To the nearest, ties to even."""
    whole = above // below
    rest = 2 * (above - whole * below)
    return whole + 1 if rest > below or (rest == below and whole & 1 == 1) else whole


@inline
def floor(above: Any, below: Any) -> Any:
    """Down."""
    return above // below


@inline
def trunc(above: Any, below: Any) -> Any:
    """Toward 0."""
    return above // below if above >= 0 else -(-above // below)


QUOTIENTS: Mapping[str, Callable[..., Any]] = MappingProxyType({
    "half_away": half_away, "half_up": half_up, "half_even": half_even, "floor": floor, "trunc": trunc})
"""above / below as a whole number, below > 0: by the names of sim/ops/op.py, ROUNDINGS."""


def average_lines(
        x: np.ndarray, place: Any, window: Any, divisor: int, wide: np.ndarray, limits: Any, out: np.ndarray,
        pad: int) -> None:
    """The average of each window, of which the border is no part, plus a zero point and within limits.

    `window`: rows, columns, strides down and across, padding above and before.  A `divisor` of 0 is the codes of a window
    that lie in the image.  `wide` is an empty array of the type that holds every sum of unsigned codes; `limits` are the
    least and the largest code, and the zero point.
    """
    height, width, down, across, above, before = window
    x_pad, sign, minus = place
    low, high, zero = limits
    images, rows, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    last_row, last_column = x.shape[1] - 2 * x_pad, x.shape[2] - 2 * x_pad
    most = min(POOLED, channels) if columns == 1 else channels
    parts = (channels + most - 1) // most
    for item in prange(images * rows * parts):
        n, i, first = item // (rows * parts), item // parts % rows, item % parts * most
        count = min(most, channels - first)
        sums = np.empty(count, wide.dtype)
        top, bottom = max(i * down - above, 0), min(i * down - above + height, last_row)
        for j in range(columns):
            left, right = max(j * across - before, 0), min(j * across - before + width, last_column)
            for c in range(count):
                sums[c] = 0
            for a in range(top, bottom):
                for b in range(left, right):
                    source = x[n, a + x_pad, b + x_pad, first : first + count]
                    for c in range(count):
                        sums[c] += np.int32(np.int32(source[c]) ^ sign)
            inside = np.int64((bottom - top) * (right - left))
            below = inside if divisor == 0 else np.int64(divisor)
            target = out[n, i + pad, j + pad, first : first + count]
            for c in range(count):
                target[c] = min(max(_quotient(np.int64(sums[c]) - minus * inside, below) + zero, low), high)
