"""Integer definitions by name: by loops of their own where a definition has some, else as they are written, on int64."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.ops.defined import DefinedOp
from sim.ops.masked import MaskedOp
from sim.steps.rows import rows_of
from sim.steps.step import Step
from sim.steps.zero import less


class Defined(Step):
    """Rows along the channels."""

    def __init__(self, op: DefinedOp, isa: str) -> None:
        self.definition, self.source_zero = op.definition, op.source_zero
        self.rows = rows_of(op)
        self.path = "" if self.rows is None else "by rows"

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        if self.rows is not None and self.rows.takes(inputs[0], out):
            self.rows(inputs[0], None, out)
        else:
            out.interior[...] = self.definition.codes(less(inputs[0], self.source_zero))


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
                codes[image][..., real] = self.definition.codes(scores[image][..., real].astype(np.int64) - self.source_zero)
