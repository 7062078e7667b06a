"""Operations of two tensors, and of interpolating tables, as they are written: on int64 arrays."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.ops.compare import MinMaxOp
from sim.ops.divide import DivideError, DivideOp
from sim.ops.table16 import Table16Op
from sim.steps.rounding import rounded_quotients
from sim.steps.step import Step
from sim.steps.zero import clamp_into, less


class Quotient(Step):
    """One division."""

    def __init__(self, op: DivideOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes of both -> codes."""
        op, (x, y) = self.op, inputs
        below = less(y, op.other_zero) * op.other_factor + op.epsilon
        if not below.all():
            raise DivideError(f"{op.name}: divides by 0")
        clamp_into(op, rounded_quotients(less(x, op.source_zero) * op.factor, below, op.rounding), out)


class Extreme(Step):
    """The larger or the smaller of two."""

    def __init__(self, op: MinMaxOp, isa: str) -> None:
        self.choose = np.maximum if op.rule == "maximum" else np.minimum

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes of both -> one of them, wherever."""
        self.choose(inputs[0].interior, inputs[1].interior, out=out.interior)


class Interpolation(Step):
    """All codes that there are, looked up in a table of what they become."""

    def __init__(self, op: Table16Op, isa: str) -> None:
        codes = np.arange(-32768, 32768)
        segment, fraction = 256 + (codes >> 7), codes & 127
        samples = op.table.astype(np.int64)
        rise = (samples[segment + 1] - samples[segment]) * fraction
        values = samples[segment] + ((rise + 64) >> 7) if op.rule == "tflite" else 128 * samples[segment] + rise
        table = Padded.zeros(1, (1, 1, len(codes)), np.dtype(np.int64), 0)
        clamp_into(op, values.reshape(1, 1, 1, -1), table)
        self.table = table.array.ravel()

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        out.interior[...] = self.table[inputs[0].interior.astype(np.int64) + 32768]
