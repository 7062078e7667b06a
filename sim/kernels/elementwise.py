"""Operations without weights, a line at a time while it is in cache: sums, products, windows; then a requantizer's codes.

Tensors of codes are unsigned views inside a border.  A `place` is (border, sign bit, sign bit + zero point): a stored code u
is the integer (u ^ sign) - the last.  `_codes` stands for a requantizer's line, `lines.driver` puts the real one there;
`end` is (its constants, how many pixels they are for, the zero point that is added to its codes).
"""

from typing import Any

import numpy as np
from numba import prange

from sim.kernels.jit import inline, kernel

_codes: Any = None
_rule: Any = None

POOLED = 256
"""Channels that are pooled together where a line is of one pixel: else an image's would keep a single thread busy."""


@inline
def read_line(x: np.ndarray, n: int, i: int, place: Any, line: np.ndarray) -> None:
    """Row i of image n, integers less their zero point."""
    pad, sign, zero = place
    start = pad * x.shape[3]
    row = x[n, i + pad].reshape(-1)[start : start + len(line)]
    for k in range(len(line)):
        line[k] = np.int32(np.int32(np.int32(row[k]) ^ sign) - zero)


@inline
def write_line(codes: np.ndarray, zero: Any, out: np.ndarray, n: int, i: int, pad: int) -> None:
    """Codes plus their zero point, to row i of image n."""
    start = pad * out.shape[3]
    row = out[n, i + pad].reshape(-1)[start : start + len(codes)]
    for k in range(len(codes)):
        row[k] = np.int32(codes[k]) + zero


@inline
def add_zero(zero: Any, out: np.ndarray, n: int, i: int, pad: int, first: int, count: int) -> None:
    """The zero point, to codes that lie without it in row i of image n: `count` from the `first` on."""
    if zero != 0:
        start = pad * out.shape[3] + first
        row = out[n, i + pad].reshape(-1)[start : start + count]
        for k in range(count):
            row[k] = np.int32(row[k]) + zero


def add_lines(x: np.ndarray, place: Any, y: np.ndarray, y_place: Any, end: Any, out: np.ndarray, pad: int) -> None:
    """Codes of x are the sums, those of y the residual."""
    constants, repeat, zero = end
    images, rows, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        sums, more = np.empty(columns * channels, np.int32), np.empty((1, 1, columns, channels), np.int32)
        codes = np.empty((1, 1, columns, channels), out.dtype)
        read_line(x, n, i, place, sums)
        read_line(y, n, i, y_place, more.reshape(-1))
        _codes(constants, sums, channels, columns, repeat, 0, channels, more, 0, 0, 0, (True, np.int32(0)), codes, 0)
        write_line(codes.reshape(-1), zero, out, n, i, pad)


def add_words(
        x: np.ndarray, place: Any, y: np.ndarray, y_place: Any, constants: Any, limits: Any, out: np.ndarray,
        pad: int) -> None:
    """The same of bytes in one pass of 32-bit words, where `_rule`(a, b, constants) needs no more and has no channels.

    `limits` are the least and the largest code, and the zero point.
    """
    x_pad, sign, minus = place
    y_pad, y_sign, y_minus = y_place
    low, high, zero = limits
    images, rows, channels = len(out), out.shape[1] - 2 * pad, out.shape[3]
    size = (out.shape[2] - 2 * pad) * channels
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        first = x[n, i + x_pad].reshape(-1)[x_pad * channels : x_pad * channels + size]
        second = y[n, i + y_pad].reshape(-1)[y_pad * channels : y_pad * channels + size]
        codes = out[n, i + pad].reshape(-1)[pad * channels : pad * channels + size]
        for k in range(size):
            a = np.int32(np.int32(np.int32(first[k]) ^ sign) - minus)
            b = np.int32(np.int32(np.int32(second[k]) ^ y_sign) - y_minus)
            codes[k] = min(max(np.int32(_rule(a, b, constants) + zero), low), high)


