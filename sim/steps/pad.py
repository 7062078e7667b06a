"""Padding: codes are copied."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.ops.pad import PadOp
from sim.steps.step import Step


class Frame(Step):
    """Into the middle; what is around it holds the code of 0."""

    def __init__(self, op: PadOp, isa: str) -> None:
        self.paddings, self.zero_point = op.paddings, op.zero_point

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Copy."""
        x = inputs[0].interior
        top, left = self.paddings[0], self.paddings[2]
        out.interior[...] = self.zero_point
        out.interior[:, top : top + x.shape[1], left : left + x.shape[2]] = x
