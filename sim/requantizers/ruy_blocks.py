"""`ruy_blocks`: `ruy` where LiteRT's vector loops run, `double` in the channels that are left over.

    R = `ruy` for channels below C // B B, `double` for the rest; B = 8 in depthwise convolutions, 16 in means

Of LiteRT without default delegates on x86 with one thread: those loops take whole blocks of channels and shift half up, the
loop for the rest shifts half away from 0.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from sim.kernels.jit import inline
from sim.requantizers.double import Double, doubled_high, shift_half_away
from sim.requantizers.multiplier import MultiplierRule
from sim.requantizers.rule import Domain, Own, biased, line_of, none
from sim.requantizers.ruy import Ruy

DEPTHWISE, MEAN = 8, 16
"""Channels of a block."""


@dataclass(frozen=True, eq=False, repr=False)
class RuyBlocks(MultiplierRule):
    """int64 bias, multiplier, exponent [C], and `away` [C]: 1 where the shift rounds half away from 0, else 0."""

    name = "ruy_blocks"
    whole: ClassVar[tuple[str, ...]] = ("bias", "multiplier", "exponent", "fraction", "away")
    domain: ClassVar[Domain] = {**MultiplierRule.domain, "away": (0, 1)}
    away: np.ndarray = field(default_factory=none)

    @classmethod
    def from_real(cls, real: np.ndarray, bias: np.ndarray, block: int = DEPTHWISE) -> "RuyBlocks":
        """Multipliers as those of `ruy`; which channels are left over follows from their number."""
        return replace(super().from_real(real, bias), away=_left_over(np.size(real), block))

    @classmethod
    def build(cls, affine: Any, target: Any) -> "RuyBlocks":
        """As `from_real` has it, of the integers that `ruy` has."""
        plain = Ruy.build(affine, target)
        return cls(**plain.arrays(), away=_left_over(len(plain.bias), DEPTHWISE))

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        return (Double if own("away") else Ruy).scaled(x, own)


def _left_over(channels: int, block: int) -> np.ndarray:
    """1 for channels behind the last whole block."""
    return (np.arange(channels) >= channels // block * block).astype(np.int64)


@inline
def ruy_blocks_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R3, and R1 for the rest."""
    exponent = whole[2, c]
    high, shift = doubled_high(biased(x, whole[0, c], whole[3, c]), whole[1, c], exponent), max(-exponent, 0)
    if whole[4, c]:
        return shift_half_away(high, shift)
    return (high + ((1 << shift) >> 1)) >> shift


RuyBlocks.line = line_of("ruy_blocks", ruy_blocks_rule)
"""Its residual, of which there is one constant each, is `ruy`'s."""
