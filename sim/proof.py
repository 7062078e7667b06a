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
from sim.formats import IntFormat
from sim.kernels.isa import AMX_EMULATED, PLAIN, is_possible
from sim.kernels.jit import source_digest
from sim.program import ConvOp, output_side
from sim.requantizers.fp32 import Fp32
from sim.steps.conv import Convolution

CASES = 200
IMAGES = 3


class ProofError(RuntimeError):
    """Kernels that are not there, or not right."""


def convolutions(count: int) -> Iterator[tuple[ConvOp, np.ndarray]]:
    """Convolutions of many shapes and codes [N, H, W, C] for them: full-scale ones and drawn ones, always the same.

    Channels and columns are drawn so that every tile of every kernel has its turns.
    """
    rng = np.random.default_rng(0)
    for number in range(count):
        operand = IntFormat(int(rng.integers(1, 9)), signed=bool(rng.integers(2)))
        weight_format = IntFormat(int(rng.choice([2, 3, 8, 9, 15])), signed=True)
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        fewest, most = ((1, 16), (17, 32), (33, 100))[number % 3]
        depth, channels = groups * int(rng.integers(1, 100)), groups * int(rng.integers(fewest, most + 1))
        narrowest, widest = ((1, 16), (17, 32), (33, 64), (65, 140))[number % 4]
        shape = int(rng.integers(1, 6)), int(rng.integers(narrowest, widest + 1)), depth
        stride, padding = int(rng.choice([1, 1, 2])), int(rng.integers(3))
        kernel = min(int(rng.integers(1, 4)), shape[0] + 2 * padding, shape[1] + 2 * padding)
        is_full = number % 8 == 0
        low, high = (operand.max, operand.max + 1) if is_full else (operand.min, operand.max + 1)
        x = rng.integers(low, high, (IMAGES, *shape)).astype(operand.dtype)
        weights = rng.integers(weight_format.min, weight_format.max + 1, (kernel, kernel, depth // groups, channels))
        weights = np.full_like(weights, weight_format.min) if is_full else weights
        # within what two byte planes hold
        weights = np.clip(weights, -(1 << 14), (1 << 14) - 65).astype(np.int32)
        rows, columns = (output_side(length, kernel, stride, padding) for length in shape[:2])
        accumulator = (Accumulator(), Accumulator(12, "wrap"), Accumulator(12, "saturate", 1))[number // 3 % 3]
        usual = float(np.sqrt(weights[..., 0].size) * weight_format.max * operand.max) or 1.0
        requant = Fp32(rng.uniform(32 / usual, 96 / usual, channels).astype(np.float32),
                       rng.uniform(0, 128, channels).astype(np.float32), np.zeros(1, np.float32))
        yield ConvOp("conv", "image", (rows, columns, channels), IntFormat(8, signed=False), skip="", weights=weights,
                     stride=stride, padding=padding, groups=groups, operand=operand, weight_format=weight_format,
                     weight_bits=8, accumulator=accumulator, requant=requant), x


def prove(isa: str, count: int = CASES) -> str:
    """One line that says what was compared.  Raises ProofError if a sum, a code or a counter differs."""
    if not is_possible(isa) and isa != AMX_EMULATED:
        raise ProofError(f"{isa!r} is nothing that this processor has")
    compared = 0
    for op, x in convolutions(count):
        found, expected = (_results(Convolution(op, name), Padded.of(x, op.padding)) for name in (isa, PLAIN))
        for what, mine, right in zip(("sums", "overflows", "codes"), found, expected, strict=True):
            if not np.array_equal(mine, right):
                raise ProofError(
                    f"{isa}: {np.sum(mine != right)} of {mine.size} {what} differ from those of the plain loops, for "
                    f"{op.weights.shape} weights of {op.weight_format}, {x.shape} codes of {op.operand}, "
                    f"stride {op.stride}, padding {op.padding}, {op.groups} groups, {op.accumulator}")
        compared += found[0].size
    return f"{isa}: {count} convolutions, 0 of {compared:,} sums and codes differ from those of the plain loops"


def _results(convolution: Convolution, x: Padded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums, overflows per channel (empty where none are possible) and codes, which other kernels may compute."""
    sums, overflows = convolution.registers([x])
    codes = Padded.zeros(IMAGES, convolution.op.shape, np.dtype(np.uint8), 1)
    convolution([x], codes)
    return sums, np.zeros(0, np.int64) if overflows is None else overflows, codes.interior


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m sim.proof", description="Compare kernels with the plain loops.")
    parser.add_argument("isa", help="the instruction set, as in BITTRUE_ISA")
    try:
        print(prove(parser.parse_args().isa))
        print(source_digest())
    except ProofError as error:
        sys.exit(f"error: {error}")
