"""`exact_add`: integers as they are.  R = sum + bias + sign * residual; without a residual, wide sums go out unchanged.

ARITHMETIC.md, R10.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.requantizers.requantizer import Affine, RequantizeError
from sim.requantizers.rule import Domain, Own, Rule, line_of


@dataclass(frozen=True, eq=False, repr=False)
class ExactAdd(Rule):
    """int64 `bias` [C], `sign` [C] (1 or -1: of the residual)."""

    name = "exact_add"
    whole: ClassVar[tuple[str, ...]] = ("bias", "sign")
    domain: ClassVar[Domain] = {"sign": (-1, 1)}
    bias: np.ndarray
    sign: np.ndarray

    @classmethod
    def of(cls, channels: int, sign: int = 1, bias: np.ndarray | None = None) -> "ExactAdd":
        """The sum, or the difference, of two operands; of one operand the identity."""
        return cls(np.zeros(channels, np.int64) if bias is None else np.asarray(bias, np.int64),
                   np.full(channels, sign, np.int64))

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "ExactAdd":
        """An affine of gains 1 and an integer offset; it can scale nothing."""
        skip = 1.0 if affine.skip_gain is None else affine.skip_gain
        if (affine.gain != 1.0).any() or abs(skip) != 1.0 or (affine.offset != np.rint(affine.offset)).any():
            raise RequantizeError("exact_add scales nothing: it takes operands of the output's scale and integer offsets")
        return cls.of(len(affine.gain), round(skip), affine.offset)

    @classmethod
    def joined(cls, x: int, skip: int | None, own: Own, other: Own) -> int:
        """The rule in plain Python integers."""
        return x + int(own("bias")) + int(own("sign")) * (skip or 0)


@inline
def exact_add_rule(x: Any, more: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R10."""
    return x + whole[0, c] + whole[1, c] * more


ExactAdd.line = line_of("exact_add", exact_add_rule, operands=2)
