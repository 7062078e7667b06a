"""Average pooling and sums over axes: exact sums, divided and rounded."""

import math
from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.ops.average import AverageOp, WindowAverage
from sim.ops.reduce import ReduceOp
from sim.requantizers.requantizer import residual_arguments
from sim.steps.rounding import rounded_quotients
from sim.steps.step import Step
from sim.steps.wide import window_sums
from sim.steps.zero import clamp_into, less, requantize_plain


class Average(Step):
    """One average pool: whole windows of an image at a time."""

    def __init__(self, op: AverageOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        op = self.op
        if op.taps == inputs[0].interior.shape[1:3] and not any(op.paddings):
            whole = rounded_quotients(_total(inputs[0], (1, 2), op.source_zero), math.prod(op.taps), op.rounding)
            clamp_into(op, whole, out)
            return
        x = less(inputs[0], op.source_zero)
        sums = window_sums(x, op.taps, op.strides, op.paddings)
        clamp_into(op, rounded_quotients(sums, window_counts(op, x.shape[1:3]), op.rounding), out)


class Reduction(Step):
    """Sums or means over axes."""

    def __init__(self, op: ReduceOp, isa: str) -> None:
        self.op, self.axes = op, tuple(axis + 1 for axis in op.axes)

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        op = self.op
        values = _total(inputs[0], self.axes, op.source_zero)
        if op.rule == "mean":
            values = rounded_quotients(values, op.count(inputs[0].interior.shape[1:]), op.rounding)
        if op.requant is None:
            clamp_into(op, values, out)
        else:
            requantize_plain(op, values, residual_arguments(None), out)


def window_counts(op: WindowAverage, sides: Sequence[int]) -> np.ndarray:
    """What sums over the windows of an image of these sides are divided by, int64 [1, rows, columns, 1], or one for all."""
    if op.divisor == "window":
        return np.full((1, 1, 1, 1), math.prod(op.taps), np.int64)
    return window_sums(np.ones((1, *sides, 1), np.int64), op.taps, op.strides, op.paddings)


def _total(x: Padded, axes: tuple[int, ...], zero: int) -> np.ndarray:
    """Sums of codes less their zero point, int64: the zero point is taken off once, not of every code."""
    sums: np.ndarray = x.interior.sum(axes, dtype=np.int64, keepdims=True)
    return sums - zero * math.prod(x.interior.shape[axis] for axis in axes)
