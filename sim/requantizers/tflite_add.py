"""`tflite_add`: TensorFlow Lite's ADD and SUB (tflite-micro and CMSIS-NN, too): both operands on a finer common scale.

    D(x, m) = the rule `double` with multiplier m;  L = 20 (int16: 15);  m_a = s_a / (2 max(s_a, s_b)), m_b the same of s_b,
    m_y = 2 max(s_a, s_b) / (2^L s_y);  R = D(D(a 2^L, m_a) +- D(b 2^L, m_b), m_y)                 ARITHMETIC.md, R11
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.kernels.jit import inline
from sim.requantizers.addition import Addition
from sim.requantizers.double import doubled_high, plain_double, shift_half_away
from sim.requantizers.multiplier import multiplier_of
from sim.requantizers.rule import Domain, Own, line_of

BYTES, WORDS = 20, 15
"""Left shift of operands of 8 bits, and of 16."""


@dataclass(frozen=True, eq=False, repr=False)
class TfliteAdd(Addition):
    """int64 [C] each: `left`, of both operands and the sum a multiplier and an exponent, `sign` (-1: a - b)."""

    name = "tflite_add"
    whole: ClassVar[tuple[str, ...]] = (
        "left", "multiplier_a", "exponent_a", "multiplier_b", "exponent_b", "multiplier", "exponent", "sign")
    domain: ClassVar[Domain] = {"left": (0, 24), "sign": (-1, 1)} | {
        f"{name}{end}": limits for end in ("_a", "_b", "")
        for name, limits in (("multiplier", (0, 2**31 - 1)), ("exponent", (-31, 30)))}
    left: np.ndarray
    multiplier_a: np.ndarray
    exponent_a: np.ndarray
    multiplier_b: np.ndarray
    exponent_b: np.ndarray
    multiplier: np.ndarray
    exponent: np.ndarray
    sign: np.ndarray

    @classmethod
    def from_scales(  # type: ignore[override]
            cls, a: Any, b: Any, target: Any, channels: int, sign: int = 1, left: int = BYTES) -> "TfliteAdd":
        """Of float32 scales; everything behind them is float64."""
        first, second, out = (float(np.float32(scale)) for scale in (a, b, target))
        twice = 2.0 * max(first, second)
        numbers = [left]
        for real in (first / twice, second / twice, twice / (2.0**left * out)):
            numbers += multiplier_of(real, cls.name)
        return cls(*(np.full(channels, number, np.int64) for number in (*numbers, sign)))

    @classmethod
    def joined(cls, x: int, skip: int | None, own: Own, other: Own) -> int:
        """The rule in plain Python integers."""
        a = plain_double(x * 2 ** own("left"), own("multiplier_a"), own("exponent_a"))
        b = plain_double((skip or 0) * 2 ** own("left"), own("multiplier_b"), own("exponent_b"))
        return plain_double(a + own("sign") * b, own("multiplier"), own("exponent"))


@inline
def twice_rounded(x: Any, multiplier: Any, exponent: Any) -> Any:
    """The rule `double` without a bias."""
    return shift_half_away(doubled_high(x, multiplier, exponent), max(-exponent, 0))


@inline
def tflite_add_rule(x: Any, more: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R11."""
    a = twice_rounded(x << whole[0, c], whole[1, c], whole[2, c])
    b = twice_rounded(more << whole[0, c], whole[3, c], whole[4, c])
    return twice_rounded(a + whole[7, c] * b, whole[5, c], whole[6, c])


TfliteAdd.line = line_of("tflite_add", tflite_add_rule, operands=2)
