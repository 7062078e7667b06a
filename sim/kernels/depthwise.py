"""Convolutions with one input channel per output channel, 16 channels of a few pixels at once, on any processor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I8, I16, I32, load, loop, machine_code, offset, registers, store
from sim.kernels.jit import inline
from sim.kernels.layout import LANES

PIXELS = 4
WIDTH = 192


def pack(weights: np.ndarray) -> np.ndarray:
    """int [KH, KW, 1, C] of up to 16 bits -> int16 [KH, KW, C rounded up to whole blocks]."""
    rows, columns, _, channels = weights.shape
    packed = np.zeros((rows, columns, -(-channels // LANES) * LANES), np.int16)
    packed[..., :channels] = weights[:, :, 0]
    return packed


def _make_tile(pixels: int, signed: bool) -> Any:
    """tile((x, pixel_stride, row_stride, tap_stride, w, w_stride, rows, columns, out, out_stride)): sums of 16 channels.

    `x` are bytes, `w` int16 with `w_stride` bytes from tap to tap, `out` int32.
    """
    codes, halves, words = (ir.VectorType(kind, LANES) for kind in (I8, I16, I32))

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, pixel_stride, row_stride, tap_stride, w, w_stride, rows, columns, out, out_stride = arguments
        sums = registers(builder, words, pixels)
        position = registers(builder, ir.IntType(64))
        builder.store(w, position)
        with loop(builder, rows) as row:
            x_row = offset(builder, x, row.index, row_stride)
            with loop(builder, columns) as column:
                weights = builder.sext(load(builder, builder.load(position), halves, 2), words)
                builder.store(builder.add(builder.load(position), w_stride), position)
                tap = offset(builder, x_row, column.index, tap_stride)
                for p, register in enumerate(sums):
                    code = load(builder, offset(builder, tap, p, pixel_stride), codes, 1)
                    wide = builder.sext(code, words) if signed else builder.zext(code, words)
                    builder.store(builder.add(builder.load(register), builder.mul(wide, weights)), register)
        for p, register in enumerate(sums):
            store(builder, builder.load(register), offset(builder, out, p, out_stride), 4)

    return machine_code(10, emit)


_full, _rest = _make_tile(PIXELS, False), _make_tile(1, False)
_full_signed, _rest_signed = _make_tile(PIXELS, True), _make_tile(1, True)


@inline
def depthwise_line(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int,
                   operands: Any, sums: np.ndarray) -> None:
    """`sums` int32 [columns, width] of the channels from `channel` on; reads up to 15 bytes behind the last pixel."""
    w, count, signed = operands
    columns, width = sums.shape
    tap, row = x.strides[2], x.strides[1]
    corner = x.ctypes.data + n * x.strides[0] + top * row + left * tap + channel
    pixel = stride * tap
    at_once = PIXELS if columns >= PIXELS else 1
    for first in range(0, count[part], LANES):
        source, weights = corner + first, w.ctypes.data + 2 * (channel + first)
        out = sums.ctypes.data + 4 * first
        for start in range(0, columns, at_once):
            j = min(start, columns - at_once)  # the last tile begins early enough to end with the line
            arguments = (source + j * pixel, pixel, row, tap, weights, w.strides[1], w.shape[0], w.shape[1],
                         out + 4 * j * width, 4 * width)
            if at_once == PIXELS and signed:
                _full_signed(arguments)
            elif at_once == PIXELS:
                _full(arguments)
            elif signed:
                _rest_signed(arguments)
            else:
                _rest(arguments)
