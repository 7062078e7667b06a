"""Definitions along the channels of a pixel, a line of an image at a time: softmax and layer norm as BitTrue's own.

Tensors of codes are unsigned views inside a border; a `place` is (border, sign bit, sign bit + zero point): a stored code u
is the integer (u ^ sign) - the last.  Results are the very integers, and floats rounded in the very order, of
sim/definitions/softmax.py `ExactSoftmax` and sim/definitions/layernorm.py `ExactLayerNorm`.
"""

from typing import Any

import numpy as np
from numba import prange

from sim.kernels.jit import kernel


@kernel
def softmax_rows(
        x: np.ndarray, place: Any, kept: np.ndarray, table: np.ndarray, end: Any, out: np.ndarray, pad: int) -> None:
    """Exponentials of `table` (float64 whole numbers), their sum, a division each; 0 where uint8 `kept` [N or 1, C] is 0.

    `end` is (steps from 0 to 1, the code that stands for 0).  A quotient of whole numbers, rounded to float64, is on the
    same side of every whole number as itself while it is below 2^53 / its divisor, which who calls makes sure of.
    """
    border, sign, minus = place
    levels, least = end
    images, rows, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        keep = kept[n if len(kept) > 1 else 0]
        codes, values = np.empty(channels, np.int32), np.empty(channels, np.float64)
        for j in range(columns):
            pixel, found = x[n, i + border, j + border], out[n, i + pad, j + pad]
            top = np.int32(-(1 << 30))
            for c in range(channels):
                code = np.int32(np.int32(np.int32(pixel[c]) ^ sign) - minus)
                codes[c] = code
                top = max(top, code if keep[c] else np.int32(-(1 << 30)))
            total = 0.0
            for c in range(channels):
                below = np.uint64(top - codes[c] if keep[c] else 0)  # unsigned: no index from the end is looked for
                value = table[below] if keep[c] else 0.0
                values[c] = value
                total += value
            if total == 0.0:
                total = 1.0
            for c in range(channels):
                found[c] = np.int32(np.floor((values[c] * (2.0 * levels) + total) / (2.0 * total))) + least


@kernel
def layernorm_rows(x: np.ndarray, place: Any, constants: Any, limits: Any, out: np.ndarray, pad: int) -> None:
    """`constants` are gain and offset float32 [C] and eps; sums of squares must be below 2^53, C times a code below 2^31.

    Every operation is rounded once, in this order: contraction of a product and a sum is off wherever kernels are compiled.
    """
    border, sign, minus = place
    gain, offset, eps = constants
    low, high = limits
    images, rows, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        codes = np.empty(channels, np.int32)
        for j in range(columns):
            pixel, found = x[n, i + border, j + border], out[n, i + pad, j + pad]
            total, squares = np.int64(0), np.int64(0)
            for c in range(channels):
                code = np.int32(np.int32(np.int32(pixel[c]) ^ sign) - minus)
                codes[c] = code
                total += np.int64(code)
                squares += np.int64(code) * np.int64(code)
            inverse = 1.0 / np.sqrt(np.float64(squares * channels - total * total) + eps)
            mean, count = np.int32(total), np.int32(channels)
            for c in range(channels):
                slope = np.float32(inverse * np.float64(gain[c]))
                steps = np.float32(np.float32(np.float32(np.int32(codes[c] * count - mean)) * slope) + offset[c])
                found[c] = np.int32(min(max(np.rint(steps), low), high))
