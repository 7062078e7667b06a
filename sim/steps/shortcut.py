"""The shortcut: codes are copied."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.ops.shortcut import ShortcutOp
from sim.steps.step import Step


class Copy(Step):
    """Every `stride`-th pixel; what is added holds the code of 0."""

    def __init__(self, op: ShortcutOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Into the middle channels."""
        x = inputs[0].interior
        before = (self.op.shape[2] - x.shape[3]) // 2
        out.interior[..., :before] = self.op.zero_point
        out.interior[..., before : before + x.shape[3]] = x[:, :: self.op.stride, :: self.op.stride]
        out.interior[..., before + x.shape[3] :] = self.op.zero_point
