"""Exact dot products of uint8 codes and small integers through vpdpbusd (AVX512-VNNI).

One tile is `pixels` neighboring outputs x `blocks` times 16 channels, held in registers for the whole kernel window.  One
instruction multiplies 4 unsigned input bytes with 4 signed weight bytes for 16 channels and adds to 32-bit sums; it never
saturates (vpdpbusds would, and vpmaddubsw does on the way).

Weights beyond 8 bits are two byte planes, w = 128 high + low: the sums of the high plane are shifted left by 7 before the
low plane is added to the same registers.  32-bit arithmetic wraps, so only the final sum has to fit.  Signed inputs are made
unsigned by adding 128 (one exclusive or); the surplus, 128 times the sum of the weights, is subtracted at the end.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Channels of one register."""
QUAD = 4
"""Products that one instruction sums."""
PLANE_SHIFT = 7

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_I32, LANES)


def pack(weights: np.ndarray) -> tuple[np.ndarray, int]:
    """int [KH, KW, C, Cout] -> (int8 [groups, planes, KH, quads, blocks, 16, 4], blocks).

    A kernel row's KW * C products are one run, padded with zeros to whole quads; channels are padded to whole groups of
    1, 2 or 4 blocks of 16.
    """
    rows, columns, depth, channels = weights.shape
    blocks = next(b for b in (1, 2, 4) if channels <= b * LANES or b == 4)
    groups = -(-channels // (blocks * LANES))
    quads = -(-columns * depth // QUAD)
    run = np.zeros((rows, quads * QUAD, groups * blocks * LANES), np.int64)
    run[:, : columns * depth, :channels] = weights.reshape(rows, columns * depth, channels)
    split = run.reshape(rows, quads, QUAD, groups, blocks, LANES).transpose(3, 0, 1, 4, 5, 2)
    if weights.min(initial=0) >= -128 and weights.max(initial=0) <= 127:
        planes = [split]
    else:
        half = 1 << (PLANE_SHIFT - 1)
        low = ((split + half) & ((1 << PLANE_SHIFT) - 1)) - half
        planes = [(split - low) >> PLANE_SHIFT, low]
    packed = np.stack(planes, axis=1)
    if packed.min(initial=0) < -128 or packed.max(initial=0) > 127:
        raise ValueError("weights of more than 15 bits have no byte planes")
    return aligned(packed.astype(np.int8)), blocks


def fits(weights: np.ndarray) -> bool:
    """Whether `pack` can hold these weights."""
    return bool(weights.min(initial=0) >= -(1 << 14) and weights.max(initial=0) < (1 << 14) - 64)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 64 bytes."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def make_tile(pixels: int, blocks: int, signed: bool) -> Callable[..., None]:
    """The inner loop of one tile size, as machine code for numba.

    tile(x, pixel_stride, row_stride, w, planes, rows, quads, surplus, out, out_stride): addresses and strides in bytes; `w`
    points to [planes, rows, quads, blocks, 16, 4] int8, `surplus` to [blocks, 16] int32, `out` to int32 pixels that are
    `out_stride` bytes apart.
    """

    @intrinsic
    def tile(context: Any, x: Any, pixel_stride: Any, row_stride: Any, w: Any, planes: Any,  # noqa: PLR0913
             rows: Any, quads: Any, surplus: Any, out: Any, out_stride: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _emit(builder, arguments, pixels, blocks, signed)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), generate

    return tile


def _emit(builder: Any, arguments: Any, pixels: int, blocks: int, signed: bool) -> None:
    x, pixel_stride, row_stride, w, planes, rows, quads, surplus, out, out_stride = arguments
    dot = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), "llvm.x86.avx512.vpdpbusd.512")
    sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(blocks)] for _ in range(pixels)]
    for row in sums:
        for register in row:
            builder.store(ir.Constant(_VECTOR, [0] * LANES), register)
    block_bytes = LANES * QUAD
    row_bytes = builder.mul(quads, _constant(block_bytes * blocks))
    with cgutils.for_range(builder, planes, intp=_I64) as plane:
        with builder.if_then(builder.icmp_signed(">", plane.index, _constant(0))):
            for row in sums:
                for register in row:
                    shift = ir.Constant(_VECTOR, [PLANE_SHIFT] * LANES)
                    builder.store(builder.shl(builder.load(register), shift), register)
        plane_w = builder.add(w, builder.mul(plane.index, builder.mul(rows, row_bytes)))
        with cgutils.for_range(builder, rows, intp=_I64) as kernel_row:
            x_row = builder.add(x, builder.mul(kernel_row.index, row_stride))
            w_row = builder.add(plane_w, builder.mul(kernel_row.index, row_bytes))
            with cgutils.for_range(builder, quads, intp=_I64) as quad:
                w_quad = builder.add(w_row, builder.mul(quad.index, _constant(block_bytes * blocks)))
                weights = [_load(builder, builder.add(w_quad, _constant(block_bytes * b)), _VECTOR, 64)
                           for b in range(blocks)]
                x_quad = builder.add(x_row, builder.mul(quad.index, _constant(QUAD)))
                for p in range(pixels):
                    codes = _broadcast(builder, builder.add(x_quad, builder.mul(pixel_stride, _constant(p))), signed)
                    for b in range(blocks):
                        total = builder.call(dot, [builder.load(sums[p][b]), codes, weights[b]])
                        builder.store(total, sums[p][b])
    for b in range(blocks):
        extra = _load(builder, builder.add(surplus, _constant(block_bytes * b)), _VECTOR, 4)
        for p in range(pixels):
            address = builder.add(builder.add(out, builder.mul(out_stride, _constant(p))), _constant(block_bytes * b))
            pointer = builder.inttoptr(address, _VECTOR.as_pointer())
            builder.store(builder.sub(builder.load(sums[p][b]), extra), pointer).align = 4


def _broadcast(builder: Any, address: Any, signed: bool) -> Any:
    """4 bytes in every lane; signed ones become unsigned by adding 128."""
    quad = _load(builder, address, _I32, 1)
    if signed:
        quad = builder.xor(quad, ir.Constant(_I32, 0x80808080))
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, quad, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_VECTOR, [0] * LANES))


def _load(builder: Any, address: Any, kind: Any, alignment: int) -> Any:
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = alignment
    return value


def _constant(value: int) -> Any:
    return ir.Constant(_I64, value)
