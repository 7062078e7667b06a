"""Tables of bytes by permutations of whole registers (AVX512-VBMI's vpermi2b): 64 codes in a few instructions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange

from sim.kernels.ir import I8, aligned, call, load, loop, machine_code, offset, store
from sim.kernels.jit import kernel

BYTES = 64
"""Of a register: no shorter row can be looked up."""


def pack(table: np.ndarray) -> np.ndarray:
    """Up to 256 bytes in the order of unsigned codes -> uint8 [256]."""
    packed = np.zeros(256, np.uint8)
    packed[: len(table)] = table.view(np.uint8)
    return aligned(packed)


def _emit_lookup(builder: Any, arguments: Sequence[Any]) -> None:
    """(table, codes, result, registers): addresses of bytes and how many registers of them there are."""
    table, codes, result, count = arguments
    kind = ir.VectorType(I8, BYTES)
    quarters = [load(builder, offset(builder, table, q, BYTES), kind, BYTES) for q in range(4)]
    with loop(builder, count) as step:
        at = load(builder, offset(builder, codes, step.index, BYTES), kind, 1)
        low, high = (call(builder, "llvm.x86.avx512.vpermi2var.qi.512", kind, [quarters[q], at, quarters[q + 1]])
                     for q in (0, 2))  # by the last seven bits of a code
        is_high = builder.icmp_signed("<", at, ir.Constant(kind, None))
        store(builder, builder.select(is_high, high, low), offset(builder, result, step.index, BYTES), 1)


_lookup = machine_code(4, _emit_lookup)


@kernel
def permuted_codes(x: np.ndarray, x_pad: int, table: np.ndarray, out: np.ndarray, pad: int) -> None:
    """Bytes -> bytes by one table of `pack`, from inside one border to inside another, in rows of `BYTES` or more."""
    images, rows, columns, channels = x.shape
    rows, size = rows - 2 * x_pad, (columns - 2 * x_pad) * channels
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        source = x.ctypes.data + n * x.strides[0] + (i + x_pad) * x.strides[1] + x_pad * channels
        target = out.ctypes.data + n * out.strides[0] + (i + pad) * out.strides[1] + pad * channels
        _lookup((table.ctypes.data, source, target, size // BYTES))
        if size % BYTES > 0:  # the last register begins early enough to end with the row
            _lookup((table.ctypes.data, source + size - BYTES, target + size - BYTES, 1))
