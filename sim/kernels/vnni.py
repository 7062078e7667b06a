"""Exact dot products of uint8 codes and small integers through vpdpbusd (AVX512-VNNI, AVX-VNNI).

One tile is `pixels` neighboring outputs x `blocks` registers of channels, held in registers for the whole kernel window.
One instruction multiplies 4 unsigned input bytes with 4 signed weight bytes for every channel of a register and adds to
32-bit sums; it never saturates (vpdpbusds would, and vpmaddubsw does on the way).

Weights beyond 8 bits are two byte planes, w = 128 high + low: the sums of the high plane are shifted left by 7 before the
low plane is added to the same registers.  32-bit arithmetic wraps, so only the final sum has to fit.  Signed inputs are made
unsigned by adding 128 (one exclusive or); the surplus, 128 times the sum of the weights, is subtracted at the end.

Odd weights of 9 bits, DoReFa's of 8, need no second plane: as w = 2 v + 1 for a byte v, the sum of all w a is twice that of
all v a and that of all a, which a block of ones behind the weights adds up, once for all channels of a tile.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.finish import Ending, arguments_of, finish_tile
from sim.kernels.ir import I32, call, constant, load, loop, machine_code, offset, opaque, registers, splat, window
from sim.kernels.layout import LANES, Layout, arrange
from sim.kernels.stages import ARGUMENTS, emit_watch, stage_bytes

QUAD = 4
"""Products that one instruction sums."""
PLANE_SHIFT = 7


def fits(weights: np.ndarray) -> bool:
    """Whether two byte planes can hold these weights."""
    return bool(weights.min(initial=0) >= -(1 << 14) and weights.max(initial=0) < (1 << 14) - 64)


def are_odd(weights: np.ndarray) -> bool:
    """Whether they are odd and beyond a byte, but half of them is not."""
    is_wide = weights.min(initial=0) < -128 or weights.max(initial=0) > 127
    return bool(is_wide and np.abs(weights).max() <= 255 and (weights % 2).all())


def byte_planes(weights: np.ndarray) -> np.ndarray:
    """int [parts, ...] -> int8 [parts, planes, ...]: one plane if all fit a byte, else the high and the low one.

    Raises ValueError for weights that two planes cannot hold.
    """
    if weights.min(initial=0) >= -128 and weights.max(initial=0) <= 127:
        planes = [weights]
    else:
        half = 1 << (PLANE_SHIFT - 1)
        low = ((weights + half) & ((1 << PLANE_SHIFT) - 1)) - half
        planes = [(weights - low) >> PLANE_SHIFT, low]
    stacked = np.stack(planes, axis=1)
    if stacked.min(initial=0) < -128 or stacked.max(initial=0) > 127:
        raise ValueError("weights of more than 15 bits have no byte planes")
    return stacked.astype(np.int8)


def pack(weights: np.ndarray, layout: Layout) -> np.ndarray:
    """int [KH, KW, C / groups, Cout] -> int8 [parts, planes, KH * segments, quads, width, 4]."""
    planes = byte_planes(arrange(weights, layout, QUAD))
    parts, count, rows, padded, width = planes.shape
    split = planes.reshape(parts, count, rows, padded // QUAD, QUAD, width)
    return np.ascontiguousarray(split.transpose(0, 1, 2, 3, 5, 4))


def pack_odd(weights: np.ndarray, layout: Layout) -> np.ndarray:
    """Odd weights [KH, KW, C / groups, Cout] -> int8 [parts, 1, KH * segments, quads, width + 16, 4].

    The last 16 channels are 1 for every product that there is.
    """
    run = arrange(weights, layout, QUAD)
    parts, rows, padded, width = run.shape
    halves = np.zeros((parts, rows, padded, width + LANES), np.int64)
    halves[:, :, : layout.run, :width] = (run[:, :, : layout.run] - 1) >> 1
    halves[:, :, : layout.run, width:] = 1
    split = halves.astype(np.int8).reshape(parts, 1, rows, padded // QUAD, QUAD, width + LANES)
    return np.ascontiguousarray(split.transpose(0, 1, 2, 3, 5, 4))


def surplus(weights: np.ndarray, layout: Layout, signed: bool) -> np.ndarray:
    """int32 [parts, width]: what adding 128 to signed inputs adds to the sums, modulo 2^32."""
    extra = np.zeros((len(layout.parts), layout.width), np.int64)
    if signed:
        totals = 128 * weights.astype(np.int64).sum((0, 1, 2))
        for index, (_, first, count) in enumerate(layout.parts):
            extra[index, :count] = totals[first : first + count]
    return ((extra + 2**31) % 2**32 - 2**31).astype(np.int32)


def make_tile(lanes: int, pixels: int, blocks: int, signed: bool, ending: Ending | None = None,
              is_watched: bool = False, is_odd: bool = False) -> Callable[..., None]:
    """The inner loop of one tile size, registers of `lanes` channels (16 or 8), as machine code.

    tile((x, pixel_stride, row_stride, segment_stride, w, planes, rows, segments, quads, surplus, out, out_stride)):
    addresses and strides in bytes; `w` points to int8 [planes, rows, segments, quads, blocks * lanes, 4], `surplus` to
    int32 [blocks * lanes], `out` to int32 pixels that are `out_stride` bytes apart.

    With an `ending` sums become codes in their registers, and its arguments stand in the place of `out` and
    `out_stride`.  With `is_watched` every segment is a stage of a saturating register, and the arguments of stages.py stand
    before them; weights have one plane then.  With `is_odd` they are those of `pack_odd`.
    """
    vector = ir.VectorType(I32, lanes)
    block_bytes = lanes * QUAD
    instruction = f"llvm.x86.avx512.vpdpbusd.{lanes * 32}"
    watched = ARGUMENTS if is_watched else 0

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, pixel_stride, row_stride, segment_stride, w, planes, rows, segments, quads, extra, *rest = arguments
        sums = registers(builder, vector, pixels, blocks)
        codes_alone = registers(builder, vector, pixels) if is_odd else ()
        position = registers(builder, ir.IntType(64))
        builder.store(w, position)
        limits = registers(builder, ir.IntType(64))
        if is_watched:
            builder.store(rest[0], limits)
        # a number that LLVM knew it would flip in 4 bytes, before they are in every lane: from a general register then, one
        # a cycle, where memory gives two
        flip = opaque(builder, ir.Constant(vector, [0x80808080] * lanes)) if signed else None

        def at_segment() -> None:
            if is_watched:
                emit_watch(builder, sums, builder.load(limits), *rest[1:ARGUMENTS])
                builder.store(offset(builder, builder.load(limits), 1, stage_bytes(blocks, lanes)), limits)

        with loop(builder, planes) as plane:
            with builder.if_then(builder.icmp_signed(">", plane.index, constant(0))):
                for register in (register for pixel in sums for register in pixel):
                    shift = ir.Constant(vector, [PLANE_SHIFT] * lanes)
                    builder.store(builder.shl(builder.load(register), shift), register)
            strides, counts = (x, row_stride, segment_stride, QUAD), (rows, segments, quads)
            taken = blocks + is_odd
            with window(builder, strides, counts, position, taken * block_bytes, at_segment) as (x_quad, w_quad):
                weights = [load(builder, offset(builder, w_quad, b, block_bytes), vector, block_bytes)
                           for b in range(taken)]
                for p in range(pixels):
                    codes = splat(builder, load(builder, offset(builder, x_quad, p, pixel_stride), I32, 1), lanes)
                    codes = codes if flip is None else builder.xor(codes, flip)
                    for b in range(blocks):
                        total = call(builder, instruction, vector, [builder.load(sums[p][b]), codes, weights[b]])
                        builder.store(total, sums[p][b])
                    if is_odd:
                        total = call(builder, instruction, vector, [builder.load(codes_alone[p]), codes, weights[blocks]])
                        builder.store(total, codes_alone[p])
        for pixel, alone in zip(sums, codes_alone, strict=False):
            for register in pixel:
                twice = builder.shl(builder.load(register), ir.Constant(vector, [1] * lanes))
                builder.store(builder.add(twice, builder.load(alone)), register)
        finish_tile(builder, sums, extra if signed else None, rest[watched:], ending)

    return machine_code(10 + watched + arguments_of(ending), emit)
