"""Saturating registers, pixel by pixel in order, many channels at once, on any processor with vectors.

A register of up to 15 bits and the products it receives fit 16-bit lanes; wider ones take 32-bit lanes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I8, I16, I32, call, constant, load, loop, machine_code, offset, registers, splat, store
from sim.kernels.jit import inline
from sim.kernels.layout import LANES, Layout, arrange_blocks

PIXELS = 8


def pack(weights: np.ndarray, layout: Layout, narrow: bool) -> np.ndarray:
    """int [KH, KW, C, Cout] -> int16 or int32 [parts, blocks, KH * segments, run, 16]."""
    return arrange_blocks(weights, layout).astype(np.int16 if narrow else np.int32)


def _make_tile(element: Any, every: bool) -> Any:
    """tile((addresses, row_stride, signed, w, rows, products, tile, low, high, registers, flags)).

    `addresses` points to the int64 addresses of the first code of PIXELS windows; `w` to [rows, products, 16] of `element`;
    `registers` and `flags` to int32 [PIXELS, 16]: what the registers hold at the end, and not 0 where one was ever
    clipped.  `every`: they are clipped after each product, else after `tile` of them and at the end.
    """
    vector, words = ir.VectorType(element, LANES), ir.VectorType(I32, LANES)
    name = f"v{LANES}i{element.width}"

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        addresses, row_stride, sign, w, rows, products, tile, low, high, out, out_flags = arguments
        low, high, sign = (builder.trunc(value, element) for value in (low, high, sign))
        low, high = (splat(builder, value, LANES) for value in (low, high))
        contents, flags, partials = (registers(builder, vector, PIXELS) for _ in range(3))
        position, waiting = registers(builder, ir.IntType(64)), registers(builder, ir.IntType(64))
        builder.store(w, position)
        sources = [load(builder, offset(builder, addresses, p, 8), ir.IntType(64), 8) for p in range(PIXELS)]

        def fold(p: int, more: Any) -> None:
            total = builder.add(builder.load(contents[p]), more)
            bounded = call(builder, f"llvm.smin.{name}", vector,
                           [call(builder, f"llvm.smax.{name}", vector, [total, low]), high])
            builder.store(builder.or_(builder.load(flags[p]), builder.xor(total, bounded)), flags[p])
            builder.store(bounded, contents[p])

        def fold_partials() -> None:
            for p in range(PIXELS):
                fold(p, builder.load(partials[p]))
                builder.store(ir.Constant(vector, None), partials[p])
            builder.store(constant(0), waiting)

        with loop(builder, rows) as row:
            x_row = builder.mul(row.index, row_stride)
            with loop(builder, products) as product:
                weights = load(builder, builder.load(position), vector, LANES * element.width // 8)
                builder.store(offset(builder, builder.load(position), 1, LANES * element.width // 8), position)
                step = builder.add(x_row, product.index)
                for p, source in enumerate(sources):
                    code = builder.zext(load(builder, builder.add(source, step), I8, 1), element)
                    code = builder.sub(builder.xor(code, sign), sign)
                    more = builder.mul(splat(builder, code, LANES), weights)
                    if every:
                        fold(p, more)
                    else:
                        builder.store(builder.add(builder.load(partials[p]), more), partials[p])
                if not every:
                    count = builder.add(builder.load(waiting), constant(1))
                    builder.store(count, waiting)
                    with builder.if_then(builder.icmp_signed("==", count, tile), likely=False):
                        fold_partials()
        if not every:
            fold_partials()
        for p in range(PIXELS):
            store(builder, _to_words(builder, contents[p], words), offset(builder, out, p, 4 * LANES), 4)
            store(builder, _to_words(builder, flags[p], words), offset(builder, out_flags, p, 4 * LANES), 4)

    return machine_code(11, emit)


def _to_words(builder: Any, register: Any, words: Any) -> Any:
    value = builder.load(register)
    return value if value.type == words else builder.sext(value, words)


_narrow_each, _narrow_tile = _make_tile(I16, True), _make_tile(I16, False)
_wide_each, _wide_tile = _make_tile(I32, True), _make_tile(I32, False)


@inline
def replay_windows(addresses: np.ndarray, row: int, operands: Any, part: int, block: int, low: Any, high: Any,
                   scratch: np.ndarray) -> None:
    """Replay PIXELS windows for 16 channels of a part.

    `scratch` int32 [2, PIXELS, 16] receives what the registers hold at the end, and not 0 where one was ever clipped.
    """
    w, rows, run, narrow, tile, sign = operands
    weights = w.ctypes.data + part * w.strides[0] + block * w.strides[1]
    registers_at, flags_at = scratch.ctypes.data, scratch.ctypes.data + 4 * PIXELS * LANES
    arguments = (addresses.ctypes.data, row, sign, weights, rows, run, tile, low, high, registers_at, flags_at)
    if narrow and tile == 1:
        _narrow_each(arguments)
    elif narrow:
        _narrow_tile(arguments)
    elif tile == 1:
        _wide_each(arguments)
    else:
        _wide_tile(arguments)


@inline
def replay_block(addresses: np.ndarray, count: int, pixels: np.ndarray, row: int, operands: Any, part: int,  # noqa: PLR0913
                 block: int, low: Any, high: Any, sums: np.ndarray, counts: np.ndarray, scratch: np.ndarray) -> None:
    """Replay the windows at `addresses`, those of the outputs `pixels` (the first `count`), for 16 channels of a part.

    Writes to `sums` [columns, width] and adds to `counts` [1 or 2, width] how many outputs were clipped, and of how many
    the exact sum, which `sums` hold before, does not fit.
    """
    for index in range(count, -(-count // PIXELS) * PIXELS):
        addresses[index] = addresses[count - 1]
    for first in range(0, count, PIXELS):
        replay_windows(addresses[first:], row, operands, part, block, low, high, scratch)
        for p in range(min(PIXELS, count - first)):
            held = sums[pixels[first + p], block * LANES : (block + 1) * LANES]
            if len(counts) > 1:
                add_outside(held, low, high, counts[1, block * LANES :])
            for c in range(LANES):
                held[c] = scratch[0, p, c]
                counts[0, block * LANES + c] += np.int32(scratch[1, p, c] != 0)


@inline
def add_outside(sums: np.ndarray, low: Any, high: Any, counts: np.ndarray) -> None:
    """Add to counts which of 16 sums are not in low .. high."""
    for c in range(LANES):
        counts[c] += np.int32((sums[c] < low) | (sums[c] > high))


def _emit_count(builder: Any, arguments: Sequence[Any]) -> None:
    flags, counts = arguments
    words = ir.VectorType(I32, LANES)
    found = builder.icmp_signed("!=", load(builder, flags, words, 4), ir.Constant(words, None))
    store(builder, builder.sub(load(builder, counts, words, 4), builder.sext(found, words)), counts, 4)


count_flags = machine_code(2, _emit_count)
"""count_flags((flags, counts)): add to int32 [16] at an address which of int32 [16] at another are not 0."""


@inline
def is_any(flags: np.ndarray) -> bool:
    """Whether any of int32 [16] is not 0."""
    bits = np.int32(0)
    for c in range(LANES):
        bits |= flags[c]
    return bits != 0
