"""Outputs of which a short register leaves its range: found among those that can, and done again, one by one.

`tables` are (channels, firsts, begins, runs, weights, starts, places, ordered): the R channels that have such registers,
int64 [R]; of channel r the registers `firsts`[r] : `firsts`[r + 1].  Register g has the runs `begins`[g] : `begins`[g + 1]
of `runs` and `weights` (reach.py), and in their order the products `starts`[g] : `starts`[g + 1], with the codes at the
distances `places` int64 and the weights `ordered` int32.  `register` is (low, high, tile, whether it wraps, whether
all is told), `tile` 0: once.
"""

from typing import Any

import numpy as np
from numba import prange

from sim.kernels.jit import inline, kernel
from sim.kernels.reach import reach

CHANGED, PERSISTENT, TRANSIENT = 1, 2, 4
"""Marks of outputs: a register does not hold its exact sum, or did not on the way; with all told, what its registers are."""


@kernel
def find_changes(x: np.ndarray, sign: int, corner: tuple[int, int], steps: tuple[int, int], tables: Any, register: Any,
                 changes: np.ndarray, marks: np.ndarray, found: np.ndarray) -> None:
    """By how much the sums of outputs change, int32 [N, H, R, W], and their marks, uint8.

    `x` uint8 [N, rows, columns, C]; `found` int32 [N, H] are how many pixels of a line have a mark.
    """
    images, rows, _, columns = changes.shape
    channels, firsts, begins, runs, weights = tables[0], tables[1], tables[2], tables[3], tables[4]
    low, high = register[0], register[1]
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        ends = np.empty((2, columns), np.int32)
        changes[n, i] = 0
        marks[n, i] = 0
        first = n * x.strides[0] + (i * steps[0] + corner[0]) * x.strides[1] + corner[1] * x.strides[2]
        step = steps[1] * x.strides[2]
        for r in range(len(channels)):
            for g in range(firsts[r], firsts[r + 1]):
                reach((x.ctypes.data + first, step, columns, runs[begins[g] :].ctypes.data,
                       weights[begins[g] :].ctypes.data, begins[g + 1] - begins[g], sign, ends[0].ctypes.data,
                       ends[1].ctypes.data))
                for j in range(columns):
                    if ends[0, j] > high or ends[1, j] < low:
                        more, mark = _settle(x.reshape(-1), first + j * step, sign, g, tables, register, ends[0, j],
                                             ends[1, j])
                        changes[n, i, r, j] += more
                        marks[n, i, r, j] |= mark
        found[n, i] = _marked(marks[n, i])


@inline
def _marked(marks: np.ndarray) -> int:
    """How many columns of [R, columns] have one."""
    count = 0
    for j in range(marks.shape[1]):
        is_marked = False
        for r in range(marks.shape[0]):
            is_marked |= marks[r, j] != 0
        count += is_marked
    return count


@inline
def _settle(codes: np.ndarray, first: int, sign: int, g: int, tables: Any, register: Any, above: int,
            below: int) -> tuple[np.int32, np.uint8]:
    """What one register holds in the end less its exact sum, and its marks; the window begins with code `first`."""
    low, high, tile, wraps, tells = register
    starts, places, ordered = tables[5], tables[6], tables[7]
    exact = np.int64(above) + np.int64(below)
    if not tells and (wraps or tile == 0 or tile >= starts[g + 1] - starts[g]):
        held = _fitted(exact, low, high, wraps)
        return np.int32(held - exact), np.uint8(held != exact)
    held, waiting, total, mark, has_left = np.int64(0), np.int64(0), np.int64(0), 0, False
    for k in range(starts[g], starts[g + 1]):
        code = (np.int64(codes[first + places[k]]) ^ sign) - sign
        waiting += code * ordered[k]
        if (tile > 0 and (k + 1 - starts[g]) % tile == 0) or k + 1 == starts[g + 1]:
            total += waiting
            has_left |= total < low or total > high
            kept = _fitted(held + waiting, low, high, wraps)
            mark |= 0 if kept == held + waiting else CHANGED
            held, waiting = kept, np.int64(0)
    if has_left:
        mark |= PERSISTENT if exact < low or exact > high else TRANSIENT
    return np.int32(held - exact), np.uint8(mark)


@inline
def _fitted(total: int, low: int, high: int, wraps: bool) -> int:
    """What a register makes of a sum."""
    return ((total - low) & (high - low)) + low if wraps else min(max(total, low), high)


@kernel
def collect_changed(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, sign: int, corner: tuple[int, int], steps: tuple[int, int], channels: np.ndarray, whole: Any,
        begin: np.ndarray, bits: int, changes: np.ndarray, marks: np.ndarray, befores: np.ndarray, clips: bool,
        pixels: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
    """What the last register holds of outputs with a mark: int32 `sums` [pixels, C], and `pixels` int32 [pixels, 3].

    `whole` are (begins, runs, weights) of all products of each of the R channels, `befores` int64 [N, H] how many pixels
    come before those of a line.  The last register begins with `begin` int64 [R] and wraps to so many `bits` (0: it is wide
    enough).  `counts` int64
    [N, H, R]: overflowed outputs, less those that the exact sums alone have had.
    """
    images, rows, count, columns = changes.shape
    begins, runs, weights = whole
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        ends = np.empty((2, 1), np.int32)
        place = befores[n, i] - 1
        first = n * x.strides[0] + (i * steps[0] + corner[0]) * x.strides[1] + corner[1] * x.strides[2]
        counts[n, i] = 0
        for j in range(columns):
            is_new = True
            for r in range(count):
                if marks[n, i, r, j] == 0:
                    continue
                if is_new:
                    place += 1
                    is_new = False
                    pixels[place, 0], pixels[place, 1], pixels[place, 2] = n, i, j
                reach((x.ctypes.data + first + j * steps[1] * x.strides[2], 0, 1, runs[begins[r] :].ctypes.data,
                       weights[begins[r] :].ctypes.data, begins[r + 1] - begins[r], sign, ends[0].ctypes.data,
                       ends[1].ctypes.data))
                exact = np.int64(ends[0, 0]) + np.int64(ends[1, 0]) + begin[r]
                after = _wrapped(exact + changes[n, i, r, j], bits)
                sums[place, channels[r]] = after
                counts[n, i, r] += np.int64(clips or after != exact) - np.int64(_wrapped(exact, bits) != exact)


@inline
def _wrapped(total: Any, bits: int) -> Any:
    """What a register of so many bits holds, 0 if it is wide enough."""
    if bits == 0:
        return total
    half = np.int64(1) << (bits - 1)
    return ((total + half) & (2 * half - 1)) - half


@kernel
def replace_changed(pixels: np.ndarray, channels: np.ndarray, marks: np.ndarray, values: np.ndarray, pad: int,
                    out: np.ndarray) -> None:
    """The `values` [pixels or more, C] of outputs with a mark to their places in `out` [N, H + 2 pad, W + 2 pad, C]."""
    for place in prange(len(pixels)):
        n, i, j = pixels[place, 0], pixels[place, 1], pixels[place, 2]
        for r in range(len(channels)):
            if marks[n, i, r, j] != 0:
                out[n, i + pad, j + pad, channels[r]] = values[place, channels[r]]
