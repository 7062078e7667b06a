"""`single`: one rounding, half up.  LiteRT's BUILTIN_REF has it for fully connected layers, TOSA as SINGLE_ROUND.

    x = w32(sum 2^f + bias);  R = (x M + 2^(30 - s)) >> (31 - s)                                    ARITHMETIC.md, R2
"""

from typing import Any

import numpy as np

from sim.kernels.jit import inline
from sim.reference import shift_right
from sim.requantizers.multiplier import MultiplierRule
from sim.requantizers.rule import Own, biased, line_of, plain_biased


class Single(MultiplierRule):
    """int64 bias, multiplier, exponent [C]."""

    name = "single"
    tile = "single"

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        return shift_right(plain_biased(x, own) * own("multiplier"), 31 - own("exponent"))

    @classmethod
    def _shifts(cls, exponent: np.ndarray) -> tuple[np.ndarray, ...]:
        """One, to the right."""
        return (31 - exponent,)

    def check_reach(self, reach: int, skip_max: int) -> None:
        """Nothing is shifted to the left."""


@inline
def single_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R2."""
    shift = 31 - whole[2, c]
    return (biased(x, whole[0, c], whole[3, c]) * whole[1, c] + ((1 << shift) >> 1)) >> shift


Single.line = line_of("single", single_rule)
