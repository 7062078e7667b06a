"""Exact sums of products of few bits in lanes of 16: vpmaddubsw (AVX2), which adds pairs of products of bytes.

It saturates to 16 bits, which no pair here can pass: so it is exact, and so are sums of as many pairs as cannot pass 16
bits, 72 of 4-bit codes and weights.  After these they are added to int32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I8, I16, I32, call, load, loop, machine_code, offset, registers, splat, store
from sim.kernels.jit import inline
from sim.kernels.layout import LANES, Layout, arrange

HIGHEST = 2**15 - 1
PAIR = 2
LEAST_PAIRS = 8
"""Fewer pairs between two conversions are not worth it."""
_SIZES = (8, 4, 1)
"""Pixels of tiles."""
_BLOCK = PAIR * LANES


def pairs_that_fit(largest: int) -> int:
    """So many pairs of products of this magnitude never pass 16 bits."""
    return HIGHEST // (PAIR * max(largest, 1))


def pack(weights: np.ndarray, layout: Layout) -> np.ndarray:
    """Bytes [KH, KW, C / groups, Cout] -> int8 [parts, blocks, KH * segments, pairs, 16, 2]."""
    run = arrange(weights, layout, PAIR)
    parts, rows, padded, width = run.shape
    pairs = run.reshape(parts, rows, padded // PAIR, PAIR, width // LANES, LANES)
    return np.ascontiguousarray(pairs.transpose(0, 4, 1, 2, 5, 3).astype(np.int8))


def _make_tile(pixels: int) -> Any:
    """tile((x, pixel_stride, row_stride, w, rows, pairs, out, out_stride)) adds to int32 `out`.

    `x` points to bytes, products of a row in order, `w` to int8 [rows, pairs, 16, 2]; strides in bytes.
    """
    halves, words, codes_of = (ir.VectorType(kind, lanes) for kind, lanes in ((I16, LANES), (I32, LANES), (I8, _BLOCK)))

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, pixel_stride, row_stride, w, rows, pairs, out, out_stride = arguments
        sums, position = registers(builder, halves, pixels), registers(builder, ir.IntType(64))
        builder.store(w, position)
        with loop(builder, rows) as row:
            x_row = offset(builder, x, row.index, row_stride)
            with loop(builder, pairs) as pair:
                weights = load(builder, builder.load(position), codes_of, _BLOCK)
                builder.store(offset(builder, builder.load(position), 1, _BLOCK), position)
                x_pair = offset(builder, x_row, pair.index, PAIR)
                for p, register in enumerate(sums):
                    codes = splat(builder, load(builder, offset(builder, x_pair, p, pixel_stride), I16, 1), LANES)
                    more = call(builder, "llvm.x86.avx2.pmadd.ub.sw", halves, [builder.bitcast(codes, codes_of), weights])
                    builder.store(builder.add(builder.load(register), more), register)
        for p, register in enumerate(sums):
            address = offset(builder, out, p, out_stride)
            more = builder.sext(builder.load(register), words)
            store(builder, builder.add(load(builder, address, words, 4), more), address, 4)

    return machine_code(8, emit)


_full, _half, _single = (_make_tile(pixels) for pixels in _SIZES)


@inline
def shorts_line(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any,
                sums: np.ndarray) -> None:
    """`sums` int32 [columns, width] of a line whose first window begins at x[n, top, left]."""
    w, rows, segments, pairs, exact_pairs = operands
    columns, width = sums.shape
    depth, row = x.shape[3], x.strides[1]
    sums[:] = 0
    first = x.ctypes.data + n * x.strides[0] + top * row + left * depth + channel
    weights = w.ctypes.data + part * w.strides[0]
    for block in range(width // LANES):
        out = sums.ctypes.data + block * 4 * LANES
        block_weights = weights + block * w.strides[1]
        if segments == 1 and rows * pairs <= exact_pairs:
            _add(first, stride * depth, row, block_weights, rows, pairs, out, columns, width)
        else:
            for a in range(rows):
                for segment in range(segments):
                    for begin in range(0, pairs, exact_pairs):
                        _add(first + a * row + segment * depth + PAIR * begin, stride * depth, row,
                             block_weights + _BLOCK * ((a * segments + segment) * pairs + begin),
                             1, min(exact_pairs, pairs - begin), out, columns, width)


@inline
def _add(x: int, pixel: int, row: int, w: int, rows: int, pairs: int, out: int, columns: int, width: int) -> None:
    """All pixels of a line, none twice, since tiles add."""
    j = 0
    while j + 8 <= columns:
        _full((x + j * pixel, pixel, row, w, rows, pairs, out + 4 * j * width, 4 * width))
        j += 8
    while j + 4 <= columns:
        _half((x + j * pixel, pixel, row, w, rows, pairs, out + 4 * j * width, 4 * width))
        j += 4
    while j < columns:
        _single((x + j * pixel, pixel, row, w, rows, pairs, out + 4 * j * width, 4 * width))
        j += 1
