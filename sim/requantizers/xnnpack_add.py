"""`xnnpack_add`: XNNPACK's addition and subtraction, one integer sum and one shift, half up.

    r_a = f32(s_a / s_y), r_b = f32(s_b / s_y); h = 20 - floor(log2 max(r_a, r_b)); m = rint(r 2^h)
    R = (a m_a +- b m_b + 2^(h - 1)) >> h                                                           ARITHMETIC.md, R12
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.kernels.jit import inline
from sim.reference import shift_right
from sim.requantizers.addition import Addition, ratios
from sim.requantizers.requantizer import RequantizeError
from sim.requantizers.rule import Domain, Own, line_of


@dataclass(frozen=True, eq=False, repr=False)
class XnnpackAdd(Addition):
    """int64 [C] each: `multiplier_a`, `multiplier_b` (negative: a - b), `shift`."""

    name = "xnnpack_add"
    whole: ClassVar[tuple[str, ...]] = ("multiplier_a", "multiplier_b", "shift")
    domain: ClassVar[Domain] = {"multiplier_a": (-(2**22), 2**22), "multiplier_b": (-(2**22), 2**22), "shift": (1, 31)}
    multiplier_a: np.ndarray
    multiplier_b: np.ndarray
    shift: np.ndarray

    @classmethod
    def from_scales(  # type: ignore[override]
            cls, a: Any, b: Any, target: Any, channels: int, sign: int = 1) -> "XnnpackAdd":
        """Of float32 scales.  XNNPACK takes ratios from 2^-10 to below 2^8."""
        both = [float(ratio) for ratio in ratios(a, b, target)]
        if not all(2.0**-10 <= ratio < 2.0**8 for ratio in both):
            raise RequantizeError(f"{cls.name}: operands' scales are {both[0]:g} and {both[1]:g} times the output's, "
                                  "from 2^-10 to below 2^8 are allowed")
        shift = 20 - (math.frexp(max(both))[1] - 1)
        first, second = (round(math.ldexp(ratio, shift)) for ratio in both)
        return cls(*(np.full(channels, number, np.int64) for number in (first, sign * second, shift)))

    def in_words(self, reach: int) -> tuple[Callable[..., Any], tuple[np.int32, ...]] | None:
        """XNNPACK's own: 255 2 2^21 and half a code, of a shift of up to 30, are below 2^31."""
        a, b, shift = (array[0] for array in (self.multiplier_a, self.multiplier_b, self.shift))
        half = 1 << int(shift) >> 1
        is_one = all((array == array[0]).all() for array in self.arrays().values())
        if not is_one or reach * (abs(int(a)) + abs(int(b))) + half >= 2**31:
            return None
        return xnnpack_add_words, (np.int32(a), np.int32(b), np.int32(half), np.int32(shift))

    @classmethod
    def joined(cls, x: int, skip: int | None, own: Own, other: Own) -> int:
        """The rule in plain Python integers."""
        total = x * own("multiplier_a") + (skip or 0) * own("multiplier_b")
        return shift_right(total, own("shift"))


@inline
def xnnpack_add_rule(x: Any, more: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R12."""
    shift = whole[2, c]
    return (x * whole[0, c] + more * whole[1, c] + ((1 << shift) >> 1)) >> shift


@inline
def xnnpack_add_words(x: Any, more: Any, constants: Any) -> Any:
    """The same in 32 bits: a shift below 32 that LLVM can see."""
    a, b, half, shift = constants
    total = np.int32(np.int32(np.int32(x * a) + np.int32(more * b)) + half)
    return np.int32(total >> (shift & np.int32(31)))


XnnpackAdd.line = line_of("xnnpack_add", xnnpack_add_rule, operands=2)
