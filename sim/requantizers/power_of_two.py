"""`power_of_two` and `rshift_floor`: a shift and nothing else, half up and floor.

    x = sign (sum + bias)
    power_of_two   R = (x + 2^(-e - 1)) >> -e for e < 0, else x 2^e;     rshift_floor   R = x >> -e for e < 0, else x 2^e

ARITHMETIC.md, R8.  A gain is the power of 2 nearest to it, by its logarithm: codes are near the float model's only where a
network was trained for that.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sim.kernels.jit import inline
from sim.reference import shift_right
from sim.requantizers.requantizer import RequantizeError
from sim.requantizers.rule import Domain, Own, ScalingRule, line_of, none


@dataclass(frozen=True, eq=False, repr=False)
class PowerOfTwo(ScalingRule):
    """int64 `bias`, `sign` (1, -1, or 0 for nothing), `exponent` [C]; for the residual `skip_sign`, `skip_exponent` [1]."""

    name = "power_of_two"
    whole: ClassVar[tuple[str, ...]] = ("bias", "sign", "exponent", "fraction")
    domain: ClassVar[Domain] = {"sign": (-1, 1), "exponent": (-62, 30)}
    bias: np.ndarray
    sign: np.ndarray
    exponent: np.ndarray
    skip_sign: np.ndarray = field(default_factory=none)
    skip_exponent: np.ndarray = field(default_factory=none)
    fraction: np.ndarray = field(default_factory=none)

    @classmethod
    def of(cls, exponent: np.ndarray, bias: np.ndarray | None = None) -> "PowerOfTwo":
        """Of exponents int64 [C] from a file, negative ones shift to the right."""
        exponents = np.asarray(exponent, np.int64)
        zeros = np.zeros_like(exponents)
        return cls(zeros if bias is None else np.asarray(bias, np.int64), np.ones_like(exponents), exponents)

    @classmethod
    def constants(cls, reals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest powers of two; a bias stays what the offset is worth in units of the sum at the exact gain."""
        exponents = [round(math.log2(abs(real))) if real else 0 for real in reals.tolist()]
        if max(exponents) > cls.domain["exponent"][1]:
            raise RequantizeError(f"{cls.name}: a gain of 2^{max(exponents)} is too large")
        signs = np.sign(reals).astype(np.int64)
        return signs, np.maximum(np.array(exponents, np.int64), -62)

    def check(self, channels: int, reach: int) -> None:
        """And no sum beyond 63 bits."""
        super().check(channels, reach)
        if ((reach << int(self.fraction[0])) + int(np.abs(self.bias).max())) << max(int(self.exponent.max()), 0) >= 2**62:
            raise RequantizeError(f"{self.name}: sums up to {reach} leave 63 bits when they are shifted")

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        left, right = max(own("exponent"), 0), max(-own("exponent"), 0)
        return shift_right(own("sign") * (x * 2 ** own("fraction") + own("bias")) * 2**left, right)


class RshiftFloor(PowerOfTwo):
    """The same fields; floor."""

    name = "rshift_floor"

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        left, right = max(own("exponent"), 0), max(-own("exponent"), 0)
        return own("sign") * (x * 2 ** own("fraction") + own("bias")) * 2**left // 2**right


@inline
def power_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R8, half up."""
    exponent = whole[2, c]
    shift = max(-exponent, 0)
    return ((whole[1, c] * ((x << whole[3, c]) + whole[0, c]) << max(exponent, 0)) + ((1 << shift) >> 1)) >> shift


@inline
def shift_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R8, floor."""
    exponent = whole[2, c]
    return (whole[1, c] * ((x << whole[3, c]) + whole[0, c]) << max(exponent, 0)) >> max(-exponent, 0)


PowerOfTwo.line = line_of("power_of_two", power_rule)
RshiftFloor.line = line_of("rshift_floor", shift_rule)
