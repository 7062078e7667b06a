"""Integer definitions by name: compiled where there is such code, else as they are written, on int64 arrays."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.kernels.lines import driver
from sim.kernels.softmax import row_lines
from sim.ops.defined import DefinedOp
from sim.ops.masked import MaskedOp
from sim.steps.rows import rows_of
from sim.steps.step import Step
from sim.steps.zero import less, place_of


class Defined(Step):
    """Rows along the channels."""

    def __init__(self, op: DefinedOp, isa: str) -> None:
        self.definition, self.source_zero, self._compiled = op.definition, op.source_zero, op.definition.compiled()
        self.rows = rows_of(op)
        self.path = "" if self.rows is None and self._compiled is None else "by rows"

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        if self.rows is not None and self.rows.takes(inputs[0], out):
            self.rows(inputs[0], None, out)
        else:
            self._whole(inputs[0], out)

    def _whole(self, x: Padded, out: Padded) -> None:
        """The same of rows of any length."""
        if self._compiled is None or x.array.itemsize > 2:
            out.interior[...] = self.definition.codes(less(x, self.source_zero))
        else:
            row, constants = self._compiled
            driver(row_lines, row=row)(x.unsigned, place_of(x, self.source_zero), constants, out.unsigned, out.pad)


class Masked(Defined):
    """A softmax on what remains of its rows without the tokens that are padding: each image has padding of its own."""

    def __init__(self, op: MaskedOp, isa: str) -> None:
        super().__init__(op, isa)
        self.padding, self.zero = op.padding, op.zero_point

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Scores [N, heads, tokens, others] and ids [N, others, 1, 1] -> codes."""
        kept = inputs[1].interior[:, :, 0, 0] != self.padding
        if self.rows is not None and self.rows.takes(inputs[0], out):
            self.rows(inputs[0], kept, out)
            return
        scores, codes = inputs[0].interior, out.interior
        codes[...] = self.zero
        for image, real in enumerate(kept):
            if real.any():
                part = Padded.of(scores[image : image + 1][..., real], 0)
                found = Padded.zeros(1, part.array.shape[1:], out.array.dtype, 0)
                self._whole(part, found)
                codes[image][..., real] = found.array[0]
