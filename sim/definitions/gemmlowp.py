"""The int8 softmax of TensorFlow Lite, tflite-micro and CMSIS-NN: gemmlowp's fixed point, 32 bits throughout.

Q5.26 differences, exponentials Q0.31 by Taylor's polynomial around -1/8 and a barrel of products, sums Q12.19, a reciprocal
by three of Newton's steps.  A fixed-point number is its integer; `high` and `halved` are gemmlowp's two primitives.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from sim.definitions.definition import number
from sim.definitions.integers import Codes, bit_length, row_max, row_sum, select
from sim.definitions.softmax import Softmax
from sim.formats import IntFormat
from sim.kernels.softmax import gemmlowp_row

INT32_MAX = 2**31 - 1
EXP_EIGHTH, THIRD = 1895147668, 715827883
"""e^(-1/8) and 1/3 in Q0.31."""
BARREL = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""e^-1/4, e^-1/2, e^-1, e^-2, e^-4, e^-8, e^-16 in Q0.31."""
NEWTON_FIRST, NEWTON_SLOPE = 1515870810, -1010580540
"""48/17 and -32/17 in Q2.29."""
INTEGER_BITS, SUM_BITS = 5, 12


@dataclass(frozen=True, eq=False, repr=False)
class GemmlowpSoftmax(Softmax):
    """`gemmlowp`: 8-bit codes in; codes of 8 or 16 bits out, whose steps stand for 1 / 2^bits."""

    name: ClassVar[str] = "gemmlowp"
    multiplier: np.ndarray
    left_shift: np.ndarray
    """A difference d of codes is high(d 2^left_shift, multiplier) in Q5.26."""
    least: np.ndarray
    """Differences below this count as none (int64 [1], as the others)."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """TensorFlow Lite's PreprocessSoftmaxScaling and CalculateInputRadius, with beta = 1."""
        cls._require_scale(scale)
        real = min(scale * 2.0 ** (31 - INTEGER_BITS), 2.0**31 - 1.0)
        cls._require(real > 1.0, f"a code stands for {scale:g}, must stand for more than 2^-26")
        fraction, left_shift = math.frexp(real)
        multiplier = math.floor(fraction * 2.0**31 + 0.5)
        if multiplier == 2**31:
            multiplier, left_shift = 2**30, left_shift + 1
        radius = (((1 << INTEGER_BITS) - 1) << (31 - INTEGER_BITS)) >> left_shift
        return cls(source, target, number(multiplier), number(left_shift), number(-radius))

    def output_scale(self, scale: float, step: float = 1.0) -> float | None:
        """1 / 2^bits: the largest probability is clamped to a step below 1."""
        return 0.5**self.target.bits

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        below = x - row_max(x)
        counts = below >= int(self.least[0])
        near = below.clip(int(self.least[0]), 0)
        exponential = _exp(high(near << int(self.left_shift[0]), int(self.multiplier[0])))
        total = row_sum(halved(exponential, SUM_BITS) * counts)
        headroom = 32 - bit_length(total)
        inverse = _one_over_one_plus((total << headroom) - (1 << 31))
        shift = SUM_BITS - headroom + 31 - self.target.bits
        code = _divided(high(inverse, exponential), shift) * counts
        return (code + self.target.min).clip(self.target.min, self.target.max)

    def compiled(self) -> tuple[Any, tuple[Any, ...]]:
        """Exponentials are a table of the distance from the largest code."""
        below = -np.arange(self._span + 1)
        near = below.clip(int(self.least[0]), 0)
        exponentials = _exp(high(near << int(self.left_shift[0]), int(self.multiplier[0]))) * (below == near)
        terms = halved(exponentials, SUM_BITS)
        return gemmlowp_row, (exponentials, terms, self.target.bits, self.target.min, self.target.max)

    def oracle(self, row: list[int]) -> list[int]:
        """The same numbers, one at a time, as TensorFlow Lite's reference kernel goes."""
        kept = [q - max(row) for q in row]
        found = {d: plain_exp(plain_high(d * 2 ** int(self.left_shift[0]), int(self.multiplier[0])))
                 for d in kept if d >= self.least[0]}
        total = sum(plain_halved(found[d], 12) for d in kept if d in found)
        headroom = 32 - total.bit_length()
        inverse = plain_one_over_one_plus(total * 2**headroom - 2**31)
        bits, least = 12 - headroom + 31 - self.target.bits, self.target.min
        return [min(plain_halved(plain_high(inverse, found[d]), bits) + least, self.target.max) if d in found else least
                for d in kept]

    def _check(self, channels: int) -> None:
        self._require(self.source.bits == 8 and self.target.bits in (8, 16),
                      f"codes of 8 bits to 8 or 16 bits, not {self.source} to {self.target}")
        self._require_number("multiplier", 1 << 30, INT32_MAX)
        shift = self._require_number("left_shift", 0, 31)
        least = self._require_number("least", -(1 << 31), 0)
        self._require(-min(-least, self._span) << shift >= -(1 << 31), f"differences from {least} on leave 32 bits")
        self._require(channels < 1 << SUM_BITS, f"sums of {channels} exponentials leave 32 bits")


