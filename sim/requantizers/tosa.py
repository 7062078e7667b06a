"""`tosa_single` and `tosa_double`: TOSA's RESCALE with SINGLE_ROUND and DOUBLE_ROUND.

    v = sum + bias;  R = (v M + 2^(t - 1) [double and t > 31: + 2^30 if v >= 0 else - 2^30]) >> t    ARITHMETIC.md, R7

A multiplier has 32 bits or, of 48-bit values, 16; t is from 2 to 62.  INEXACT_ROUND is implementation-defined and not here.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sim.kernels.jit import inline
from sim.reference import shift_right
from sim.requantizers.multiplier import FULL, INT32, multiplier_of
from sim.requantizers.requantizer import RequantizeError
from sim.requantizers.rule import Domain, Own, ScalingRule, columns, line_of, none


@dataclass(frozen=True, eq=False, repr=False)
class TosaSingle(ScalingRule):
    """int64 `bias`, `multiplier`, `shift` [C]; for the residual `skip_multiplier`, `skip_shift` [1]."""

    name = "tosa_single"
    whole: ClassVar[tuple[str, ...]] = ("bias", "multiplier", "shift", "fraction")
    domain: ClassVar[Domain] = {"multiplier": INT32, "shift": (2, 62)}
    bits: ClassVar[int] = FULL
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    skip_multiplier: np.ndarray = field(default_factory=none)
    skip_shift: np.ndarray = field(default_factory=lambda: np.array([2], np.int64))
    fraction: np.ndarray = field(default_factory=none)

    @classmethod
    def constants(cls, reals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest multipliers; as TOSA's converters make them, with few bits where the shift would be above 62."""
        multiplier, exponent = columns(multiplier_of(float(real), cls.name, cls.bits, (-62, 29)) for real in reals)
        shift = FULL - exponent
        return multiplier >> np.maximum(shift - 62, 0), np.minimum(shift, 62)

    def check(self, channels: int, reach: int) -> None:
        """And no product beyond 63 bits."""
        super().check(channels, reach)
        if int(np.abs(self.multiplier).max()) * ((reach << int(self.fraction[0])) + int(np.abs(self.bias).max())) >= 2**62:
            raise RequantizeError(f"{self.name}: sums up to {reach} leave 63 bits when they are multiplied")

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        return shift_right((x * 2 ** own("fraction") + own("bias")) * own("multiplier"), own("shift"))


class TosaDouble(TosaSingle):
    """The same fields; rounded twice where the shift is above 31."""

    name = "tosa_double"

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        value, shift = x * 2 ** own("fraction") + own("bias"), own("shift")
        half = 2 ** (shift - 1)
        if shift > 31:
            half += 2**30 if value >= 0 else -(2**30)
        return (value * own("multiplier") + half) // 2**shift


@inline
def single_round(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R7, once."""
    shift = whole[2, c]
    return (((x << whole[3, c]) + whole[0, c]) * whole[1, c] + ((1 << shift) >> 1)) >> shift


@inline
def double_round(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R7, twice."""
    value, shift = (x << whole[3, c]) + whole[0, c], whole[2, c]
    nudge = (2 * (value >= 0) - 1) * (2**30 * (shift > 31))
    return (value * whole[1, c] + ((1 << shift) >> 1) + nudge) >> shift


TosaSingle.line = line_of("tosa_single", single_round)
TosaDouble.line = line_of("tosa_double", double_round)
