"""Average pooling: sums over windows, then the requantizer."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.kernels.elementwise import pool_lines
from sim.kernels.lines import driver
from sim.ops.avgpool import PoolOp
from sim.requantizers.requantizer import residual_arguments
from sim.steps.step import Step
from sim.steps.zero import ending, place_of


class Pool(Step):
    """One pool of a program."""

    def __init__(self, op: PoolOp, isa: str) -> None:
        self.op, self._run, self._end = op, driver(pool_lines, codes=op.requant.line), ending(op, op.requant)

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes, in one pass."""
        op = self.op
        pool_into(self._run, self._end, inputs[0], op.source_zero, (*op.window, op.stride, op.padding), out)


def pool_into(run: Callable[..., None], end: tuple[Any, ...], x: Padded, zero: int, window: tuple[int, int, int, int],
              out: Padded) -> None:
    """Sums of codes less their zero point over windows (rows, columns, stride, padding), to the end of `run`."""
    most = math.prod(window[:2]) << 8 * x.array.itemsize + 1  # of codes less any zero point
    run(x.unsigned, place_of(x, zero), window, np.empty(0, np.int32 if most < 2**31 else np.int64),
        residual_arguments(None)[0], end, out.unsigned, out.pad)
