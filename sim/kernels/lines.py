"""Loops over the lines of convolutions: sums, then what the register does with them, then codes, while they are in cache.

A line is one row of an image's outputs, for the channels of one part (layout.py).  `_line`, `_limit` and `_codes` stand for
a kernel path's sums, for registers and for a requantizer's codes, `_enter` and `_leave` for what a thread does before and
after some lines; `specialize` puts the real functions in their place.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import prange

from sim.kernels.jit import inline, specialize
from sim.kernels.layout import LANES
from sim.kernels.replay import PIXELS, replay_block

_line = _limit = _codes = _enter = _leave = replay_block

TOGETHER = 8
"""Lines that share their memory and counters."""
MOST_FLAGGED = 0.5
"""Of a line's outputs: where more may leave their registers, the next lines are not screened."""


@cache
def driver(template: Any, **callees: Any) -> Any:
    """The compiled loop `template` with these functions in it, made once."""
    name = "_".join([template.__name__, *(callee.__name__.strip("_") for callee in callees.values())])
    return specialize(template, name, **{f"_{key}": callee for key, callee in callees.items()})


def conv_codes(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, corner: int, stride: int, parts: np.ndarray, width: int, operands: Any, spare: Any,
        totals: np.ndarray, requant: Any, repeat: int, skip: np.ndarray, skip_pad: int, residual: Any, out: np.ndarray,
        pad: int) -> None:
    """Codes -> codes, or with `keep_sums` as `_codes` -> int32 registers.

    `spare` bits of 32 are not in the register, 0 if nothing can overflow; `totals` int64 [1, 1 or images, channels] grow by
    the sums that do not fit.
    """
    images, rows, columns = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad
    lines = images * rows
    items = (lines + TOGETHER - 1) // TOGETHER
    each, shares = lines_counted(totals, lines, rows)
    counts = np.empty((len(parts) * shares, 1, width), np.int32)
    for item in prange(len(parts) * items):
        part, first = item // items, item % items * TOGETHER
        sums = np.empty((columns, width), np.int32)
        mine = _enter(operands)
        for begin in range(first, min(first + TOGETHER, lines), each):
            counted = counts[part * shares + begin // each, 0]
            if spare > 0:
                counted[:] = np.int32(0)
            for line in range(begin, min(begin + each, lines)):
                n, i = line // rows, line % rows
                _line(x, n, i * stride + corner, corner, stride, parts[part, 0], part, mine, sums)
                if spare > 0:
                    _limit(sums, spare, counted)
                _codes(requant, sums.reshape(-1), width, columns, repeat, parts[part, 1], parts[part, 2],
                       skip, n, i, skip_pad, residual, out, pad)
        _leave(mine)
    if spare > 0:
        add_counts(counts, parts, totals)


def conv_direct(  # noqa: PLR0913
        x: np.ndarray, corner: int, stride: int, parts: np.ndarray, width: int, operands: Any, is_limited: bool,
        constants: Any, skip: np.ndarray, skip_pad: int, has_skip: bool, out: np.ndarray, pad: int,
        totals: np.ndarray) -> None:
    """Codes -> codes, where a path turns sums into codes in its registers; `totals` as in conv_codes."""
    images, rows = len(out), out.shape[1] - 2 * pad
    lines = images * rows
    items = (lines + TOGETHER - 1) // TOGETHER
    each, shares = lines_counted(totals, lines, rows)
    counts = np.empty((len(parts) * shares, 1, width), np.int32)
    for item in prange(len(parts) * items):
        part, first = item // items, item % items * TOGETHER
        for begin in range(first, min(first + TOGETHER, lines), each):
            mine = counts[part * shares + begin // each, 0]
            if is_limited:
                mine[:] = np.int32(0)
            for line in range(begin, min(begin + each, lines)):
                n, i = line // rows, line % rows
                _line(x, n, i * stride + corner, corner, stride, parts[part, 0], part, operands, constants, parts[part, 1],
                      parts[part, 2], skip, n * has_skip, (i + skip_pad) * has_skip, skip_pad, out, i + pad, pad, mine)
    if is_limited:
        add_counts(counts, parts, totals)


def conv_saturating_sums(  # noqa: PLR0913
        x: np.ndarray, corner: int, stride: int, parts: np.ndarray, width: int, operands: Any, positive: Any, negative: Any,
        risky: np.ndarray, screens: bool, starts: np.ndarray, replays: Any, low: Any, high: Any, totals: np.ndarray,
        out: np.ndarray) -> None:
    """Codes -> int32 contents of registers that clip to low .. high after every tile of products.

    Before these they hold `starts` int32 [parts, width], as far as that fits them; exact sums have all of it.

    `totals` int64 [1 or 2, 1 or images, channels] grow by those that did, and by those whose exact sum does not fit.
    `risky` tells for each part whether any of its channels can leave the register at all (contract C7).  `positive` and
    `negative` are the operands of the weights of either sign: where the sums of both lie in low .. high no order of
    additions can leave it.  Outputs for which that does not hold are replayed; without `screens`, and where these have
    flagged most of a line, all.
    """
    images, rows, columns, _ = out.shape
    lines = images * rows
    items = (lines + TOGETHER - 1) // TOGETHER
    row, step = x.strides[1], stride * x.strides[2]
    each, shares = lines_counted(totals, lines, rows)
    counts = np.zeros((len(parts) * shares, len(totals), width), np.int32)
    for item in prange(len(parts) * items):
        part, start = item // items, item % items * TOGETHER
        sums, below = np.empty((columns, width), np.int32), np.empty((columns, width), np.int32)
        pixels, addresses = np.empty(columns, np.int64), np.empty(columns + PIXELS, np.int64)
        scratch = np.empty((2, PIXELS, LANES), np.int32)
        mine, mine_positive, mine_negative = _enter(operands), _enter(positive), _enter(negative)
        is_screened = screens
        for line in range(start, min(start + TOGETHER, lines)):
            n, i = line // rows, line % rows
            top = i * stride + corner
            if risky[part] == 0 or (len(totals) > 1 and not is_screened):
                _line(x, n, top, corner, stride, parts[part, 0], part, mine, sums)
                add_starts(sums, starts[part])
            if risky[part] != 0:
                if is_screened:
                    _line(x, n, top, corner, stride, parts[part, 0], part, mine_positive, sums)
                    _line(x, n, top, corner, stride, parts[part, 0], part, mine_negative, below)
                first = x.ctypes.data + n * x.strides[0] + top * row + corner * x.strides[2]
                every = 0
                for block in range(width // LANES):
                    flagged = 0
                    for j in range(columns):
                        if not is_screened or _leaves(
                                sums[j], below[j], starts[part], block * LANES, low, high):
                            pixels[flagged] = j
                            addresses[flagged] = first + j * step
                            flagged += 1
                    every += flagged
                    if flagged > 0:
                        replay_block(addresses, flagged, pixels, row, replays, part, block, low, high, sums,
                                     counts[part * shares + line // each], scratch)
                if every * LANES > MOST_FLAGGED * columns * width:
                    is_screened = False
            copy_sums(sums, out[n, i], parts[part, 1], parts[part, 2])
        _leave(mine)
    add_counts(counts, parts, totals)


@inline
def stay(operands: Any) -> Any:
    """In the place of `_enter`: nothing to prepare."""
    return operands


@inline
def depart(operands: Any) -> None:
    """In the place of `_leave`: nothing to undo."""


@inline
def keep_sums(  # noqa: PLR0913
        constants: Any, sums: np.ndarray, width: int, columns: int, repeat: int, first: int, count: int, skip: np.ndarray,
        n: int, i: int, skip_pad: int, residual: Any, out: np.ndarray, pad: int) -> None:
    """In the place of a requantizer: what the registers hold goes out as it is."""
    copy_sums(sums.reshape(columns, width), out[n, i], first, count)


def less_codes(  # noqa: PLR0913
        constants: Any, sums: np.ndarray, width: int, columns: int, repeat: int, first: int, count: int, skip: np.ndarray,
        n: int, i: int, skip_pad: int, residual: Any, out: np.ndarray, pad: int) -> None:
    """A requantizer's line (`_codes`) of sums less a number for each channel, then a zero point added to its codes."""
    less, zero = constants[0], constants[1]
    for j in range(columns):
        line = sums[j * width : j * width + count]
        for c in range(count):
            line[c] -= less[first + c]
    _codes(constants[2:], sums, width, columns, repeat, first, count, skip, n, i, skip_pad, residual, out, pad)
    if zero != 0:
        for j in range(columns):
            codes = out[n, i + pad, j + pad, first : first + count]
            for c in range(count):
                codes[c] = np.int32(codes[c]) + zero


@cache
def corrected(line: Any) -> Any:
    """The same line for such constants: (int32 [channels], the zero point, then the requantizer's own)."""
    return specialize(less_codes, f"less_{line.__name__}", inline, _codes=line)


@inline
def lines_counted(totals: np.ndarray, lines: int, rows: int) -> tuple[int, int]:
    """How many lines share counters, and how many such shares all lines are.

    TOGETHER of them, or fewer where totals tell images apart, so that no share has lines of two.
    """
    each = TOGETHER
    if totals.shape[1] > 1:
        while rows % each != 0:
            each //= 2
    return each, (lines + each - 1) // each


@inline
def add_counts(counts: np.ndarray, parts: np.ndarray, totals: np.ndarray) -> None:
    """int32 [parts * shares, kinds, width] -> int64 totals [kinds, 1 or images, channels]; shares are in order of images."""
    shares = len(counts) // len(parts)
    kinds, images, _ = totals.shape
    for index in range(len(counts)):
        part, n = index // shares, index % shares * images // shares
        first = parts[part, 1]
        for kind in range(kinds):
            for c in range(parts[part, 2]):
                totals[kind, n, first + c] += counts[index, kind, c]


@inline
def copy_sums(sums: np.ndarray, out: np.ndarray, first: int, count: int) -> None:
    """The first `count` columns of sums to those of `out` from `first` on."""
    for j in range(len(sums)):
        source, target = sums[j], out[j][first : first + count]
        for c in range(count):
            target[c] = source[c]


@inline
def _leaves(above: np.ndarray, below: np.ndarray, starts: np.ndarray, first: int, low: Any, high: Any) -> bool:
    """Whether any of 16 registers of a pixel may leave low .. high; `above` becomes the whole sums."""
    outside = np.int32(0)
    positive, negative, begin = above[first : first + LANES], below[first : first + LANES], starts[first : first + LANES]
    for c in range(LANES):
        most = np.int32(positive[c] + begin[c])
        outside |= np.int32((most > high) | (np.int32(negative[c] + begin[c]) < low))
        positive[c] = np.int32(most + negative[c])
    return outside != 0


@inline
def add_starts(sums: np.ndarray, starts: np.ndarray) -> None:
    """What registers of all columns [columns, width] began with, to their sums."""
    for j in range(len(sums)):
        held = sums[j]
        for c in range(len(starts)):
            held[c] = np.int32(held[c] + starts[c])


def requantize(sums: np.ndarray, requant: Any, repeat: int, skip: np.ndarray, skip_pad: int, residual: Any,
               out: np.ndarray, pad: int) -> None:
    """int sums [N, H, W, C] -> codes inside a border."""
    images, rows, columns, channels = sums.shape
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        _codes(requant, sums[n, i].reshape(-1), channels, columns, repeat, 0, channels, skip, n, i, skip_pad, residual,
               out, pad)
