"""The machine's own peak: vpdpbusd on registers only, on all threads."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from bench.cases import Case, Work
from bench.threads import THREADS
from sim.kernels.isa import available

REGISTERS = 16
"""Independent sums, enough to hide the latency of the instruction."""
PRODUCTS = 64
"""Multiply-accumulates of one instruction."""
ROUNDS = 1_000_000

_VECTOR, _I64 = ir.VectorType(ir.IntType(32), 16), ir.IntType(64)


def isa() -> str:
    """The instruction that is measured."""
    return "vnni"


@intrinsic
def _dot_products(context: Any, rounds: Any, seed: Any) -> Any:
    """`rounds` times one vpdpbusd on each register; returns a lane, so that nothing is optimized away."""
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _emit(builder, *arguments)

    return types.int32(types.intp, types.int32), generate


def _emit(builder: Any, rounds: Any, seed: Any) -> Any:
    dot = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), "llvm.x86.avx512.vpdpbusd.512")
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), seed, ir.Constant(ir.IntType(32), 0))
    codes = builder.shuffle_vector(first, first, ir.Constant(_VECTOR, [0] * 16))
    sums = [cgutils.alloca_once_value(builder, builder.add(codes, ir.Constant(_VECTOR, [r] * 16)))
            for r in range(REGISTERS)]
    with cgutils.for_range(builder, rounds, intp=_I64):
        for register in sums:
            builder.store(builder.call(dot, [builder.load(register), codes, codes]), register)
    total = builder.load(sums[0])
    for register in sums[1:]:
        total = builder.xor(total, builder.load(register))
    return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))


def _compiled() -> Callable[[int, np.ndarray], None]:
    @numba.njit(parallel=True)
    def loop(rounds: int, out: np.ndarray) -> None:
        for thread in prange(len(out)):
            out[thread] = _dot_products(rounds, np.int32(thread))  # type: ignore[call-arg]  # numba adds the context

    return loop


def peak(case: Case) -> Work:
    """Raises RuntimeError where the processor has no such instruction."""
    if "vnni" not in available():
        raise RuntimeError("this processor has no AVX512-VNNI")
    loop, out = _compiled(), np.zeros(THREADS, np.int32)
    return Work(lambda: loop(ROUNDS, out), THREADS * ROUNDS * REGISTERS * PRODUCTS / 1e9)


BUILD = {"vpdpbusd": {"peak": peak}}
