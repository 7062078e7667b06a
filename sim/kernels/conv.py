"""Convolution sums on codes in plain int64 loops: any width, any groups, exact or through a saturating register.

`x` [N, rows, columns, C] has a border around every image; `offset` is where the first window begins; `steps` are the strides
down and across, and the dilation: from one tap of the kernel to the next.  These loops run what
no register tile can (steps/conv.py), and all convolutions where kernels are interpreted.
"""

import numpy as np
from numba import prange

from sim.kernels.jit import inline, kernel


@kernel
def conv_exact(x: np.ndarray, offset: int, w: np.ndarray, steps: tuple[int, int, int], groups: int,
               sums: np.ndarray) -> None:
    """Sums of all products.  `w` [KH, KW, C / groups, Cout]."""
    images, rows, columns, channels = sums.shape
    kernel_rows, kernel_columns, depth, _ = w.shape
    down, across, dilation = steps
    per_group = channels // groups
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        out = sums[n, i]
        out[:] = np.int64(0)
        for a in range(kernel_rows):
            for b in range(kernel_columns):
                for group in range(groups):
                    first = group * per_group
                    for c in range(depth):
                        weights = w[a, b, c, first : first + per_group]
                        for j in range(columns):
                            value = x[n, i * down + a * dilation + offset, j * across + b * dilation + offset,
                                      group * depth + c]
                            if value != 0:
                                for o in range(per_group):
                                    product = np.int64(value) * np.int64(weights[o])
                                    out[j, first + o] = out[j, first + o] + product


@kernel
def conv_saturating(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, offset: int, w: np.ndarray, steps: tuple[int, int, int], groups: int, tile: int,
        low: int, high: int, starts: np.ndarray, sums: np.ndarray, clipped: np.ndarray) -> None:
    """Registers that clip to low .. high after every `tile` products (0: once); `clipped` uint8 says which did.

    `starts` int64 [Cout] are loaded before, clipped as well.
    """
    images, rows, columns, channels = sums.shape
    depth = w.shape[2]
    down, across, dilation = steps
    per_group = channels // groups
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        partial = np.zeros(per_group, sums.dtype)
        for j in range(columns):
            for group in range(groups):
                first = group * per_group
                _replay_pixel(x[n], i * down + offset, j * across + offset, dilation, group * depth, w, first, tile, low,
                              high, starts[first : first + per_group], sums[n, i, j, first : first + per_group],
                              clipped[n, i, j, first : first + per_group], partial)


@inline
def _replay_pixel(  # noqa: PLR0913
        x: np.ndarray, top: int, left: int, dilation: int, channel: int, w: np.ndarray, first: int, tile: int,
        low: int, high: int, starts: np.ndarray, register: np.ndarray, clipped: np.ndarray, partial: np.ndarray) -> None:
    """All products of one pixel in order, for all channels `first` and on at once."""
    kernel_rows, kernel_columns, depth, _ = w.shape
    for o in range(len(register)):
        register[o] = min(max(starts[o], low), high)
        clipped[o] = np.uint8(register[o] != starts[o])
    waiting = 0
    for a in range(kernel_rows):
        for b in range(kernel_columns):
            for c in range(depth):
                value = x[top + a * dilation, left + b * dilation, channel + c]
                waiting += 1
                if value != 0:
                    _add_products(value, w[a, b, c, first : first + len(register)], partial)
                elif tile == 1:
                    continue  # zero cannot move a register
                if waiting >= tile > 0:
                    _fold(partial, low, high, register, clipped)
                    waiting = 0
    _fold(partial, low, high, register, clipped)


@inline
def _add_products(value: int, weights: np.ndarray, partial: np.ndarray) -> None:
    for o in range(len(partial)):
        partial[o] = partial[o] + np.int64(value) * np.int64(weights[o])


@inline
def _fold(partial: np.ndarray, low: int, high: int, register: np.ndarray, clipped: np.ndarray) -> None:
    """Add a tile's sums to the registers, clip, remember who was clipped, begin the next tile."""
    for o in range(len(partial)):
        total = register[o] + partial[o]
        bounded = min(max(total, low), high)
        clipped[o] |= np.uint8(total != bounded)
        register[o] = bounded
        partial[o] = np.int64(0)


@kernel
def wrap_sums(sums: np.ndarray, half: int, mask: int, counts: np.ndarray) -> None:
    """Reduce exact sums to two's complement in place, `half` = 2^(bits - 1) and `mask` = 2^bits - 1.

    `counts` int32 [N * H, Cout] receives how many sums of a line did not fit.
    """
    images, rows, columns, channels = sums.shape
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        counts[line] = np.int32(0)
        for j in range(columns):
            for o in range(channels):
                exact = sums[n, i, j, o]
                wrapped = ((exact + half) & mask) - half
                sums[n, i, j, o] = wrapped
                counts[line, o] += np.int32(wrapped != exact)


@kernel
def count_flags(flags: np.ndarray, counts: np.ndarray) -> None:
    """uint8 flags [N, H, W, C] -> int32 [N * H, C], how many of a line are set."""
    images, rows, columns, channels = flags.shape
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        counts[line] = np.int32(0)
        for j in range(columns):
            for o in range(channels):
                counts[line, o] += np.int32(flags[n, i, j, o])
