"""An own requantizer: fixed point with one shift for a layer, rounded once, half up.

    python -m sim.eval --model ckpt.pt --requant examples/my_requantizer.py:FixedPoint

    code = clamp((sum * multiplier + residual * more + offset) >> shift)

A rule is a compiled function of one sum, constants of an affine, and the same function in plain Python integers, against
which it is checked; the loops over tensors are the project's.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.requantizers import Affine, Rule
from sim.requantizers.requantizer import RequantizeError
from sim.requantizers.rule import line_of

FRACTION_BITS = 32
MOST = 2.0**61
"""No sum of products comes near the end of 64 bits."""


@inline
def fixed_point(x: Any, residual: Any, whole: Any, real: Any, c: Any) -> Any:
    """The rule of channel c: row k of `whole` is the k-th field; a residual that there is not is 0."""
    return (x * whole[0, c] + residual * whole[1, c] + whole[2, c]) >> whole[3, c]


@dataclass(frozen=True, eq=False, repr=False)
class FixedPoint(Rule):
    """int64 [C] each; `offset` holds the half that rounds."""

    name: ClassVar[str] = "fixed_point"
    line = line_of("fixed_point", fixed_point, operands=2)
    whole = ("multiplier", "more", "offset", "shift")
    domain: ClassVar = {"more": (0, 2**45), "shift": (1, 62)}
    multiplier: np.ndarray
    more: np.ndarray
    offset: np.ndarray
    shift: np.ndarray

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "FixedPoint":
        """The nearest integers; as many bits of fraction as 64 bits allow, FRACTION_BITS at most."""
        reach, skip_gain = max(map(abs, affine.bounds)), affine.skip_gain or 0.0
        largest = float((np.abs(affine.gain) * reach + np.abs(affine.offset)).max()) + skip_gain * affine.skip_max + 1.0
        shift = min(FRACTION_BITS, math.frexp(MOST / largest)[1] - 1, 44 - math.frexp(skip_gain)[1])
        if shift < 1 or reach * 2.0**-shift > 0.25:
            raise RequantizeError(f"a layer of up to {largest:g} codes is too large for fixed_point")
        multiplier, offset = (np.rint(numbers * 2.0**shift).astype(np.int64) for numbers in (affine.gain, affine.offset))
        more, shifts = (np.full_like(multiplier, number) for number in (round(skip_gain * 2.0**shift), shift))
        return cls(multiplier, more, offset + (1 << (shift - 1)), shifts)

    def check(self, channels: int, reach: int) -> None:
        """Types, shapes, domain, and that no sum up to `reach` leaves 64 bits: a program file may say anything."""
        super().check(channels, reach)
        most = np.abs(self.multiplier.astype(np.float64)).max() * reach + np.abs(self.offset.astype(np.float64)).max()
        if most > MOST * 1.25:
            raise RequantizeError("fixed_point: these numbers can leave 64 bits")

    @classmethod
    def joined(cls, x: int, skip: int | None, own: Any, other: Any) -> int:
        """The rule in plain Python integers."""
        return (x * own("multiplier") + (skip or 0) * own("more") + own("offset")) >> own("shift")
