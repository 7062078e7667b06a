"""Convolution sums on codes: exact, or through a saturating register.

`x` [N, rows, columns, C] has zeros around every image; `offset` is where the first window begins.  numba widens every
integer operation to 64 bits, so the width of a sum is passed on purpose: `integer` is np.int32, where the bound on
partial sums is proved, or np.int64, and `sums` [N, H, W, Cout] is of that type.  (An argument and not a closure: numba's
cache never finds a closure over compiled functions again.)
"""

from typing import Any

import numpy as np
from numba import prange

from sim.kernels.jit import inline, kernel

REPLAY_TOGETHER = 8
"""One flagged output in so many makes it cheaper to replay the pixel for all channels at once."""


@kernel
def conv_exact(x: np.ndarray, offset: int, w: np.ndarray, stride: int, groups: int, sums: np.ndarray, integer: Any) -> None:
    """Sums of all products.  `w` [KH, KW, C / groups, Cout]."""
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
                            value = x[n, i * stride + a + offset, j * stride + b + offset, group * depth + c]
                            if value != 0:
                                for o in range(per_group):
                                    product = integer(integer(value) * integer(weights[o]))
                                    out[j, first + o] = integer(out[j, first + o] + product)


@kernel
def conv_saturating(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, offset: int, w: np.ndarray, stride: int, groups: int, tile: int, low: int, high: int,
        sums: np.ndarray, clipped: np.ndarray, integer: Any) -> None:
    """Registers that clip to low .. high after every `tile` products (0: once); `clipped` uint8 says which did."""
    images, rows, columns, channels = sums.shape
    depth = w.shape[2]
    per_group = channels // groups
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        partial = np.zeros(per_group, sums.dtype)
        for j in range(columns):
            for group in range(groups):
                first = group * per_group
                _replay_pixel(x[n], i * stride + offset, j * stride + offset, group * depth, w, first, tile, low, high,
                              sums[n, i, j, first : first + per_group], clipped[n, i, j, first : first + per_group],
                              partial, integer)


@kernel
def resolve_screened(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, offset: int, w: np.ndarray, w_by_channel: np.ndarray, stride: int, tile: int, low: int, high: int,
        positive: np.ndarray, negative: np.ndarray, sums: np.ndarray, clipped: np.ndarray, integer: Any) -> None:
    """What saturating registers hold, where `positive` and `negative`, sums of the products of either sign, bound them.

    Where both lie in low .. high no order of additions can leave it and their sum is right (contract C7, for unsigned
    inputs); only the other outputs are replayed in order: alone, or with their whole pixel where many are flagged.
    `w_by_channel` [Cout, KH, KW, C] are the weights again.
    """
    images, rows, columns, channels = sums.shape
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        partial = np.zeros(channels, sums.dtype)
        for j in range(columns):
            flagged = np.int64(0)
            for o in range(channels):
                above, below = positive[n, i, j, o], negative[n, i, j, o]
                flagged += np.int64((above > high) | (below < low))
                sums[n, i, j, o] = integer(above + below)
                clipped[n, i, j, o] = np.uint8(0)
            top, left = i * stride + offset, j * stride + offset
            if flagged * REPLAY_TOGETHER >= channels:
                _replay_pixel(x[n], top, left, 0, w, 0, tile, low, high, sums[n, i, j], clipped[n, i, j], partial, integer)
            elif flagged:
                for o in range(channels):
                    if positive[n, i, j, o] > high or negative[n, i, j, o] < low:
                        total, was_clipped = _replay_output(x[n], top, left, w_by_channel[o], tile, low, high)
                        sums[n, i, j, o] = integer(total)
                        clipped[n, i, j, o] = was_clipped


@inline
def _replay_pixel(  # noqa: PLR0913
        x: np.ndarray, top: int, left: int, channel: int, w: np.ndarray, first: int, tile: int, low: int, high: int,
        register: np.ndarray, clipped: np.ndarray, partial: np.ndarray, integer: Any) -> None:
    """All products of one pixel in order, for all channels `first` and on at once."""
    kernel_rows, kernel_columns, depth, _ = w.shape
    register[:] = integer(0)
    clipped[:] = np.uint8(0)
    waiting = 0
    for a in range(kernel_rows):
        for b in range(kernel_columns):
            for c in range(depth):
                value = x[top + a, left + b, channel + c]
                waiting += 1
                if value != 0:
                    _add_products(value, w[a, b, c, first : first + len(register)], partial, integer)
                elif tile == 1:
                    continue  # zero cannot move a register
                if waiting >= tile > 0:
                    _fold(partial, low, high, register, clipped, integer)
                    waiting = 0
    _fold(partial, low, high, register, clipped, integer)


@inline
def _replay_output(x: np.ndarray, top: int, left: int, w: np.ndarray, tile: int, low: Any, high: Any) -> Any:
    """(register, whether it clipped) after all products of one output in order."""
    kernel_rows, kernel_columns, depth = w.shape
    register, partial, waiting, clipped = np.int64(0), np.int64(0), 0, np.uint8(0)
    for a in range(kernel_rows):
        for b in range(kernel_columns):
            for c in range(depth):
                partial += np.int64(x[top + a, left + b, c]) * np.int64(w[a, b, c])
                waiting += 1
                if waiting >= tile > 0:
                    total = register + partial
                    register = min(max(total, low), high)
                    clipped |= np.uint8(total != register)
                    partial, waiting = np.int64(0), 0
    total = register + partial
    register = min(max(total, low), high)
    return register, clipped | np.uint8(total != register)


@inline
def _add_products(value: int, weights: np.ndarray, partial: np.ndarray, integer: Any) -> None:
    for o in range(len(partial)):
        partial[o] = integer(partial[o] + integer(integer(value) * integer(weights[o])))


@inline
def _fold(partial: np.ndarray, low: int, high: int, register: np.ndarray, clipped: np.ndarray, integer: Any) -> None:
    """Add a tile's sums to the registers, clip, remember who was clipped, begin the next tile."""
    for o in range(len(partial)):
        total = integer(register[o] + partial[o])
        bounded = min(max(total, integer(low)), integer(high))
        clipped[o] |= np.uint8(total != bounded)
        register[o] = bounded
        partial[o] = integer(0)


@kernel
def wrap_sums(sums: np.ndarray, half: Any, mask: Any, counts: np.ndarray, integer: Any) -> None:
    """Reduce exact sums to two's complement in place, `half` = 2^(bits - 1) and `mask` = 2^bits - 1 of type `integer`.

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
                # exact + half fits `integer`: a limited register is narrower than what the sums can reach
                wrapped = integer(integer(integer(exact + half) & mask) - half)
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
