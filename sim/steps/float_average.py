"""ONNX Runtime's average pool: float32 sums in the order of rows and columns."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.ops.float_average import FloatAverageOp
from sim.requantizers.nearest import FARTHEST
from sim.steps.step import Step
from sim.steps.wide import window_counts, window_sums
from sim.steps.zero import clamp_into, less


class FloatAverage(Step):
    """One tap of all windows at a time, so that each window is added in its own order."""

    def __init__(self, op: FloatAverageOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        op, (scale, step) = self.op, self.op.scales
        values = less(inputs[0], op.source_zero).astype(np.float32) * scale
        # what is around adds 0, which changes no sum but -0, and that is the same code
        total = window_sums(values, op.taps, op.strides, op.paddings)
        count = window_counts(op, values.shape[1:3]).astype(np.float32)
        with np.errstate(over="ignore"):  # what is beyond every code is clamped
            steps = ((total / count) / step) + np.float32(op.zero_point)
        clamp_into(op, np.rint(np.clip(steps, -FARTHEST, FARTHEST)).astype(np.int64) - op.zero_point, out)
