"""Copies in another order."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.ops.move import MoveOp
from sim.ops.select import SelectOp
from sim.ops.slice import SliceOp
from sim.steps.step import Step


class Rearrange(Step):
    """Axes in another order."""

    def __init__(self, op: MoveOp, isa: str) -> None:
        self.op = op
        self.axes = (0, *(axis + 1 for axis in op.order))

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes as they are."""
        x = inputs[0].interior
        split = x.reshape(len(x), *self.op.split)
        out.interior[...] = split.transpose(self.axes).reshape(len(x), *self.op.shape)


class Pick(Step):
    """One row of each image."""

    def __init__(self, op: SelectOp, isa: str) -> None:
        self.index = op.index

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes as they are."""
        out.interior[...] = inputs[0].interior[:, self.index : self.index + 1]


class Part(Step):
    """Some rows, columns and channels."""

    def __init__(self, op: SliceOp, isa: str) -> None:
        self.slices = op.slices

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes as they are."""
        rows, columns, channels = self.slices
        out.interior[...] = inputs[0].interior[:, rows, columns, channels]
