"""Convolution sums on codes: exact, or through a saturating register.

numba widens every integer operation to 64 bits, so the width of a sum is chosen on purpose: each loop is compiled for
int32, where the bound on partial sums is proved, and for int64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange

from sim.kernels.jit import kernel

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
    @kernel
    def conv_saturating(x: np.ndarray, w: np.ndarray, stride: int, groups: int, tile: int, low: int, high: int,
                        sums: np.ndarray, clipped: np.ndarray) -> None:
        images, rows, columns, channels = sums.shape
        kernel_rows, kernel_columns, depth, _ = w.shape
        per_group = channels // groups
        minimum, maximum = integer(low), integer(high)
        for line in prange(images * rows):
            n = line // rows
            i = line % rows
            partial = np.zeros(per_group, sums.dtype)
            for j in range(columns):
                for group in range(groups):
                    first = group * per_group
                    register = sums[n, i, j, first : first + per_group]
                    flags = clipped[n, i, j, first : first + per_group]
                    register[:] = integer(0)
                    flags[:] = np.uint8(0)
                    partial[:] = integer(0)
                    waiting = 0
                    for a in range(kernel_rows):
                        for b in range(kernel_columns):
                            for c in range(depth):
                                value = integer(x[n, i * stride + a, j * stride + b, group * depth + c])
                                weights = w[a, b, c, first : first + per_group]
                                if tile == 1:
                                    if value != 0:
                                        for o in range(per_group):
                                            total = integer(register[o] + integer(value * integer(weights[o])))
                                            bounded = min(max(total, minimum), maximum)
                                            flags[o] |= np.uint8(total != bounded)
                                            register[o] = bounded
                                    continue
                                if value != 0:
                                    for o in range(per_group):
                                        partial[o] = integer(partial[o] + integer(value * integer(weights[o])))
                                waiting += 1
                                if waiting == tile:
                                    waiting = 0
                                    for o in range(per_group):
                                        total = integer(register[o] + partial[o])
                                        bounded = min(max(total, minimum), maximum)
                                        flags[o] |= np.uint8(total != bounded)
                                        register[o] = bounded
                                        partial[o] = integer(0)
                    for o in range(per_group):
                        total = integer(register[o] + partial[o])
                        bounded = min(max(total, minimum), maximum)
                        flags[o] |= np.uint8(total != bounded)
                        register[o] = bounded
                        partial[o] = integer(0)

    return conv_saturating


CONV_EXACT: dict[str, Kernel] = {"int32": _make_exact(np.int32), "int64": _make_exact(np.int64)}
"""(x [N, H, W, C] padded, w [KH, KW, C / groups, Cout], stride, groups, sums [N, H', W', Cout]) by type of `sums`."""

CONV_SATURATING: dict[str, Kernel] = {"int32": _make_saturating(np.int32), "int64": _make_saturating(np.int64)}
"""The same with (..., groups, tile (0: the whole sum), lowest, highest, sums, clipped uint8 [N, H', W', Cout])."""