def high(a: Codes, b: Codes) -> Codes:
    """SaturatingRoundingDoublingHighMul for |a| <= 2^31, |b| < 2^31: (a b + 2^30) >> 31, half up."""
    return (a * b + (1 << 30)) >> 31


def halved(a: Codes, bits: int) -> Codes:
    """RoundingDivideByPOT: a / 2^bits, half away from 0."""
    return _divided(a, a * 0 + bits)


def _divided(a: Codes, bits: Codes) -> Codes:
    """The same with a number of bits for each."""
    one = a * 0 + 1
    return (a + ((one << bits) >> 1) - (a < 0) * (bits > 0) * one) >> bits


def _exp(a: Codes) -> Codes:
    """exp_on_negative_values: Q5.26 from -31 to 0 -> Q0.31."""
    part = (a & ((1 << 24) - 1)) - (1 << 24)
    x = (part << 5) + (1 << 28)
    square = high(x, x)
    sum_of_powers = halved(high(halved(high(square, square), 2) + high(square, x), THIRD) + square, 1)
    result = high(x + sum_of_powers, EXP_EIGHTH) + EXP_EIGHTH
    for bit, factor in enumerate(BARREL, 24):
        result = select(((part - a) >> bit) & 1 == 1, high(result, factor), result)
    return select(a == 0, a * 0 + INT32_MAX, result)


def _one_over_one_plus(a: Codes) -> Codes:
    """one_over_one_plus_x_for_x_in_0_1: Q0.31 -> Q0.31, by Newton's steps on half of 1 + x, in Q2.29."""
    half = (a + INT32_MAX + 1) >> 1  # RoundingHalfSum, half away from 0
    x = high(half, NEWTON_SLOPE) + NEWTON_FIRST
    for _ in range(3):
        rest = (1 << 29) - high(half, x)
        x = _saturated(x + _saturated(high(x, rest) << 2))
    return _saturated(x << 1)


def _saturated(a: Codes) -> Codes:
    """The nearest number of 32 bits."""
    return a.clip(-(1 << 31), INT32_MAX)


# The oracle's: the same of Python's integers, as TensorFlow Lite's reference kernel goes, written apart.

def plain_high(a: int, b: int) -> int:
    """Nudged by half away from 0, then divided toward 0, as the C++ does."""
    product = a * b + (2**30 if a * b >= 0 else 1 - 2**30)
    return product // 2**31 if product >= 0 else -(-product // 2**31)


def plain_halved(a: int, bits: int) -> int:
    """a / 2^bits, half away from 0."""
    return (1 if a >= 0 else -1) * ((2 * abs(a) + 2**bits) // 2 ** (bits + 1))


def plain_exp(a: int) -> int:
    """exp_on_negative_values: Q5.26 -> Q0.31."""
    part = a % 2**24 - 2**24
    x = part * 32 + 2**28
    square = plain_high(x, x)
    inner = plain_halved(plain_high(square, square), 2) + plain_high(square, x)
    result = 1895147668 + plain_high(1895147668, x + plain_halved(plain_high(inner, 715827883) + square, 1))
    for bit, factor in enumerate((1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)):
        if (part - a) // 2 ** (24 + bit) % 2:
            result = plain_high(result, factor)
    return 2**31 - 1 if a == 0 else result


def plain_one_over_one_plus(a: int) -> int:
    """one_over_one_plus_x_for_x_in_0_1: Q0.31 -> Q0.31."""
    def saturated(value: int) -> int:
        return min(max(value, -(2**31)), 2**31 - 1)

    half = (a + 2**31 - 1 + 1) // 2
    x = 1515870810 + plain_high(half, -1010580540)
    for _ in range(3):
        x = saturated(x + saturated(plain_high(x, 2**29 - plain_high(half, x)) * 4))
    return saturated(2 * x)
