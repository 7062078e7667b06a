"""Registers that wrap, 16 channels at once, on any processor with vectors.

Wrapping is a ring homomorphism: one reduction of the exact sum equals wrapping after every addition (contract C7).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I32, I64, load, loop, machine_code, offset, registers, splat, store
from sim.kernels.jit import inline
from sim.kernels.layout import LANES

_BYTES = 4 * LANES


def _emit(builder: Any, arguments: Sequence[Any]) -> None:
    sums, columns, blocks, spare, counts = arguments
    words = ir.VectorType(I32, LANES)
    bits = splat(builder, builder.trunc(spare, I32), LANES)
    pixel = builder.mul(blocks, ir.Constant(I64, _BYTES))
    with loop(builder, blocks) as block:
        counts_at, first = offset(builder, counts, block.index, _BYTES), offset(builder, sums, block.index, _BYTES)
        count = registers(builder, words)
        builder.store(load(builder, counts_at, words, 4), count)
        with loop(builder, columns) as column:
            at = offset(builder, first, column.index, pixel)
            exact = load(builder, at, words, 4)
            wrapped = builder.ashr(builder.shl(exact, bits), bits)
            differs = builder.sext(builder.icmp_signed("!=", wrapped, exact), words)
            builder.store(builder.sub(builder.load(count), differs), count)
            store(builder, wrapped, at, 4)
        store(builder, builder.load(count), counts_at, 4)


_wrap = machine_code(5, _emit)
"""wrap((sums, columns, blocks, spare, counts)): addresses of int32 [columns, blocks * 16] and [blocks * 16]."""


@inline
def wrap_line(sums: np.ndarray, spare: int, counts: np.ndarray) -> None:
    """Reduce exact sums int32 [columns, width] to the two's complement of a register `spare` bits narrower, in place.

    Adds to `counts` int32 [width] how many did not fit.
    """
    columns, width = sums.shape
    _wrap((sums.ctypes.data, columns, width // LANES, spare, counts.ctypes.data))
