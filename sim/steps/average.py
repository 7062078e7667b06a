"""Average pooling and sums over axes: exact sums, divided and rounded, or to a requantizer."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.kernels.average import QUOTIENTS, average_lines
from sim.kernels.elementwise import pool_lines
from sim.kernels.lines import driver
from sim.ops.average import AverageOp
from sim.ops.reduce import ReduceOp
from sim.requantizers.requantizer import residual_arguments
from sim.steps.pool import pool_into
from sim.steps.rounding import rounded_quotients
from sim.steps.step import Step
from sim.steps.zero import clamp_into, ending, place_of, requantize_plain, words_of


class Average(Step):
    """One average pool."""

    def __init__(self, op: AverageOp, isa: str) -> None:
        self.op, self._run = op, driver(average_lines, quotient=QUOTIENTS[op.rounding])
        self._window = (*op.taps, *op.strides, op.paddings[0], op.paddings[2])
        self._divisor = math.prod(op.taps) if op.divisor == "window" else 0
        self._limits = words_of(op)

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes, in one pass."""
        x, place = inputs[0], place_of(inputs[0], self.op.source_zero)
        wide = np.empty(0, np.int32 if math.prod(self.op.taps) << 8 * x.array.itemsize < 2**31 else np.int64)
        self._run(x.unsigned, place, self._window, self._divisor, wide, self._limits, out.unsigned, out.pad)


class Reduction(Step):
    """Sums or means over axes; those of whole images to a requantizer are a pool."""

    def __init__(self, op: ReduceOp, isa: str) -> None:
        self.op, self.axes = op, tuple(axis + 1 for axis in op.axes)
        self._pool: tuple[Any, Any] | None = None
        if op.requant is not None and (op.axes, op.rule) == ((0, 1), "sum"):
            self._pool = driver(pool_lines, codes=op.requant.line), ending(op, op.requant)

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        op, x = self.op, inputs[0]
        if self._pool is not None and x.array.itemsize <= 2:
            pool_into(*self._pool, x, op.source_zero, (*x.interior.shape[1:3], 1, 0), out)
            return
        values = _total(x, self.axes, op.source_zero)
        if op.rule == "mean":
            values = rounded_quotients(values, op.count(x.interior.shape[1:]), op.rounding)
        if op.requant is None:
            clamp_into(op, values, out)
        else:
            requantize_plain(op, values, residual_arguments(None), out)


def _total(x: Padded, axes: tuple[int, ...], zero: int) -> np.ndarray:
    """Sums of codes less their zero point, int64: the zero point is taken off once, not of every code."""
    sums: np.ndarray = x.interior.sum(axes, dtype=np.int64, keepdims=True)
    return sums - zero * math.prod(x.interior.shape[axis] for axis in axes)
