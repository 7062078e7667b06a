"""Concatenation: a table for each input."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.kernels.elementwise import part_codes
from sim.ops.concat import ConcatOp
from sim.steps.lookup import by_storage
from sim.steps.step import Step


class Concatenation(Step):
    """Inputs side by side."""

    def __init__(self, op: ConcatOp, isa: str) -> None:
        self.op = op
        self.is_fast = op.axis == 2 and len(op.lengths) > 0
        self.tables = [by_storage(table, least) for table, least in op.tables()]

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Each to its channels, or its place along another axis."""
        if not self.is_fast:
            parts = [x.interior for x in inputs]
            if self.tables:
                parts = [table[part.view(x.unsigned.dtype)]
                         for x, part, table in zip(inputs, parts, self.tables, strict=True)]
            np.concatenate(parts, axis=self.op.axis + 1, out=out.interior)
            return
        first = 0
        for x, table in zip(inputs, self.tables, strict=True):
            part_codes(x.unsigned, x.pad, table, first, out.array, out.pad)
            first += x.array.shape[3]
