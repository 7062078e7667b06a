"""Average pooling and sums over axes: exact sums, divided and rounded."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.ops.average import AverageOp
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
        op, count = self.op, self.op.taps[0] * self.op.taps[1]
        if op.taps == inputs[0].interior.shape[1:3] and not any(op.paddings):
            clamp_into(op, rounded_quotients(_total(inputs[0], (1, 2), op.source_zero), count, op.rounding), out)
            return
        x, place = less(inputs[0], op.source_zero), (op.taps, op.strides, op.paddings)
        counts: Any = count if op.divisor == "window" else window_sums(np.ones((1, *x.shape[1:3], 1), np.int64), *place)
        clamp_into(op, rounded_quotients(window_sums(x, *place), counts, op.rounding), out)


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


def _total(x: Padded, axes: tuple[int, ...], zero: int) -> np.ndarray:
    """Sums of codes less their zero point, int64: the zero point is taken off once, not of every code."""
    sums: np.ndarray = x.interior.sum(axes, dtype=np.int64, keepdims=True)
    return sums - zero * int(np.prod([x.interior.shape[axis] for axis in axes]))
