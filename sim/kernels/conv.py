"""Convolution sums on codes: exact, or through a saturating register.

numba widens every integer operation to 64 bits, so the width of a sum is chosen on purpose: each loop is compiled for
int32, where the bound on partial sums is proved, and for int64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange

from sim.kernels.jit import inline, kernel

Kernel = Callable[..., Any]


def _make_exact(integer: Any) -> Kernel:
    @kernel
    def conv_exact(x: np.ndarray, w: np.ndarray, stride: int, groups: int, sums: np.ndarray) -> None:
        images, rows, columns, channels = sums.shape
        kernel_rows, kernel_columns, depth, _ = w.shape
        per_group = channels // groups
        for line in prange(images * rows):
            n = line // rows
            i = line % rows
            out = sums[n, i]
            out[:] = integer(0)
            for a in range(kernel_rows):
                for b in range(kernel_columns):
                    for group in range(groups):
                        first = group * per_group
                        for c in range(depth):
                            weights = w[a, b, c, first : first + per_group]
                            for j in range(columns):
                                value = integer(x[n, i * stride + a, j * stride + b, group * depth + c])
                                if value != 0:
                                    for o in range(per_group):
                                        product = integer(value * integer(weights[o]))
                                        out[j, first + o] = integer(out[j, first + o] + product)

    return conv_exact


def _make_saturating(integer: Any) -> Kernel:
    @inline
    def fold(partial: np.ndarray, low: int, high: int, register: np.ndarray, clipped: np.ndarray) -> None:
        """Add a tile's sums to the registers, clip, remember who was clipped, begin the next tile."""
        for o in range(len(partial)):
            total = integer(register[o] + partial[o])
            bounded = min(max(total, integer(low)), integer(high))
            clipped[o] |= np.uint8(total != bounded)
            register[o] = bounded
            partial[o] = integer(0)

    @inline
    def add_products(value: int, weights: np.ndarray, partial: np.ndarray) -> None:
        for o in range(len(partial)):
            partial[o] = integer(partial[o] + integer(integer(value) * integer(weights[o])))

    @kernel
    def conv_saturating(x: np.ndarray, w: np.ndarray, stride: int, groups: int, tile: int, low: int, high: int,
                        sums: np.ndarray, clipped: np.ndarray) -> None:
        images, rows, columns, channels = sums.shape
        kernel_rows, kernel_columns, depth, _ = w.shape
        per_group = channels // groups
        for line in prange(images * rows):
            n = line // rows
            i = line % rows
            sums[n, i] = integer(0)
            clipped[n, i] = np.uint8(0)
            partial = np.zeros(per_group, sums.dtype)
            for j in range(columns):
                for group in range(groups):
                    first = group * per_group
                    register = sums[n, i, j, first : first + per_group]
                    flags = clipped[n, i, j, first : first + per_group]
                    waiting = 0
                    for a in range(kernel_rows):
                        for b in range(kernel_columns):
                            for c in range(depth):
                                value = x[n, i * stride + a, j * stride + b, group * depth + c]
                                waiting += 1
                                if value != 0:
                                    add_products(value, w[a, b, c, first : first + per_group], partial)
                                elif tile == 1:
                                    continue  # zero cannot move a register
                                if waiting >= tile > 0:
                                    fold(partial, low, high, register, flags)
                                    waiting = 0
                    fold(partial, low, high, register, flags)

    return conv_saturating


CONV_EXACT: dict[str, Kernel] = {"int32": _make_exact(np.int32), "int64": _make_exact(np.int64)}
"""(x [N, H, W, C] padded, w [KH, KW, C / groups, Cout], stride, groups, sums [N, H', W', Cout]) by type of `sums`."""

CONV_SATURATING: dict[str, Kernel] = {"int32": _make_saturating(np.int32), "int64": _make_saturating(np.int64)}
"""The same with (..., groups, tile (0: the whole sum), lowest, highest, sums, clipped uint8 [N, H', W', Cout])."""
