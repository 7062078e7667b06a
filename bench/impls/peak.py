"""The machine's own peaks: multiply-add instructions on registers only, on all threads."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from bench.cases import Case, Work
from bench.threads import THREADS
from sim.kernels.ir import F32, I32, call, loop, splat
from sim.kernels.layout import LANES

REGISTERS = 16
"""Independent sums, enough to hide the latency of an instruction."""
ROUNDS = 1_000_000
_INTS, _REALS = ir.VectorType(I32, LANES), ir.VectorType(F32, LANES)


class _BFloat16(ir.HalfType):
    """LLVM has it, llvmlite has not."""

    def __str__(self) -> str:
        return "bfloat"


@dataclass(frozen=True)
class _Instruction:
    """sums + operand * operand, `products` multiply-accumulates in one instruction; `feature` as LLVM calls it.

    Operands are the same 32 bits everywhere: `bits` and the number of the thread.
    """

    feature: str
    name: str
    products: int
    sums: ir.VectorType
    operands: ir.VectorType
    bits: int
    sums_first: bool = True

    def emit(self, builder: Any, sums: Any, operand: Any) -> Any:
        """The new sums."""
        arguments = [sums, operand, operand] if self.sums_first else [operand, operand, sums]
        return call(builder, self.name, self.sums, arguments)


INSTRUCTIONS = {
    "vpdpbusd": _Instruction("avx512vnni", "llvm.x86.avx512.vpdpbusd.512", 64, _INTS, _INTS, 0),
    "vdpbf16ps": _Instruction("avx512bf16", "llvm.x86.avx512bf16.dpbf16ps.512", 32, _REALS,
                              ir.VectorType(_BFloat16(), 32), 0x3F803F80),
    "vfmadd float32": _Instruction("avx512f", "llvm.fma.v16f32", 16, _REALS, _REALS, 0x3F800000, sums_first=False),
}
"""By what tables call them.  1.0 is 0x3F80 in bfloat16, 0x3F800000 in float32."""


def isa() -> str:
    """The registers that are measured."""
    return "AVX512"


def _measured(instruction: _Instruction) -> Any:
    """f(rounds, thread): so many times one instruction on each register."""
    @intrinsic
    def dot_products(context: Any, rounds: Any, seed: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _emit(builder, instruction, *arguments)

        return types.int32(types.intp, types.int32), generate

    return dot_products


def _emit(builder: Any, instruction: _Instruction, rounds: Any, seed: Any) -> Any:
    """Returns a lane, so that nothing is optimized away."""
    words = splat(builder, builder.add(seed, ir.Constant(I32, instruction.bits)), LANES)
    operand = builder.bitcast(words, instruction.operands)
    sums = [cgutils.alloca_once_value(builder, builder.bitcast(
        builder.add(words, ir.Constant(_INTS, [r] * LANES)), instruction.sums)) for r in range(REGISTERS)]
    with loop(builder, rounds):
        for register in sums:
            builder.store(instruction.emit(builder, builder.load(register), operand), register)
    total = ir.Constant(_INTS, None)
    for register in sums:
        total = builder.xor(total, builder.bitcast(builder.load(register), _INTS))
    return builder.extract_element(total, ir.Constant(I32, 0))


def peak(case: Case, name: str) -> Work:
    """Raises RuntimeError where the processor has no such instruction."""
    instruction = INSTRUCTIONS[name]
    if not llvmlite.binding.get_host_cpu_features().get(instruction.feature, False):
        raise RuntimeError(f"this processor has no {instruction.feature}")
    dot_products, out = _measured(instruction), np.zeros(THREADS, np.int32)

    @numba.njit(parallel=True)
    def run(rounds: int, out: np.ndarray) -> None:
        for thread in prange(len(out)):
            out[thread] = dot_products(rounds, np.int32(thread))

    return Work(partial(run, ROUNDS, out), THREADS * ROUNDS * REGISTERS * instruction.products / 1e9)


BUILD: dict[str, dict[str, Callable[[Case], Work]]] = {
    name: dict.fromkeys(("peak", "matmul"), partial(peak, name=name)) for name in INSTRUCTIONS}
