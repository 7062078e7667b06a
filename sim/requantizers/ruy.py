"""`ruy`: the doubling high multiply of `double`, then a shift that rounds half up.

    R = (a + 2^(-s - 1)) >> -s for s < 0, else a, with the a of `double`                            ARITHMETIC.md, R3

LiteRT without default delegates rounds so, through ruy's x86 kernels, in convolutions, depthwise and fully connected layers.
"""

from typing import Any

from sim.kernels.jit import inline
from sim.reference import shift_right
from sim.requantizers.double import doubled_high, plain_high
from sim.requantizers.multiplier import MultiplierRule
from sim.requantizers.rule import Own, biased, line_of, plain_biased


class Ruy(MultiplierRule):
    """int64 bias, multiplier, exponent [C]."""

    name = "ruy"
    tile = "ruy"

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        high = plain_high(plain_biased(x, own), own("multiplier"), own("exponent"))
        return shift_right(high, max(-own("exponent"), 0))


@inline
def ruy_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R3."""
    exponent = whole[2, c]
    shift = max(-exponent, 0)
    return (doubled_high(biased(x, whole[0, c], whole[3, c]), whole[1, c], exponent) + ((1 << shift) >> 1)) >> shift


Ruy.line = line_of("ruy", ruy_rule)
