"""Integer definitions by name, as they are written: on int64 arrays."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.ops.defined import DefinedOp
from sim.steps.step import Step


class Defined(Step):
    """Rows along the channels."""

    def __init__(self, op: DefinedOp, isa: str) -> None:
        self.definition = op.definition

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        out.interior[...] = self.definition.codes(inputs[0].interior.astype(np.int64))
