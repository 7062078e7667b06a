"""Codes to codes by tables, between tensors with borders."""

import numpy as np
from numba import prange

from sim.kernels.jit import kernel


@kernel
def pixel_codes(pixels: np.ndarray, table: np.ndarray, offset: int, out: np.ndarray) -> None:
    """uint8 [N, H, W, C] -> codes by a table per channel [C, 256]; `offset` is the border of `out`."""
    images, rows, columns, channels = pixels.shape
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        for j in range(columns):
            for c in range(channels):
                out[n, i + offset, j + offset, c] = table[c, pixels[n, i, j, c]]


@kernel
def table_codes(x: np.ndarray, x_offset: int, table: np.ndarray, offset: int, out: np.ndarray) -> None:
    """Codes -> codes by one table, from inside one border to inside another."""
    images, rows, columns, channels = x.shape
    rows -= 2 * x_offset
    columns -= 2 * x_offset
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        for j in range(columns):
            for c in range(channels):
                out[n, i + offset, j + offset, c] = table[x[n, i + x_offset, j + x_offset, c]]


@kernel
def threshold_codes(x: np.ndarray, x_offset: int, first: int, thresholds: np.ndarray, offset: int, out: np.ndarray) -> None:
    """Codes -> `first` plus the number of thresholds below them: ascending tables of few steps, without looking up.

    `thresholds` are whole rows of 8, the surplus 255: that many comparisons at a time stay in registers.
    """
    images, rows, columns, channels = x.shape
    rows -= 2 * x_offset
    columns -= 2 * x_offset
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        source = x[n, i + x_offset].reshape(-1)[x_offset * channels : (x_offset + columns) * channels]
        target = out[n, i + offset].reshape(-1)[offset * channels : (offset + columns) * channels]
        for k in range(columns * channels):
            target[k] = first
        for t in range(len(thresholds)):
            t0, t1, t2, t3, t4, t5, t6, t7 = thresholds[t]
            for k in range(columns * channels):
                code = source[k]
                target[k] += (np.uint8(code > t0) + np.uint8(code > t1) + np.uint8(code > t2) + np.uint8(code > t3) +
                              np.uint8(code > t4) + np.uint8(code > t5) + np.uint8(code > t6) + np.uint8(code > t7))


@kernel
def every_pixel(x: np.ndarray, x_offset: int, stride: int, fill: int, offset: int, out: np.ndarray) -> None:
    """Every `stride`-th pixel down and across, into the middle channels; the others become `fill`.

    Words may be of any size, that of several codes included.
    """
    images, rows, columns, words = out.shape
    rows -= 2 * offset
    columns -= 2 * offset
    taken = x.shape[3]
    before = (words - taken) // 2
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        for j in range(columns):
            source = x[n, x_offset + i * stride, x_offset + j * stride]
            target = out[n, i + offset, j + offset]
            for k in range(before):
                target[k] = fill
            for k in range(taken):
                target[before + k] = source[k]
            for k in range(before + taken, words):
                target[k] = fill
