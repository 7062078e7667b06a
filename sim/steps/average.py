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
        op, x = self.op, less(inputs[0], self.op.source_zero)
        place = op.taps, op.strides, op.paddings
        count: Any = op.taps[0] * op.taps[1]
        if op.divisor == "valid":
            count = window_sums(np.ones((1, *x.shape[1:3], 1), np.int64), *place)
        clamp_into(op, rounded_quotients(window_sums(x, *place), count, op.rounding), out)


class Reduction(Step):
    """Sums or means over axes."""

    def __init__(self, op: ReduceOp, isa: str) -> None:
        self.op, self.axes = op, tuple(axis + 1 for axis in op.axes)

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        op, x = self.op, less(inputs[0], self.op.source_zero)
        values = x.sum(self.axes, keepdims=True)
        if op.rule == "mean":
            values = rounded_quotients(values, op.count(x.shape[1:]), op.rounding)
        if op.requant is None:
            clamp_into(op, values, out)
        else:
            requantize_plain(op, values, residual_arguments(None), out)
