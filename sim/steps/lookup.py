"""Tables from codes to codes."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.kernels import isa as instruction_sets
from sim.kernels import permute
from sim.kernels.codes import table_codes, threshold_codes
from sim.kernels.isa import AMX, VNNI
from sim.ops.requantize import TableOp
from sim.steps.step import Step

MOST_THRESHOLDS = 16
"""Comparisons of whole registers beat looking up code by code up to about so many."""


class Lookup(Step):
    """One code for another."""

    def __init__(self, op: TableOp, isa: str) -> None:
        self.thresholds = None if op.least else _thresholds(op.table)
        self.table = by_storage(op.table, op.least)
        self.packed = None
        is_bytes = self.table.itemsize == 1 and len(self.table) <= 256
        is_long = op.shape[1] * op.shape[2] >= permute.BYTES
        if is_bytes and is_long and isa in (VNNI, AMX) and instruction_sets.has_byte_permutes():
            self.packed = permute.pack(self.table)

    @property
    def path(self) -> str:  # type: ignore[override]
        """How it looks codes up."""
        return "by permutes" if self.packed is not None else "" if self.thresholds is None else "by thresholds"

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """By registers, or by comparisons where these are fewer."""
        x = inputs[0]
        if self.packed is not None:
            permute.permuted_codes(x.unsigned, x.pad, self.packed, out.unsigned, out.pad)
        elif self.thresholds is None:
            table_codes(x.unsigned, x.pad, self.table, out.pad, out.array)
        else:
            threshold_codes(x.array, x.pad, self.table[0], self.thresholds, out.pad, out.array)


def by_storage(table: np.ndarray, least: int) -> np.ndarray:
    """A table that begins with the code `least`, in the order in which kernels see codes: as unsigned numbers."""
    if least == 0:
        return table
    codes = np.arange(least, least + len(table))
    size = 1 << (8 if least >= -128 else 16)
    ordered = np.zeros(size, table.dtype)
    ordered[codes % size] = table
    return ordered


def _thresholds(table: np.ndarray) -> np.ndarray | None:
    """The codes above which a table of bytes takes its steps, [rows, 8]; None if it descends or has too many."""
    wide = table.astype(np.int64)
    steps = wide[1:] - wide[:-1]
    if table.dtype != np.uint8 or len(table) > 256 or steps.min(initial=0) < 0 or steps.sum() > MOST_THRESHOLDS:
        return None
    above = np.repeat(np.arange(len(steps)), steps)
    return np.pad(above, (0, -len(above) % 8), constant_values=255).astype(np.uint8).reshape(-1, 8)
