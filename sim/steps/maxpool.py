"""Maximum pooling."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.kernels.elementwise import max_codes
from sim.ops.maxpool import MaxPoolOp
from sim.steps.step import Step
from sim.steps.zero import place_of


class Largest(Step):
    """One maximum pool of a program."""

    def __init__(self, op: MaxPoolOp, isa: str) -> None:
        self.window = *op.window, op.stride, op.padding

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> the largest of each window."""
        x = inputs[0]
        pad, sign, zero = place_of(x, 0)
        max_codes(x.unsigned, (pad, x.unsigned.dtype.type(sign), zero), self.window, out.unsigned, out.pad)
