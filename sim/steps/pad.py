"""Padding: codes are copied."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.ops.pad import PadOp
from sim.steps.step import Step


class Frame(Step):
    """Into the middle, the code of 0 around it."""

    def __init__(self, op: PadOp, isa: str) -> None:
        self.paddings, self.zero_point = op.paddings, op.zero_point

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Copy."""
        x, whole = inputs[0].interior, out.interior
        top, left = self.paddings[0], self.paddings[2]
        whole[:, :top] = whole[:, top + x.shape[1] :] = self.zero_point
        whole[:, top : top + x.shape[1], :left] = whole[:, top : top + x.shape[1], left + x.shape[2] :] = self.zero_point
        whole[:, top : top + x.shape[1], left : left + x.shape[2]] = x
