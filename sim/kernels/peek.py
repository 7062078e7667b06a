"""Whether exact sums leave the range of a register, after any product or in the end: flagged windows, looked at again.

A register holds the exact sum until it leaves its range for the first time (equation A5).  So what stays inside after every
product needs no replay, and what is outside in the end is persistent.  vpdpbusd adds four products at once; the sums after
one, two and three of them are those with the other weights put to 0.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I32, call, load, loop, machine_code, offset, opaque, registers, splat, store
from sim.kernels.jit import inline, specialize
from sim.kernels.layout import LANES
from sim.kernels.replay import PIXELS

_PARTS = (0x000000FF, 0x0000FFFF, 0x00FFFFFF, None)
"""Of four weights the first, the first two and so on."""


def _make_peek(lanes: int, signed: bool) -> Any:
    """peek((addresses, row_stride, w, rows, quads, step, low, high, left, outside)) on instructions of so many `lanes`.

    `addresses` points to the int64 addresses of the first code of PIXELS windows; `w` to int8 [rows, quads, 16, 4], as
    vnni.py packs them, whose quads are `step` bytes apart; `left` and `outside` to int32 [PIXELS, 16], which become not 0
    where a sum was not in low .. high after some product, and where it is not in the end.
    """
    vector, instruction = ir.VectorType(I32, lanes), f"llvm.x86.avx512.vpdpbusd.{lanes * 32}"
    size, blocks = 4 * lanes, LANES // lanes

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        addresses, row_stride, w, rows, quads, step, low, high, left, outside = arguments
        low, high = (builder.trunc(limit, I32) for limit in (low, high))
        distance = splat(builder, builder.sub(high, low), lanes)
        # sums less `low` are at most `distance` as unsigned numbers where they are inside; extra is what flipped signs add
        sums, farthest = (registers(builder, vector, PIXELS, blocks) for _ in range(2))
        extra, position = registers(builder, vector, blocks), registers(builder, ir.IntType(64))
        for register in (register for pixel in sums for register in pixel):
            builder.store(splat(builder, builder.neg(low), lanes), register)
        builder.store(w, position)
        # a number that LLVM knew would keep it busy for minutes
        flip = opaque(builder, ir.Constant(vector, [0x80808080] * lanes)) if signed else None
        sources = [load(builder, offset(builder, addresses, p, 8), ir.IntType(64), 8) for p in range(PIXELS)]

        def after(total: Any, codes: Any, weights: Sequence[Any]) -> list[Any]:
            """Sums after each of four products."""
            before = builder.load(total)
            found = [call(builder, instruction, vector, [before, codes, part]) for part in weights]
            builder.store(found[-1], total)
            return found

        with loop(builder, rows) as row:
            x_row = builder.mul(row.index, row_stride)
            with loop(builder, quads) as quad:
                at = builder.load(position)
                builder.store(builder.add(at, step), position)
                place = offset(builder, x_row, quad.index, 4)
                codes = [splat(builder, load(builder, builder.add(source, place), I32, 1), lanes) for source in sources]
                codes = [builder.xor(each, flip) for each in codes] if signed else codes
                for b in range(blocks):
                    whole = load(builder, offset(builder, at, b, size), vector, 4)
                    weights = [whole if part is None else builder.and_(whole, ir.Constant(vector, [part] * lanes))
                               for part in _PARTS]
                    surplus = after(extra[b], flip, weights) if signed else []
                    for p in range(PIXELS):
                        found = after(sums[p][b], codes[p], weights)
                        found = [builder.sub(*pair) for pair in zip(found, surplus, strict=True)] if signed else found
                        most = builder.load(farthest[p][b])
                        for each in found:
                            most = call(builder, f"llvm.umax.v{lanes}i32", vector, [most, each])
                        builder.store(most, farthest[p][b])
        for p in range(PIXELS):
            for b in range(blocks):
                last = builder.sub(builder.load(sums[p][b]), builder.load(extra[b]))
                for value, target in ((builder.load(farthest[p][b]), left), (last, outside)):
                    beyond = builder.sext(builder.icmp_unsigned(">", value, distance), vector)
                    store(builder, beyond, offset(builder, offset(builder, target, p, 4 * LANES), b, size), 4)

    return machine_code(10, emit)


_code: Any = _make_peek(LANES, False)


def _peek(addresses: np.ndarray, row: int, operands: Any, part: int, block: int, low: Any, high: Any,
          scratch: np.ndarray) -> None:
    """Look at PIXELS windows for 16 channels of a part; `operands` are those of a watched line.

    `scratch` int32 [2, PIXELS, 16] receives not 0 where a sum left low .. high on the way, and where it is out in the end.
    """
    w, _, _, rows, stages, quads, _, _ = operands
    weights = w.ctypes.data + part * w.strides[0] + block * 4 * LANES
    left_at, outside_at = scratch.ctypes.data, scratch.ctypes.data + 4 * PIXELS * LANES
    _code((addresses.ctypes.data, row, weights, rows, stages * quads, w.strides[3], low, high, left_at, outside_at))


@cache
def peek(lanes: int, signed: bool) -> Any:
    """The same on instructions of so many lanes, for codes of such a sign."""
    return specialize(_peek, f"peek_{lanes}_{signed}", inline, _code=_make_peek(lanes, signed))
