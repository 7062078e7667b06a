"""Whole sums that do not fit their register, 16 channels at once, on any processor with vectors: wrapped, or clipped once.

Wrapping is a ring homomorphism: one reduction of the exact sum equals wrapping after every addition (contract C7).  Clipping
once is what a register does that receives the whole sum at the end.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I32, I64, call, load, loop, machine_code, offset, registers, splat, store
from sim.kernels.jit import inline, specialize
from sim.kernels.layout import LANES

WRAP, CLIP = "wrap", "clip"
_BYTES = 4 * LANES


def emit_register(builder: Any, sums: Any, spare: Any, overflow: str) -> Any:
    """What registers `spare` bits narrower than 32 make of a vector of sums."""
    kind = sums.type
    if overflow == WRAP:
        bits = splat(builder, spare, kind.count)
        return builder.ashr(builder.shl(sums, bits), bits)
    high = builder.lshr(ir.Constant(I32, 2**31 - 1), spare)
    high, low = splat(builder, high, kind.count), splat(builder, builder.not_(high), kind.count)
    name = f"v{kind.count}i32"
    return call(builder, f"llvm.smin.{name}", kind, [call(builder, f"llvm.smax.{name}", kind, [sums, low]), high])


def _make(overflow: str) -> Any:
    """(sums, columns, blocks, spare, counts): addresses of int32 [columns, blocks * 16] and [blocks * 16]."""
    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        sums, columns, blocks, spare, counts = arguments
        words, spare = ir.VectorType(I32, LANES), builder.trunc(spare, I32)
        pixel = builder.mul(blocks, ir.Constant(I64, _BYTES))
        with loop(builder, blocks) as block:
            counts_at, first = offset(builder, counts, block.index, _BYTES), offset(builder, sums, block.index, _BYTES)
            count = registers(builder, words)
            builder.store(load(builder, counts_at, words, 4), count)
            with loop(builder, columns) as column:
                at = offset(builder, first, column.index, pixel)
                exact = load(builder, at, words, 4)
                kept = emit_register(builder, exact, spare, overflow)
                differs = builder.sext(builder.icmp_signed("!=", kept, exact), words)
                builder.store(builder.sub(builder.load(count), differs), count)
                store(builder, kept, at, 4)
            store(builder, builder.load(count), counts_at, 4)

    return machine_code(5, emit)


_code = _make(WRAP)


def _limit_line(sums: np.ndarray, spare: int, counts: np.ndarray) -> None:
    """Put exact sums int32 [columns, width] into registers `spare` bits narrower than 32, in place.

    Adds to `counts` int32 [width] how many did not fit.
    """
    columns, width = sums.shape
    _code((sums.ctypes.data, columns, width // LANES, spare, counts.ctypes.data))


LIMIT_LINE = {overflow: specialize(_limit_line, f"{overflow}_line", inline, _code=_make(overflow))
              for overflow in (WRAP, CLIP)}
"""By what the registers do with a sum that does not fit."""
