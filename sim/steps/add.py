"""Addition: codes of one operand are sums, those of the other the residual."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.kernels.elementwise import add_lines, add_words
from sim.kernels.lines import driver
from sim.ops.add import AddOp
from sim.steps.step import Step
from sim.steps.zero import ending, place_of, words_of

BYTE = 2**8 - 1
"""Magnitude of what is left of a byte less any zero point."""


class Sum(Step):
    """One addition of a program."""

    def __init__(self, op: AddOp, isa: str) -> None:
        self.op, self._run, self._end = op, driver(add_lines, codes=op.requant.line), ending(op, op.requant)
        self._words = op.requant.in_words(BYTE)
        self._limits = words_of(op)

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes of both -> codes, in one pass."""
        x, y = inputs
        operands = x.unsigned, place_of(x, self.op.source_zero), y.unsigned, place_of(y, self.op.other_zero)
        if self._words is None or x.array.itemsize + y.array.itemsize > 2:
            self._run(*operands, self._end, out.unsigned, out.pad)
        else:
            rule, constants = self._words
            driver(add_words, rule=rule)(*operands, constants, self._limits, out.unsigned, out.pad)
