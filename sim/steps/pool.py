"""Average pooling: sums over windows, then the requantizer."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.kernels.codes import window_sums
from sim.ops.avgpool import PoolOp
from sim.steps.step import Step


class Pool(Step):
    """One pool of a program."""

    def __init__(self, op: PoolOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        op, x = self.op, inputs[0]
        sums = np.empty((len(x.array), *op.shape), np.int64)
        window_sums(x.array, x.pad - op.padding, *op.window, op.stride, sums)
        assert op.format is not None
        op.requant.codes_into(sums, None, op.format, out)
