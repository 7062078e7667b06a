"""Integer definitions by name: compiled where there is such code, else as they are written, on int64 arrays."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.kernels.lines import driver
from sim.kernels.softmax import row_lines
from sim.ops.defined import DefinedOp
from sim.steps.step import Step
from sim.steps.zero import less, place_of


class Defined(Step):
    """Rows along the channels."""

    def __init__(self, op: DefinedOp, isa: str) -> None:
        self.definition, self.source_zero, self._compiled = op.definition, op.source_zero, op.definition.compiled()

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        x = inputs[0]
        if self._compiled is None or x.array.itemsize > 2:
            out.interior[...] = self.definition.codes(less(x, self.source_zero))
        else:
            row, constants = self._compiled
            driver(row_lines, row=row)(x.unsigned, place_of(x, self.source_zero), constants, out.unsigned, out.pad)
