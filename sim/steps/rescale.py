"""A requantizer applied to codes."""

from collections.abc import Sequence

from sim.buffers import Padded
from sim.ops.rescale import RescaleOp
from sim.requantizers.requantizer import residual_arguments
from sim.steps.step import Step
from sim.steps.zero import less, requantize_plain


class Rescale(Step):
    """Codes of any width, as sums."""

    def __init__(self, op: RescaleOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        requantize_plain(self.op, less(inputs[0], self.op.source_zero), residual_arguments(None), out)
