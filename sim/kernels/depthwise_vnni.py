"""Depthwise convolutions through vpdpbusd, 16 channels of a few pixels at once, where there is AVX512-VNNI.

The instruction sums 4 neighboring bytes, but 4 taps of one channel lie a pixel apart: 4 pixels of 16 channels are transposed
in a register.  With windows of up to 3 columns and stride 1 the same 4 pixels serve two outputs, the second one with its
weights moved by one tap.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I8, I32, call, load, loop, machine_code, offset, registers, store
from sim.kernels.jit import inline
from sim.kernels.layout import LANES

TAPS = 4
PIXELS = 4
_BYTES = LANES * TAPS


def is_shared(columns: int, stride: int) -> bool:
    """Whether 4 transposed pixels serve two outputs."""
    return stride == 1 and columns < TAPS


def pack(weights: np.ndarray, stride: int) -> np.ndarray:
    """int [KH, KW, 1, C] of up to 8 bits -> int8 [blocks of 16 channels, KH, groups of taps, 16, 4].

    Where two outputs share 4 pixels the groups are the weights of the first and of the second.
    """
    rows, columns, _, channels = weights.shape
    shared = is_shared(columns, stride)
    groups = 2 if shared else -(-columns // TAPS)
    packed = np.zeros((rows, groups * TAPS, -(-channels // LANES) * LANES), np.int8)
    for start in (0, TAPS + 1) if shared else (0,):
        packed[:, start : start + columns, :channels] = weights[:, :, 0]
    blocks = packed.reshape(rows, groups, TAPS, -1, LANES).transpose(3, 0, 1, 4, 2)
    return np.ascontiguousarray(blocks)


def _make_tile(pixels: int, shared: bool, signed: bool) -> Any:
    """tile((x, pixel_stride, row_stride, tap_stride, w, rows, groups, surplus, out, out_stride)): sums of 16 channels.

    `x` are bytes, `w` int8 [rows, groups, 16, 4], `surplus` and `out` int32.
    """
    codes, words = ir.VectorType(I8, LANES), ir.VectorType(I32, LANES)
    together = 2 if shared else 1

    def transposed(builder: Any, address: Any, tap_stride: Any) -> Any:
        """The bytes of 4 pixels, those of a channel side by side."""
        taps = [load(builder, offset(builder, address, t, tap_stride), codes, 1) for t in range(TAPS)]
        for size in (LANES, 2 * LANES):
            mask = ir.Constant(ir.VectorType(I32, 2 * size), list(range(2 * size)))
            taps = [builder.shuffle_vector(first, second, mask) for first, second in zip(taps[::2], taps[1::2], strict=True)]
        order = [t * LANES + lane for lane in range(LANES) for t in range(TAPS)]
        mixed = builder.shuffle_vector(taps[0], taps[0], ir.Constant(ir.VectorType(I32, _BYTES), order))
        quads = builder.bitcast(mixed, words)
        return builder.xor(quads, ir.Constant(words, [0x80808080] * LANES)) if signed else quads

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, pixel_stride, row_stride, tap_stride, w, rows, groups, surplus, out, out_stride = arguments
        sums = registers(builder, words, pixels)
        position = registers(builder, ir.IntType(64))
        builder.store(w, position)

        def add(p: int, quads: Any, weights: Any) -> None:
            total = call(builder, "llvm.x86.avx512.vpdpbusd.512", words, [builder.load(sums[p]), quads, weights])
            builder.store(total, sums[p])

        with loop(builder, rows) as row:
            x_row = offset(builder, x, row.index, row_stride)
            with loop(builder, 1 if shared else groups) as group:
                at = builder.load(position)
                weights = [load(builder, offset(builder, at, k, _BYTES), words, _BYTES) for k in range(together)]
                builder.store(offset(builder, at, together, _BYTES), position)
                first_tap = offset(builder, x_row, builder.mul(group.index, ir.Constant(ir.IntType(64), TAPS)), tap_stride)
                for p in range(0, pixels, together):
                    quads = transposed(builder, offset(builder, first_tap, p, pixel_stride), tap_stride)
                    for k in range(together):
                        add(p + k, quads, weights[k])
        extra = load(builder, surplus, words, 4)
        for p, register in enumerate(sums):
            store(builder, builder.sub(builder.load(register), extra), offset(builder, out, p, out_stride), 4)

    return machine_code(10, emit)


_shared_4, _shared_2 = _make_tile(4, True, False), _make_tile(2, True, False)
_shared_4_signed, _shared_2_signed = _make_tile(4, True, True), _make_tile(2, True, True)
_apart_4, _apart_1 = _make_tile(4, False, False), _make_tile(1, False, False)
_apart_4_signed, _apart_1_signed = _make_tile(4, False, True), _make_tile(1, False, True)


@inline
def depthwise_vnni_line(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int,  # noqa: PLR0912
                        operands: Any, sums: np.ndarray) -> None:
    """`sums` int32 [columns, width] of the channels from `channel` on; reads up to 3 pixels and 15 bytes behind a line.

    The last tile begins early enough to end with the line.
    """
    w, surplus, shared, count, signed = operands
    columns, width = sums.shape
    tap, row = x.strides[2], x.strides[1]
    corner = x.ctypes.data + n * x.strides[0] + top * row + left * tap + channel
    pixel, step = stride * tap, 4 * width
    smallest = 2 if shared else 1
    at_once = PIXELS if columns >= PIXELS else smallest
    for first in range(0, count[part], LANES):
        block = (channel + first) // LANES
        source, out = corner + first, sums.ctypes.data + 4 * first
        weights, extra = w.ctypes.data + block * w.strides[0], surplus.ctypes.data + 4 * (channel + first)
        for start in range(0, columns, at_once):
            j = min(start, columns - at_once)
            arguments = (source + j * pixel, pixel, row, tap, weights, w.shape[1], w.shape[2], extra, out + j * step, step)
            if shared and signed:
                if at_once == PIXELS:
                    _shared_4_signed(arguments)
                else:
                    _shared_2_signed(arguments)
            elif shared:
                if at_once == PIXELS:
                    _shared_4(arguments)
                else:
                    _shared_2(arguments)
            elif signed:
                if at_once == PIXELS:
                    _apart_4_signed(arguments)
                else:
                    _apart_1_signed(arguments)
            elif at_once == PIXELS:
                _apart_4(arguments)
            else:
                _apart_1(arguments)
