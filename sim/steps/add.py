"""Addition: codes of one operand are sums, those of the other the residual."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.kernels.elementwise import add_lines
from sim.kernels.lines import driver
from sim.ops.add import AddOp
from sim.steps.step import Step
from sim.steps.zero import ending, place_of


class Sum(Step):
    """One addition of a program."""

    def __init__(self, op: AddOp, isa: str) -> None:
        self.op, self._run, self._end = op, driver(add_lines, codes=op.requant.line), ending(op, op.requant)

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes of both -> codes, in one pass."""
        x, y = inputs
        self._run(x.unsigned, place_of(x, self.op.source_zero), y.unsigned, place_of(y, self.op.other_zero), self._end,
                  out.unsigned, out.pad)
