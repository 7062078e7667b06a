"""Zero points in steps: how codes are read less theirs, and how a requantizer's results get that of the output.

    code = clamp(R(sum) + z, lo, hi) = clamp(R(sum), lo - z, hi - z) + z

The right side is what runs: limits are constants of a line, and z is added to codes where they are
stored, modulo their storage.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.formats import IntFormat
from sim.ops.op import Op, format_of
from sim.requantizers.requantizer import Requantizer, repeat_of

Place = tuple[int, np.int32, np.int32]
"""The border of a tensor, the sign bit of its codes (0: unsigned) and what is taken from them: sign bit and zero point."""


@dataclass(frozen=True, repr=False)
class Shifted(IntFormat):
    """The codes of a format less `zero`: limits of a requantizer to whose results it is added."""

    zero: int = field(default=0, kw_only=True)

    @property
    def min(self) -> int:
        """Smallest code less the zero point."""
        return super().min - self.zero

    @property
    def max(self) -> int:
        """Largest code less the zero point."""
        return super().max - self.zero

    @property
    def dtype(self) -> np.dtype:
        """Where the codes are stored, not what is in between."""
        return IntFormat(self.bits, self.signed, self.narrow).dtype


def shifted(op: Op) -> IntFormat:
    """The limits of an operation's requantizer: those of its format where its zero point is 0."""
    form = format_of(op)
    return Shifted(form.bits, form.signed, form.narrow, zero=op.zero_point) if op.zero_point else form


def place_of(x: Padded, zero: int) -> Place:
    """How a kernel reads codes as integers less their zero point: (unsigned ^ sign) - the last."""
    sign = 1 << (8 * x.array.itemsize - 1) if x.array.dtype.kind == "i" else 0
    return x.pad, np.int32(sign), np.int32(sign + zero)


def ending(op: Op, requant: Requantizer) -> tuple[tuple[Any, ...], int, np.int32]:
    """What kernels/elementwise.py wants at a line's end: constants, neighboring pixels they are for, the zero point."""
    repeat = repeat_of(op.shape[1], op.shape[2])
    return requant.line_arguments(shifted(op), repeat), repeat, np.int32(op.zero_point)
