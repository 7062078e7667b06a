"""What follows from a program alone: operations and bits of every layer, for one image."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.cost.register import additions, widths
from sim.program import Op, Program

LOGIT_BITS = 32
"""Of a logit: a float32, or an integer of a register."""


@dataclass(frozen=True)
class Layer:
    """Counts of one operation and one image.

    `macs` multiply-accumulates; `bops` these times the bits of both operands; `ebops` the same with the effective bits of
    every weight (`effective_bits`); `weights` stored numbers that are multiplied, `weight_bits` the bits of them all,
    `output_bits` those of its result, `live_bits` of all results that are still needed while it runs, its own included;
    `registers` bits and additions of each register; `operands` bits of both factors, (0, 0) where nothing is multiplied.
    """

    name: str
    kind: str
    macs: int
    bops: int
    ebops: int
    weights: int
    zero_weights: int
    weight_bits: int
    output_bits: int
    live_bits: int
    registers: tuple[tuple[int, int], ...]
    operands: tuple[int, int]


def effective_bits(weights: np.ndarray) -> np.ndarray:
    """Bits from the highest to the lowest that is 1 in each magnitude, int64 of the same shape; 0 of 0.

    The width of a constant in EBOPs (Sun et al. 2024, HGQ, arXiv:2405.00645, section on effective bit operations): what a
    multiplier by this constant has to add up, wherever its bits stand.

    >>> effective_bits(np.array([0, 1, -6, 7, 12, -8])).tolist()
    [0, 1, 2, 3, 2, 1]
    """
    size = np.abs(weights.astype(np.int64))
    lowest = size & -size
    shifted = size // np.maximum(lowest, 1)
    return np.frexp(shifted.astype(np.float64))[1].astype(np.int64)  # exact: weights have at most 32 bits


def layers_of(program: Program) -> tuple[Layer, ...]:
    """Every operation in order."""
    ops = {op.name: op for op in program.ops}
    live = live_bits(program)
    return tuple(_layer(op, ops, live[op.name]) for op in program.ops)


def _layer(op: Op, ops: Mapping[str, Op], live: int) -> Layer:
    bits = operand_bits(op, ops)
    weights: np.ndarray | None = getattr(op, "weights", None) if op.accumulates else None
    if weights is None:
        count = zeros = stored = 0
        ebops = op.macs * bits[0] * bits[1]
    else:
        count, zeros = weights.size, int(weights.size - np.count_nonzero(weights))
        stored = count * bits[1]
        ebops = op.shape[0] * op.shape[1] * int(effective_bits(weights).sum()) * bits[0]
    return Layer(op.name, op.kind, op.macs, op.macs * bits[0] * bits[1], ebops, count, zeros, stored, output_bits(op), live,
                 registers_of(op), bits)


def operand_bits(op: Op, ops: Mapping[str, Op]) -> tuple[int, int]:
    """Bits of both factors of an operation's products, (0, 0) where it has none."""
    return OPERANDS[op.kind](op, ops) if op.kind in OPERANDS and op.macs else (0, 0)


OPERANDS: Mapping[str, Callable[[Any, Mapping[str, Op]], tuple[int, int]]] = {
    "conv": lambda op, ops: (op.operand.bits, op.weight_bits),
    "matmul": lambda op, ops: (op.operand.bits, op.other_operand.bits),
    "multiply": lambda op, ops: (_bits(ops[op.source]), _bits(ops[op.other])),
}
"""Operations that multiply, by kind.  Of weights those bits count that tell them apart: an odd one of 2 bits has 2."""


def _bits(op: Op) -> int:
    return LOGIT_BITS if op.format is None else op.format.bits


def output_bits(op: Op) -> int:
    """Of one image's result."""
    return math.prod(op.shape) * _bits(op)


def registers_of(op: Any) -> tuple[tuple[int, int], ...]:
    """(bits, additions for one image) of each register, with bits that never overflow where it is unlimited."""
    gemm = gemm_of(op) if op.accumulates else None
    if gemm is None:
        return ()
    outputs = gemm.rows * gemm.columns * gemm.count
    received = additions(op.accumulator, gemm.depth)
    return tuple((bits, outputs * count) for bits, count in zip(widths(op.accumulator, op.safe_bits), received, strict=True))


def live_bits(program: Program) -> dict[str, int]:
    """Bits of all results that are needed while each operation runs: its own, what it reads, what later ones will read."""
    last = {name: index for index, op in enumerate(program.ops) for name in op.sources()}
    sizes = {op.name: output_bits(op) for op in program.ops}
    found: dict[str, int] = {}
    live: set[str] = set()
    for index, op in enumerate(program.ops):
        live.add(op.name)
        found[op.name] = sum(sizes[name] for name in live)
        live = {name for name in live if last.get(name, -1) > index or name in program.output_names}
    return found


@dataclass(frozen=True)
class Gemm:
    """An operation's products as `count` matrix products [rows, depth] x [depth, columns]."""

    rows: int
    depth: int
    columns: int
    count: int

    @property
    def macs(self) -> int:
        """All products."""
        return self.rows * self.depth * self.columns * self.count


def gemm_of(op: Any) -> Gemm | None:
    """The matrix products of an operation for one image; None where it multiplies no matrices."""
    return GEMMS[op.kind](op) if op.kind in GEMMS else None


def _conv_gemm(op: Any) -> Gemm:
    rows, columns, depth, channels = op.weights.shape
    return Gemm(op.shape[0] * op.shape[1], rows * columns * depth, channels // op.groups, op.groups)


GEMMS: Mapping[str, Callable[[Any], Gemm]] = {
    "conv": _conv_gemm,
    "matmul": lambda op: Gemm(op.shape[1], op.depth, op.shape[2], op.shape[0]),
}
