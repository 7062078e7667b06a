"""`double`: gemmlowp's two roundings.  A doubling high multiply, half up, then a shift, half away from zero.

    x = w32(sum 2^f + bias);  a = sat32((x 2^max(s, 0) M + 2^30) >> 31);  R = a / 2^max(-s, 0), half away   ARITHMETIC.md, R1

CMSIS-NN, tflite-micro, Arm's TOSA model of converted .tflite files, and LiteRT's BUILTIN_REF for convolutions round so.
x and its left shift are of 32 bits and wrap, as compiled C does; only -2^31 times -2^31 saturates.
"""

from typing import Any

from sim.kernels.jit import inline
from sim.reference import shift_right
from sim.requantizers.multiplier import MultiplierRule
from sim.requantizers.rule import Own, biased, line_of, plain_biased, plain_wrap32, wrap32


class Double(MultiplierRule):
    """int64 bias, multiplier, exponent [C]."""

    name = "double"
    tile = "double"

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        return plain_double(plain_biased(x, own), own("multiplier"), own("exponent"))


def plain_high(x: int, multiplier: int, exponent: int) -> int:
    """`doubled_high` of oracles, in plain Python integers."""
    return min(shift_right(plain_wrap32(x * 2 ** max(exponent, 0)) * multiplier, 31), 2**31 - 1)


def plain_double(x: int, multiplier: int, exponent: int) -> int:
    """Equation R1 behind its bias, in plain Python integers."""
    high = plain_high(x, multiplier, exponent)
    magnitude = shift_right(abs(high), max(-exponent, 0))
    return magnitude if high >= 0 else -magnitude


@inline
def doubled_high(x: Any, multiplier: Any, exponent: Any) -> Any:
    """The upper half of twice a product of 32-bit numbers, half up."""
    shifted = wrap32(x << max(exponent, 0))
    return min((shifted * multiplier + 2**30) >> 31, 2**31 - 1)


@inline
def shift_half_away(x: Any, shift: Any) -> Any:
    """x / 2^shift, half away from zero; shift >= 0, |x| < 2^62."""
    half = (1 << shift) >> 1
    return (x + half - (half > 0) * (x < 0)) >> shift


@inline
def double_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R1."""
    exponent = whole[2, c]
    high = doubled_high(biased(x, whole[0, c], whole[3, c]), whole[1, c], exponent)
    return shift_half_away(high, max(-exponent, 0))


Double.line = line_of("double", double_rule)
