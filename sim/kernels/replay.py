"""Saturating registers, pixel by pixel in order, many channels at once, on any processor with vectors.

A register of up to 15 bits and the products it receives fit 16-bit lanes; wider ones take 32-bit lanes.

One of up to 16 bits that holds every product, and is consulted after each, lies at the top of its lane: the lane is
2^(16 - bits) times the value.  Then the processor's own saturating addition clips it, in one instruction.  Clipped above,
the lane has ones below the register; they change neither later clips nor what the register holds, which is the lane shifted
down.  Whether it was ever clipped shows beside the exact sum modulo 2^16: the two differ from the first clip on, until clips
at the other end make up for it.  Before that a register has to travel through all of its range, so that it is enough to
compare them every so many products as cannot do that.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from sim.kernels.ir import (
    I8,
    I16,
    I32,
    aligned,
    call,
    constant,
    load,
    loop,
    machine_code,
    offset,
    registers,
    splat,
    store,
    stored,
    window,
)
from sim.kernels.jit import inline
from sim.kernels.layout import LANES, Layout, arrange_blocks, arrange_channels

PIXELS = 8
_TOGETHER = 4
"""Pixels whose registers and exact sums the processor holds at the same time."""
_LANE_BITS = 16
_WIDE, _NARROW, _ON_TOP = range(3)
"""How registers lie in lanes."""


class Operands(NamedTuple):
    """What replays need of a convolution and its registers."""

    weights: np.ndarray
    """int16 or int32 [parts, blocks, KH * segments, run, 16]."""
    starts: np.ndarray
    """Of the same type [parts, blocks, 2, 16]: what registers hold before, and not 0 where more was to be loaded."""
    rows: int
    run: int
    lanes: int
    tile: int
    sign: int
    shift: int
    """How far from the bottom of its lane a register lies."""
    period: int
    """Products after which it is looked whether it was clipped."""

    @property
    def is_fast(self) -> bool:
        """Whether a product is an addition and little else."""
        return self.lanes == _ON_TOP


def operands(weights: np.ndarray, layout: Layout, bits: int, largest: int, tile: int, sign: int,
             start: np.ndarray | None = None) -> Operands:
    """Those of weights [KH, KW, C, Cout], whose products with codes are at most `largest`, and registers that clip to so
    many `bits` after each `tile` of products; 2^(bits - 1) + tile * largest fits 32 bits.  They are loaded with `start`
    int64 [Cout] before, which clips them, too."""
    top, shift, period = 1 << (bits - 1), 0, 0
    lanes = _NARROW if top + tile * largest < 1 << (_LANE_BITS - 1) else _WIDE
    if tile == 1 and bits <= _LANE_BITS and largest < top:
        lanes, shift, period = _ON_TOP, _LANE_BITS - bits, (2 * top - 1) // max(largest, 1)
    kind = np.int32 if lanes == _WIDE else np.int16
    packed = arrange_blocks(weights.astype(np.int32) << shift, layout).astype(kind)
    wanted = arrange_channels(np.zeros(weights.shape[3]) if start is None else start, layout)
    held = wanted.clip(-top, top - 1)
    starts = np.stack([held << shift, held != wanted]).reshape(2, len(wanted), -1, LANES).transpose(1, 2, 0, 3).astype(kind)
    return Operands(aligned(packed), aligned(starts), weights.shape[0], layout.run, lanes, tile, sign, shift, period)


def _make_tile(element: Any, every: bool) -> Any:
    """tile((addresses, row_stride, signed, w, starts, rows, products, tile, low, high, registers, flags)).

    `addresses` points to the int64 addresses of the first code of PIXELS windows; `w` to [rows, products, 16] of `element`,
    `starts` to [2, 16] of it, as Operands has them; `registers` and `flags` to int32 [PIXELS, 16]: what the registers hold
    at the end, and not 0 where one was ever clipped.  `every`: they are clipped after each product, else after `tile` of
    them and at the end.
    """
    vector, words = ir.VectorType(element, LANES), ir.VectorType(I32, LANES)
    name = f"v{LANES}i{element.width}"

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        addresses, row_stride, sign, w, starts, rows, products, tile, low, high, out, out_flags = arguments
        low, high, sign = (builder.trunc(value, element) for value in (low, high, sign))
        low, high = (splat(builder, value, LANES) for value in (low, high))
        contents, flags, partials = (registers(builder, vector, PIXELS) for _ in range(3))
        waiting = registers(builder, ir.IntType(64))
        sources = [load(builder, offset(builder, addresses, p, 8), ir.IntType(64), 8) for p in range(PIXELS)]
        _begin(builder, starts, vector, zip(contents, flags, strict=True))

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

        with _products(builder, sources, row_stride, sign, (rows, products), w, vector) as found:
            for p, more in enumerate(found):
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

    return machine_code(12, emit)


def _begin(builder: Any, starts: Any, vector: Any, pixels: Iterable[tuple[Any, Any]]) -> None:
    """Load registers, and whether that has clipped them."""
    size = LANES * vector.element.width // 8
    held, is_clipped = (load(builder, offset(builder, starts, which, size), vector, size) for which in range(2))
    for content, flag in pixels:
        builder.store(held, content)
        builder.store(is_clipped, flag)


@contextlib.contextmanager
def _products(builder: Any, sources: Sequence[Any], row_stride: Any, sign: Any, counts: tuple[Any, Any], w: Any,
              vector: Any) -> Iterator[Iterator[Any]]:
    """Repeats the block for each of `counts` (rows, products), in order, with a product of every window at `sources`."""
    rows, products = counts
    position, size = registers(builder, ir.IntType(64)), LANES * vector.element.width // 8
    builder.store(w, position)
    steps = constant(0), row_stride, constant(0), 1
    with window(builder, steps, (rows, constant(1), products), position, size) as (step, at):
        weights = load(builder, at, vector, size)

        def product(source: Any) -> Any:
            code = builder.zext(load(builder, builder.add(source, step), I8, 1), vector.element)
            return builder.mul(splat(builder, builder.sub(builder.xor(code, sign), sign), LANES), weights)

        yield map(product, sources)


def _to_words(builder: Any, register: Any, words: Any) -> Any:
    value = builder.load(register)
    return value if value.type == words else builder.sext(value, words)


def _emit_on_top(builder: Any, arguments: Sequence[Any]) -> None:
    addresses, row_stride, sign, w, starts, rows, products, shift, period, out, out_flags = arguments
    vector, words = ir.VectorType(I16, LANES), ir.VectorType(I32, LANES)
    name, sign = f"v{LANES}i16", builder.trunc(sign, I16)
    shifts = splat(builder, builder.trunc(shift, I16), LANES)
    contents, exact = registers(builder, vector, _TOGETHER), registers(builder, vector, _TOGETHER)
    flags = stored(builder, vector, _TOGETHER)
    waiting = registers(builder, ir.IntType(64))

    def look() -> None:
        for p in range(_TOGETHER):
            differs = builder.xor(builder.load(contents[p]), builder.load(exact[p]))
            builder.store(builder.or_(builder.load(flags[p]), differs), flags[p])
        builder.store(period, waiting)

    with loop(builder, PIXELS // _TOGETHER) as turn:
        first = builder.mul(turn.index, constant(_TOGETHER))
        for held in (contents, exact):  # of registers that loading has clipped nothing else is asked
            _begin(builder, starts, vector, zip(held, flags, strict=True))
        builder.store(period, waiting)
        sources = [load(builder, offset(builder, addresses, builder.add(first, constant(p)), 8), ir.IntType(64), 8)
                   for p in range(_TOGETHER)]
        with _products(builder, sources, row_stride, sign, (rows, products), w, vector) as found:
            for p, more in enumerate(found):
                total = call(builder, f"llvm.sadd.sat.{name}", vector, [builder.load(contents[p]), more])
                builder.store(total, contents[p])
                builder.store(builder.add(builder.load(exact[p]), more), exact[p])
            left = builder.sub(builder.load(waiting), constant(1))
            builder.store(left, waiting)
            with builder.if_then(builder.icmp_signed("==", left, constant(0)), likely=False):
                look()
        look()
        for p in range(_TOGETHER):
            place = builder.add(first, constant(p))
            held = builder.ashr(builder.load(contents[p]), shifts)
            store(builder, builder.sext(held, words), offset(builder, out, place, 4 * LANES), 4)
            store(builder, builder.sext(builder.load(flags[p]), words), offset(builder, out_flags, place, 4 * LANES), 4)


_on_top = machine_code(11, _emit_on_top)
"""on_top((addresses, row_stride, signed, w, starts, rows, products, shift, period, registers, flags)): as `_make_tile`'s,
whose registers lie `shift` bits above the bottom of their lanes, as the products of `w` do."""
_narrow_each, _narrow_tile = _make_tile(I16, True), _make_tile(I16, False)
_wide_each, _wide_tile = _make_tile(I32, True), _make_tile(I32, False)


@inline
def replay_windows(addresses: np.ndarray, row: int, operands: Any, part: int, block: int, low: Any, high: Any,
                   scratch: np.ndarray) -> None:
    """Replay PIXELS windows for 16 channels of a part.

    `scratch` int32 [2, PIXELS, 16] receives what the registers hold at the end, and not 0 where one was ever clipped.
    """
    w, begin, rows, run, lanes, tile, sign, shift, period = operands
    weights = w.ctypes.data + part * w.strides[0] + block * w.strides[1]
    starts = begin.ctypes.data + part * begin.strides[0] + block * begin.strides[1]
    registers_at, flags_at = scratch.ctypes.data, scratch.ctypes.data + 4 * PIXELS * LANES
    if lanes == _ON_TOP:
        _on_top((addresses.ctypes.data, row, sign, weights, starts, rows, run, shift, period, registers_at, flags_at))
        return
    arguments = (addresses.ctypes.data, row, sign, weights, starts, rows, run, tile, low, high, registers_at, flags_at)
    if lanes == _NARROW and tile == 1:
        _narrow_each(arguments)
    elif lanes == _NARROW:
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
