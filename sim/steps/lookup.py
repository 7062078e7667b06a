"""Tables from codes to codes."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.kernels.codes import table_codes, threshold_codes
from sim.ops.requantize import TableOp
from sim.steps.step import Step

MOST_THRESHOLDS = 16
"""Comparisons of whole registers beat looking up code by code up to about so many."""


class Lookup(Step):
    """One code for another."""

    def __init__(self, op: TableOp, isa: str) -> None:
        self.thresholds = None if op.least else _thresholds(op.table)
        self.table = op.table
        if op.least:  # kernels see codes as unsigned numbers
            codes = np.arange(op.least, op.least + len(op.table))
            size = 1 << (8 if op.least >= -128 else 16)
            self.table = np.zeros(size, op.table.dtype)
            self.table[codes % size] = op.table

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """By comparisons where these are fewer."""
        x = inputs[0]
        if self.thresholds is None:
            table_codes(x.unsigned, x.pad, self.table, out.pad, out.array)
        else:
            threshold_codes(x.array, x.pad, self.table[0], self.thresholds, out.pad, out.array)


def _thresholds(table: np.ndarray) -> np.ndarray | None:
    """The codes above which a table of bytes takes its steps, [rows, 8]; None if it descends or has too many."""
    wide = table.astype(np.int64)
    steps = wide[1:] - wide[:-1]
    if table.dtype != np.uint8 or len(table) > 256 or steps.min(initial=0) < 0 or steps.sum() > MOST_THRESHOLDS:
        return None
    above = np.repeat(np.arange(len(steps)), steps)
    return np.pad(above, (0, -len(above) % 8), constant_values=255).astype(np.uint8).reshape(-1, 8)
