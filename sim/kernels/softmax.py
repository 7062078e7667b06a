"""Rows of codes through an integer softmax.  `_row` stands for one: row(codes, constants, results), int32 [C] in and out."""

from typing import Any

import numpy as np
from numba import prange

from sim.kernels.jit import inline

_row: Any = None

SUM_BITS = 12
INT32_MAX = 2**31 - 1


def row_lines(x: np.ndarray, place: Any, constants: Any, out: np.ndarray, pad: int) -> None:
    """The channels of every pixel; codes go in less the zero point of `place`."""
    x_pad, sign, minus = place
    images, rows, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        codes, results = np.empty(channels, np.int32), np.empty(channels, np.int32)
        for j in range(columns):
            source, target = x[n, i + x_pad, j + x_pad], out[n, i + pad, j + pad]
            for c in range(channels):
                codes[c] = np.int32(np.int32(np.int32(source[c]) ^ sign) - minus)
            _row(codes, constants, results)
            for c in range(channels):
                target[c] = results[c]


@inline
def high(a: Any, b: Any) -> Any:
    """(a b + 2^30) >> 31."""
    return (a * b + (1 << 30)) >> 31


@inline
def saturated(a: Any) -> Any:
    """The nearest number of 32 bits."""
    return min(max(a, -INT32_MAX - 1), INT32_MAX)


@inline
def inverse(a: Any) -> Any:
    """1 / (1 + x) for x from 0 to 1, Q0.31 both, by Newton's steps in Q2.29."""
    half = (a + INT32_MAX + 1) >> 1
    x = high(half, np.int64(-1010580540)) + 1515870810
    for _ in range(3):
        x = saturated(x + saturated(high(x, (1 << 29) - high(half, x)) << 2))
    return saturated(x << 1)


@inline
def gemmlowp_row(codes: np.ndarray, constants: Any, results: np.ndarray) -> None:
    """sim/definitions/gemmlowp.py.

    `constants`: by the distance of a code from the largest, its exponential in Q0.31 or 0 where it is too far to count, and
    what that adds to a sum in Q12.19; bits of a result; the least and the largest result.
    """
    exponentials, terms, bits, least, most = constants
    top = codes[0]
    for c in range(1, len(codes)):
        top = max(top, codes[c])
    total = np.int64(0)
    for c in range(len(codes)):
        total += terms[top - codes[c]]
    length = 0
    while total >> length > 0:
        length += 1
    headroom = 32 - length
    factor = inverse((total << headroom) - (1 << 31))
    shift = SUM_BITS - headroom + 31 - bits
    half = (np.int64(1) << shift) >> 1
    for c in range(len(codes)):
        code = (high(factor, exponentials[top - codes[c]]) + half) >> shift  # not below 0, where halves would go down
        results[c] = min(max(code + least, least), most)
