"""python -m sim.proof ISA: whether one instruction set's kernels equal the plain loops on this processor, sum for sum.

Some instructions, AMX among them, could not be run where their kernels were written.  sim/kernels/isa.py takes such kernels
only after this proof, which runs in a process of its own, because a fault would end it.  It needs numpy and numba alone.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.convolution import Convolution
from sim.formats import IntFormat
from sim.kernels.isa import AMX_EMULATED, PLAIN, is_possible
from sim.program import ConvOp, output_side
from sim.requantizers.fp32 import Fp32

CASES = 200
IMAGES = 3


class ProofError(RuntimeError):
    """Kernels that are not there, or not right."""


def convolutions(count: int) -> Iterator[tuple[ConvOp, np.ndarray]]:
    """Convolutions of many shapes and codes [N, H, W, C] for them: full-scale ones and drawn ones, always the same."""
    rng = np.random.default_rng(0)
    for number in range(count):
        operand = IntFormat(int(rng.integers(1, 9)), signed=bool(rng.integers(2)))
        weight_format = IntFormat(int(rng.choice([2, 3, 8, 9, 15])), signed=True)
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        depth, channels = groups * int(rng.integers(1, 100)), groups * int(rng.integers(1, 100))
        shape = int(rng.integers(1, 6)), int(rng.integers(1, 70)), depth
        kernel, stride, padding = int(rng.integers(1, min(4, shape[1] + 1))), int(rng.integers(1, 3)), int(rng.integers(3))
        kernel = min(kernel, shape[0] + 2 * padding)
        is_full = number % 8 == 0
        low, high = (operand.max, operand.max + 1) if is_full else (operand.min, operand.max + 1)
        x = rng.integers(low, high, (IMAGES, *shape)).astype(operand.dtype)
        weights = rng.integers(weight_format.min, weight_format.max + 1, (kernel, kernel, depth // groups, channels))
        weights = np.full_like(weights, weight_format.min) if is_full else weights
        # within what two byte planes hold
        weights = np.clip(weights, -(1 << 14), (1 << 14) - 65).astype(np.int32)
        rows, columns = (output_side(length, kernel, stride, padding) for length in shape[:2])
        accumulator = (Accumulator(), Accumulator(12, "wrap"), Accumulator(12, "saturate", 1))[number % 3]
        one = Fp32(np.ones(channels, np.float32), np.zeros(channels, np.float32), np.zeros(1, np.float32))
        yield ConvOp("conv", "image", (rows, columns, channels), IntFormat(8, signed=False), skip="", weights=weights,
                     stride=stride, padding=padding, groups=groups, operand=operand, weight_format=weight_format,
                     weight_bits=8, accumulator=accumulator, requant=one), x


def prove(isa: str, count: int = CASES) -> str:
    """One line that says what was compared.  Raises ProofError if a sum or a counter differs."""
    if not is_possible(isa) and isa != AMX_EMULATED:
        raise ProofError(f"{isa!r} is nothing that this processor has")
    compared = 0
    for op, x in convolutions(count):
        padded = Padded.of(x, op.padding)
        sums, overflows = Convolution(op, isa).registers(padded)
        expected, expected_overflows = Convolution(op, PLAIN).registers(padded)
        differ = int(np.sum(sums != expected))
        if differ or not np.array_equal(_list(overflows), _list(expected_overflows)):
            raise ProofError(
                f"{isa}: {differ} of {sums.size} sums, or counters, differ from those of the plain loops, for "
                f"{op.weights.shape} weights of {op.weight_format}, {x.shape} codes of {op.operand}, stride {op.stride}, "
                f"padding {op.padding}, {op.groups} groups, {op.accumulator}")
        compared += sums.size
    return f"{isa}: {count} convolutions, 0 of {compared:,} sums differ from those of the plain loops"


def _list(counters: np.ndarray | None) -> list[int]:
    return [] if counters is None else counters.tolist()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m sim.proof", description="Compare kernels with the plain loops.")
    parser.add_argument("isa", help="the instruction set, as in BITTRUE_ISA")
    try:
        print(prove(parser.parse_args().isa))
    except ProofError as error:
        sys.exit(f"error: {error}")
