"""Multiplication: products of codes, then the requantizer."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.kernels.elementwise import multiply_lines
from sim.kernels.lines import driver
from sim.ops.multiply import MultiplyOp
from sim.requantizers.requantizer import residual_arguments
from sim.steps.step import Step
from sim.steps.zero import ending, place_of


class Product(Step):
    """One multiplication of a program."""

    def __init__(self, op: MultiplyOp, isa: str) -> None:
        self.op, self._run, self._end = op, driver(multiply_lines, codes=op.requant.line), ending(op, op.requant)

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes of both -> codes, in one pass."""
        x, y = inputs
        is_spread = y.interior.shape != x.interior.shape
        are_bytes = x.array.itemsize + y.array.itemsize <= 3  # then 17 + 9 bits at most, of codes less their zero points
        self._run(x.unsigned, place_of(x, self.op.source_zero), y.unsigned, place_of(y, self.op.other_zero), is_spread,
                  np.empty(0, np.int32 if are_bytes else np.int64), residual_arguments(None)[0], self._end, out.unsigned,
                  out.pad)
