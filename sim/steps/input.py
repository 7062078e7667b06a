"""The input: pixels are looked up."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.kernels.codes import pixel_codes
from sim.ops.input import InputOp
from sim.steps.step import Step


class PixelLookup(Step):
    """uint8 pixels -> codes."""

    def __init__(self, op: InputOp, isa: str) -> None:
        self.table = op.table

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """A table per channel."""
        pixel_codes(inputs[0].array, self.table, out.pad, out.array)
