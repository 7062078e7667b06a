"""ONNX Runtime's average pool: float32 sums in the order of rows and columns."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.ops.float_average import FloatAverageOp
from sim.steps.step import Step
from sim.steps.zero import clamp_into, less

FARTHEST = np.float32(2.0**40)


class FloatAverage(Step):
    """One tap of all windows at a time, so that each window is added in its own order."""

    def __init__(self, op: FloatAverageOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        op, (top, bottom, left, right) = self.op, self.op.paddings
        scale, step = op.scales
        values = less(inputs[0], op.source_zero).astype(np.float32) * scale
        around = ((0, 0), (top, bottom), (left, right), (0, 0))
        values = np.pad(values, around)  # adding 0 changes no sum but -0, which is the same code
        inside = np.pad(np.ones((1, *inputs[0].interior.shape[1:3], 1), np.float32), around)
        (height, width), (down, across) = op.shape[:2], op.strides
        total = np.zeros((len(values), *op.shape), np.float32)
        count = np.zeros((1, height, width, 1), np.float32)
        for i in range(op.taps[0]):
            for j in range(op.taps[1]):
                part = np.s_[:, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * across + 1 : across]
                total, count = total + values[part], count + inside[part]
        if op.divisor == "window":
            count[...] = op.taps[0] * op.taps[1]
        with np.errstate(over="ignore"):  # what is beyond every code is clamped
            steps = ((total / count) / step) + np.float32(op.zero_point)
        clamp_into(op, np.rint(np.clip(steps, -FARTHEST, FARTHEST)).astype(np.int64) - op.zero_point, out)
