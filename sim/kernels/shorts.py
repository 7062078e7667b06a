"""Exact sums of products of few bits in lanes of 16: vpmaddubsw (AVX2), which adds pairs of products of bytes.

It saturates to 16 bits, which no pair here can pass: so it is exact, and so are sums of as many pairs as cannot pass 16
bits, 72 of 4-bit codes and weights.  After these they are added to int32.
"""

from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.blocks import summing_tile
from sim.kernels.ir import I8, I16, call, load, splat
from sim.kernels.jit import inline
from sim.kernels.layout import LANES, Layout, arrange

HIGHEST = 2**15 - 1
PAIR = 2
LEAST_PAIRS = 8
"""Fewer pairs between two conversions are not worth it."""
PIXELS = 8
"""Of the largest tile."""
_BLOCK = PAIR * LANES
_HALVES, _BYTES = ir.VectorType(I16, LANES), ir.VectorType(I8, _BLOCK)


def pairs_that_fit(largest: int) -> int:
    """So many pairs of products of this magnitude never pass 16 bits."""
    return HIGHEST // (PAIR * max(largest, 1))


def pack(weights: np.ndarray, layout: Layout) -> np.ndarray:
    """Bytes [KH, KW, C / groups, Cout] -> int8 [parts, blocks, KH * segments, pairs, 16, 2]."""
    run = arrange(weights, layout, PAIR)
    parts, rows, padded, width = run.shape
    pairs = run.reshape(parts, rows, padded // PAIR, PAIR, width // LANES, LANES)
    return np.ascontiguousarray(pairs.transpose(0, 4, 1, 2, 5, 3).astype(np.int8))


def _add_pairs(builder: Any, code: Any, weights: Any, total: Any) -> Any:
    codes = splat(builder, load(builder, code, I16, 1), LANES)
    more = call(builder, "llvm.x86.avx2.pmadd.ub.sw", _HALVES, [builder.bitcast(codes, _BYTES), weights])
    return builder.add(total, more)


_full, _half, _single = (summing_tile(pixels, (_HALVES, _BYTES), (PAIR, _BLOCK), _add_pairs, "sext")
                         for pixels in (PIXELS, PIXELS // 2, 1))


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
    while j + PIXELS <= columns:
        _full((x + j * pixel, pixel, row, w, rows, pairs, out + 4 * j * width, 4 * width))
        j += PIXELS
    while j + PIXELS // 2 <= columns:
        _half((x + j * pixel, pixel, row, w, rows, pairs, out + 4 * j * width, 4 * width))
        j += PIXELS // 2
    while j < columns:
        _single((x + j * pixel, pixel, row, w, rows, pairs, out + 4 * j * width, 4 * width))
        j += 1
