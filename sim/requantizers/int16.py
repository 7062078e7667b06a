"""`int16`: 16-bit activations with a 64-bit bias.  A multiplier of 16 bits, rounded once, half up.

    x = sum + bias;  M' = (M + 2^15) >> 16, at most 2^15 - 1;  R = (x M' + 2^(14 - s)) >> (15 - s)  ARITHMETIC.md, R4

CMSIS-NN and TensorFlow Lite (int64 overload of MultiplyByQuantizedMultiplier).  `multiplier` holds M' of 16 bits.
"""

from typing import Any, ClassVar

import numpy as np

from sim.kernels.jit import inline
from sim.reference import shift_right
from sim.requantizers.multiplier import MultiplierRule
from sim.requantizers.requantizer import RequantizeError
from sim.requantizers.rule import Domain, Own, line_of

REACH = 2**47
"""TensorFlow Lite asserts that no sum gets so far."""


class Int16(MultiplierRule):
    """int64 bias, multiplier (of 16 bits), exponent [C]."""

    name = "int16"
    domain: ClassVar[Domain] = {"bias": (-REACH, REACH), "multiplier": (-(2**15), 2**15 - 1), "exponent": (-31, 7)}

    @classmethod
    def reduced(cls, bias: np.ndarray, multiplier: np.ndarray, exponent: np.ndarray) -> "Int16":
        """Of multipliers with 31 bits, as files and golden data hold them: int64 [C] each."""
        return cls(np.asarray(bias, np.int64), _reduced(np.asarray(multiplier, np.int64)), np.asarray(exponent, np.int64))

    @classmethod
    def constants(cls, reals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of 16 bits."""
        multipliers, exponents = super().constants(reals)
        return _reduced(multipliers), exponents

    def check_reach(self, reach: int, skip_max: int) -> None:
        """Nothing is shifted to the left."""

    def check(self, channels: int, reach: int) -> None:
        """And no sum beyond what its owners assert."""
        super().check(channels, reach)
        if (reach << int(self.fraction[0])) + int(np.abs(self.bias).max()) >= REACH:
            raise RequantizeError(f"int16: sums up to {reach} with a bias up to {np.abs(self.bias).max()} leave 48 bits")

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        return shift_right((x * 2 ** own("fraction") + own("bias")) * own("multiplier"), 15 - own("exponent"))


def _reduced(multiplier: np.ndarray) -> np.ndarray:
    """The upper 16 bits, half up, the largest where that is one more."""
    sixteen: np.ndarray = np.sign(multiplier) * np.minimum((np.abs(multiplier) + 2**15) >> 16, 0x7FFF)
    return sixteen


@inline
def int16_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R4."""
    shift = 15 - whole[2, c]
    return (((x << whole[3, c]) + whole[0, c]) * whole[1, c] + ((1 << shift) >> 1)) >> shift


Int16.line = line_of("int16", int16_rule)
