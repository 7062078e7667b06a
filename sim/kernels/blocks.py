"""Exact sums of products in blocks of float32, on any processor with vectors.

Integers below 2^24 are exact in float32, whatever the order of additions and whether they are fused: codes become
float32 once per line, and after as many products as cannot pass 2^24 the sums are added to int32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import F32, I32, call, constant, load, machine_code, offset, registers, splat, store, window
from sim.kernels.jit import inline
from sim.kernels.layout import LANES, Layout, arrange_blocks

PIXELS = 4
LEAST_RUN = 32
"""Fewer products between two conversions are not worth it."""
Add = Callable[[Any, Any, Any, Any], Any]
_FLOATS = ir.VectorType(F32, LANES)


def pack(weights: np.ndarray, layout: Layout) -> np.ndarray:
    """int [KH, KW, C / groups, Cout] -> float32 [parts, blocks, KH * segments, run, 16]."""
    return arrange_blocks(weights, layout).astype(np.float32)


def summing_tile(pixels: int, kinds: tuple[Any, Any], sizes: tuple[int, int], add: Add, to_words: str) -> Any:
    """tile((x, pixel_stride, row_stride, w, rows, steps, out, out_stride)) adds to int32 `out`.

    `x` points to the codes of a row in order, `w` to weights [rows, steps]; strides in bytes.  `kinds` are vectors of the
    sums and of the weights of a step, `sizes` the bytes that a step takes of codes and weights.  add(builder, address of the
    codes, weights, sums) gives the new sums; `to_words`, a conversion of the builder's, makes integers of 32 bits of them.
    """
    words, (kind, weights_kind), (codes_size, size) = ir.VectorType(I32, LANES), kinds, sizes

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, pixel_stride, row_stride, w, rows, steps, out, out_stride = arguments
        sums, position = registers(builder, kind, pixels), registers(builder, ir.IntType(64))
        builder.store(w, position)
        counts = rows, constant(1), steps
        with window(builder, (x, row_stride, constant(0), codes_size), counts, position, size) as (x_step, w_step):
            weights = load(builder, w_step, weights_kind, size)
            for p, register in enumerate(sums):
                total = add(builder, offset(builder, x_step, p, pixel_stride), weights, builder.load(register))
                builder.store(total, register)
        for p, register in enumerate(sums):
            address = offset(builder, out, p, out_stride)
            more = getattr(builder, to_words)(builder.load(register), words)
            store(builder, builder.add(load(builder, address, words, 4), more), address, 4)

    return machine_code(8, emit)


def _add_product(builder: Any, code: Any, weights: Any, total: Any) -> Any:
    codes = splat(builder, load(builder, code, F32, 4), LANES)
    return call(builder, f"llvm.fmuladd.v{LANES}f32", _FLOATS, [codes, weights, total])


_full, _pair, _single = (summing_tile(pixels, (_FLOATS, _FLOATS), (4, 4 * LANES), _add_product, "fptosi")
                         for pixels in (PIXELS, 2, 1))


@inline
def blocks_line(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any,
                sums: np.ndarray) -> None:
    """`sums` int32 [columns, width] of a line whose first window begins at x[n, top, left]."""
    w, rows, kernel_columns, segments, run, exact_rows, exact_run, sign = operands
    columns, width = sums.shape
    depth = x.shape[3]
    floats = np.empty((rows, ((columns - 1) * stride + kernel_columns) * depth), np.float32)
    line_bytes, row_bytes = x.shape[2] * depth, floats.shape[1]
    flat = x.reshape(-1)
    for a in range(rows):
        start = (n * x.shape[1] + top + a) * line_bytes + left * depth
        codes, target = flat[start : start + row_bytes], floats[a]
        for k in range(row_bytes):
            target[k] = np.float32(np.int32(np.int32(codes[k]) ^ np.int32(sign)) - np.int32(sign))
    sums[:] = 0
    weights = w.ctypes.data + part * w.strides[0]
    pixel, row = 4 * stride * depth, 4 * row_bytes
    for block in range(width // LANES):
        out = sums.ctypes.data + block * 4 * LANES
        block_weights = weights + block * w.strides[1]
        if exact_rows == rows and segments == 1:
            _add(floats, 4 * channel, pixel, row, block_weights, rows, run, out, columns, width)
        else:
            for a in range(rows):
                for segment in range(segments):
                    for first in range(0, run, exact_run):
                        _add(floats, a * row + 4 * (channel + segment * depth + first), pixel, row,
                             block_weights + 4 * LANES * ((a * segments + segment) * run + first),
                             1, min(exact_run, run - first), out, columns, width)


@inline
def _add(floats: np.ndarray, start: int, pixel: int, row: int, w: int, rows: int, products: int, out: int,  # noqa: PLR0913
         columns: int, width: int) -> None:
    """All pixels of a line that begins `start` bytes into `floats`, none twice, since tiles add.

    The array itself comes along because numba frees one behind its last use, and an address is none.
    """
    x = floats.ctypes.data + start
    j = 0
    while j + PIXELS <= columns:
        _full((x + j * pixel, pixel, row, w, rows, products, out + 4 * j * width, 4 * width))
        j += PIXELS
    while j + 2 <= columns:
        _pair((x + j * pixel, pixel, row, w, rows, products, out + 4 * j * width, 4 * width))
        j += 2
    if j < columns:
        _single((x + j * pixel, pixel, row, w, rows, products, out + 4 * j * width, 4 * width))
