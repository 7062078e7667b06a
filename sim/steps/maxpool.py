"""Maximum pooling."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.kernels.elementwise import max_codes
from sim.ops.maxpool import MaxPoolOp
from sim.steps.step import Step


class Largest(Step):
    """One maximum pool of a program."""

    def __init__(self, op: MaxPoolOp, isa: str) -> None:
        window = op.geometry
        self.window = (*window.taps, *window.strides, window.paddings[0], window.paddings[2])

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> the largest of each window."""
        x = inputs[0]
        max_codes(x.unsigned, x.pad, x.unsigned.dtype.type(x.sign), self.window, out.unsigned, out.pad)