def multiply_lines(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, place: Any, y: np.ndarray, y_place: Any, is_spread: bool, wide: np.ndarray, nothing: np.ndarray,
        end: Any, out: np.ndarray, pad: int) -> None:
    """Codes of x times those of y, which is of one pixel if `is_spread`.

    `wide` is an empty array of the type that holds every product, `nothing` stands for no residual.
    """
    constants, repeat, zero = end
    x_pad, sign, minus = place
    images, rows, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    size = columns * channels
    span = repeat * channels if is_spread else size
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        row = x[n, i + x_pad].reshape(-1)[x_pad * channels : x_pad * channels + size]
        sums, factors = np.empty(size, wide.dtype), np.empty(span, np.int32)
        if is_spread:
            for j in range(repeat):
                read_line(y, n, 0, y_place, factors[j * channels : (j + 1) * channels])
        else:
            read_line(y, n, i, y_place, factors)
        for start in range(0, size, span):
            source, target = row[start : start + span], sums[start : start + span]
            for k in range(span):
                target[k] = np.int32(np.int32(np.int32(source[k]) ^ sign) - minus)
                target[k] = target[k] * factors[k]
        _codes(constants, sums, channels, columns, repeat, 0, channels, nothing, n, i, 0, (False, np.int32(0)), out, pad)
        add_zero(zero, out, n, i, pad, 0, size)


def pool_lines(
        x: np.ndarray, place: Any, window: Any, wide: np.ndarray, nothing: np.ndarray, end: Any, out: np.ndarray,
        pad: int) -> None:
    """Sums over windows (rows, columns, stride, padding) of codes less their zero point, which the border of x holds."""
    constants, repeat, zero = end
    x_pad, sign, minus = place
    height, width, stride, padding = window
    images, rows, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    corner = x_pad - padding
    most = min(POOLED, channels) if columns == 1 else channels
    parts = (channels + most - 1) // most
    for item in prange(images * rows * parts):
        n, i, first = item // (rows * parts), item // parts % rows, item % parts * most
        count = min(most, channels - first)
        sums = np.zeros(columns * count, wide.dtype)
        for j in range(columns):
            pixel = sums[j * count : (j + 1) * count]
            for a in range(height):
                row = x[n, i * stride + a + corner].reshape(-1)
                for b in range(width):
                    start = (j * stride + b + corner) * channels + first
                    source = row[start : start + count]
                    for c in range(count):
                        pixel[c] += np.int32(np.int32(np.int32(source[c]) ^ sign) - minus)
        _codes(constants, sums, count, columns, repeat, first, count, nothing, n, i, 0, (False, np.int32(0)), out, pad)
        add_zero(zero, out, n, i, pad, first, columns * count)


@kernel
def max_codes(x: np.ndarray, x_pad: int, sign: Any, window: Any, out: np.ndarray, pad: int) -> None:
    """The largest code of each window, of which the border is no part.

    `window`: rows, columns, strides down and across, padding above and before.
    """
    height, width, down, across, above, before = window
    images, rows, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    last_row, last_column = x.shape[1] - 2 * x_pad, x.shape[2] - 2 * x_pad
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        top, bottom = max(i * down - above, 0), min(i * down - above + height, last_row)
        for j in range(columns):
            left, right = max(j * across - before, 0), min(j * across - before + width, last_column)
            target, first = out[n, i + pad, j + pad], x[n, top + x_pad, left + x_pad]
            for c in range(channels):
                target[c] = first[c]
            for a in range(top, bottom):
                for b in range(left, right):
                    source = x[n, a + x_pad, b + x_pad]
                    for c in range(channels):
                        code, most = source[c], target[c]
                        target[c] = code if (code ^ sign) > (most ^ sign) else most


@kernel
def part_codes(x: np.ndarray, x_pad: int, table: np.ndarray, first: int, out: np.ndarray, pad: int) -> None:
    """Codes -> codes by one table, to the channels of `out` from `first` on."""
    images, rows, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, x.shape[3]
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        for j in range(columns):
            source, target = x[n, i + x_pad, j + x_pad], out[n, i + pad, j + pad][first : first + channels]
            for c in range(channels):
                target[c] = table[source[c]]
