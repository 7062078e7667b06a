"""Pairs of products that saturate to 16 bits, then sums of 32: vpmaddubsw itself, and vpdpwssd (AVX512-VNNI).

Whether a pair was clipped is told without looking at it.  A pair that can pass 16 bits has two weights of one sign, so that
it can do so at one end only.  With s = 1 where that is the upper end, -1 at the lower one, 0 where no pair can, s (clipped
pair - exact pair) is below 0 if the pair was clipped, else 0: the sum over all pairs, in a second register, is 0 where none
was.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.finish import Ending, arguments_of, codes_at, finish_tile
from sim.kernels.ir import I8, I16, I32, call, constant, load, machine_code, offset, opaque, registers, splat, store, window
from sim.kernels.jit import inline, specialize
from sim.kernels.layout import LANES, Layout, arrange
from sim.kernels.lines import copy_sums
from sim.kernels.vnni import QUAD
from sim.kernels.vnni_lines import _along, _line_to_codes, _window

LOWEST, HIGHEST = -(2**15), 2**15 - 1
LARGEST_CODE = 255
TABLES = 3
"""Of each quad of products: its weights, these times -s, and the s of its two pairs."""
_WORDS, _HALVES, _BYTES = ir.VectorType(I32, LANES), ir.VectorType(I16, 2 * LANES), ir.VectorType(I8, 4 * LANES)
_BLOCK = 4 * LANES
_SIZES = {16: 8, 32: 4}
"""Pixels of a tile of so many channels, whose sums take two registers."""


def sides_of(pairs: np.ndarray) -> np.ndarray:
    """s of pairs of weights [..., 2] for codes up to LARGEST_CODE."""
    above, below = np.maximum(pairs, 0).sum(-1), np.minimum(pairs, 0).sum(-1)
    sides: np.ndarray = (above * LARGEST_CODE > HIGHEST).astype(int) - (below * LARGEST_CODE < LOWEST)
    return sides


def pack(weights: np.ndarray, layout: Layout) -> np.ndarray:
    """Bytes [KH, KW, C / groups, Cout], C even -> int8 [parts, 1, KH * segments, quads, TABLES * width, 4]."""
    run = arrange(weights, layout, QUAD)
    parts, rows, padded, width = run.shape
    quads = run.reshape(parts, 1, rows, padded // QUAD, QUAD, width).swapaxes(4, 5)
    pairs = quads.reshape(*quads.shape[:-1], 2, 2)
    sides = sides_of(pairs)
    signs = np.ascontiguousarray(sides, np.int16).view(np.int8)
    return np.concatenate([quads, (-sides[..., None] * pairs).reshape(quads.shape), signs], axis=4).astype(np.int8)


def _make_tile(pixels: int, blocks: int, ending: Ending | None) -> Callable[..., None]:
    """As vnni.make_tile, for unsigned codes; without an `ending`, too, its arguments end with (counts, done)."""
    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, pixel_stride, row_stride, segment_stride, w, _, rows, segments, quads, _, *rest = arguments
        sums, flags = (registers(builder, _WORDS, pixels, blocks) for _ in range(2))
        position = registers(builder, ir.IntType(64))
        builder.store(w, position)
        ones = opaque(builder, ir.Constant(_WORDS, [0x00010001] * LANES))
        strides, counts = (x, row_stride, segment_stride, QUAD), (rows, segments, quads)
        with window(builder, strides, counts, position, TABLES * blocks * _BLOCK) as (x_quad, w_quad):
            codes = [splat(builder, load(builder, offset(builder, x_quad, p, pixel_stride), I32, 1), LANES)
                     for p in range(pixels)]
            for b in range(blocks):
                weights, others, sides = (load(builder, offset(builder, w_quad, table * blocks + b, _BLOCK), _WORDS, _BLOCK)
                                          for table in range(TABLES))
                for p in range(pixels):
                    _add(builder, codes[p], (weights, others, sides, ones), sums[p][b], flags[p][b])
        *end, of_channels, done = rest
        _count(builder, flags, of_channels, done)
        finish_tile(builder, sums, None, rest if ending else end, ending)

    return machine_code(10 + (arguments_of(ending) if ending else arguments_of(None) + 2), emit)


def _add(builder: Any, codes: Any, operands: Any, total: Any, flag: Any) -> None:
    """A quad of products of 16 channels."""
    weights, others, sides, ones = operands
    halves = call(builder, "llvm.x86.avx512.pmaddubs.w.512", _HALVES,
                  [builder.bitcast(codes, _BYTES), builder.bitcast(weights, _BYTES)])
    pairs = builder.bitcast(halves, _WORDS)
    builder.store(call(builder, "llvm.x86.avx512.vpdpwssd.512", _WORDS, [builder.load(total), pairs, ones]), total)
    less = call(builder, "llvm.x86.avx512.vpdpbusd.512", _WORDS, [builder.load(flag), codes, others])
    builder.store(call(builder, "llvm.x86.avx512.vpdpwssd.512", _WORDS, [less, pairs, sides]), flag)


def _count(builder: Any, flags: Sequence[Sequence[Any]], counts: Any, done: Any) -> None:
    """int32 [channels] at an address grow by the outputs with a flag, but not by those of the first `done` pixels."""
    none = ir.Constant(ir.VectorType(ir.IntType(1), LANES), None)
    zero = ir.Constant(_WORDS, None)
    for b in range(len(flags[0])):
        address = offset(builder, counts, b, 4 * LANES)
        count = load(builder, address, _WORDS, 4)
        for p, pixel in enumerate(flags):
            is_new = builder.icmp_signed("<=", done, constant(p))
            clipped = builder.select(is_new, builder.icmp_signed("!=", builder.load(pixel[b]), zero), none)
            count = builder.sub(count, builder.sext(clipped, _WORDS))
        store(builder, count, address, 4)


_only: Any = inline


def _sums_line(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any, constants: Any,
        first: int, count: int, skip: np.ndarray, skip_n: int, skip_row: int, skip_pad: int, out: np.ndarray, out_row: int,
        pad: int, counts: np.ndarray) -> None:
    """Sums of `count` channels from `first` on, in `out` int32 [N, H, W, C]."""
    window, _ = _window(x, n, top, left, stride, channel, part, operands, x.strides[2])
    columns, width = out.shape[2], len(counts)
    line = out[n, out_row]
    sums = np.empty((columns, width if count < width else 0), np.int32)
    if count == width:
        _only(window, (line.ctypes.data + 4 * first, line.strides[0], counts.ctypes.data), columns)
    else:
        _only(window, (sums.ctypes.data, 4 * width, counts.ctypes.data), columns)
        copy_sums(sums, line, first, count)


@inline
def _sums_at(target: Any, channel: int, pixel: int, done: int) -> Any:
    """The last arguments of a tile that stores sums."""
    sums, step, counts = target
    return sums + 4 * channel + pixel * step, step, counts + 4 * channel, done


def line_of(columns: int, width: int, ending: Ending | None = None) -> Any:
    """Lines of sums of so many columns and channels, or of codes with an `ending`; both count clipped outputs."""
    return _specialized(_SIZES[width] if columns >= _SIZES[width] else 1, width, ending)


@cache
def _specialized(pixels: int, width: int, ending: Ending | None) -> Any:
    name = f"pairs_to_{ending or 'sums'}_{pixels}x{width}"
    along = specialize(_along, f"{name}_along", inline, _tile=_make_tile(pixels, width // LANES, ending),
                       _at=codes_at if ending else _sums_at, _at_once=pixels)
    return specialize(_line_to_codes if ending else _sums_line, name, inline, _only=along)
