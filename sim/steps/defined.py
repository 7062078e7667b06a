"""Integer definitions by name, as they are written: on int64 arrays."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.ops.defined import DefinedOp
from sim.steps.step import Step
from sim.steps.zero import less


class Defined(Step):
    """Rows along the channels."""

    def __init__(self, op: DefinedOp, isa: str) -> None:
        self.definition, self.source_zero = op.definition, op.source_zero

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        out.interior[...] = self.definition.codes(less(inputs[0], self.source_zero))
