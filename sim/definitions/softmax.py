"""Softmax in integers: BitTrue's own, I-BERT's as Deeploy has it, and FQ-ViT's, whose codes are exponents."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Self

import numpy as np

from sim.definitions.definition import INT64, Definition, number
from sim.definitions.integers import Codes, bit_length, row_max, row_sum, select, take
from sim.formats import IntFormat
from sim.functions import exp

EXP_BITS = 16
"""Fractional bits of the exact softmax's exponentials."""
LN2 = 0.6931471805599453


class Softmax(Definition):
    """Codes of target.min stand for 0, a step for 1 / (2^bits - 1), so that the largest code stands for 1."""

    kind: ClassVar[str] = "softmax"

    def check(self, channels: int) -> None:
        """As every definition; and its codes take the whole format, which a narrow one would not hold."""
        self._require(not self.target.narrow, f"its codes take all of a format, {self.target} lacks the smallest")
        super().check(channels)

    def output_scale(self, scale: float, step: float = 1.0) -> float | None:
        """1 / (2^bits - 1)."""
        return 1.0 / self._levels

    @property
    def zero(self) -> int:
        """The smallest code."""
        return self.target.min

    @property
    def _levels(self) -> int:
        """Steps from 0 to 1."""
        return (1 << self.target.bits) - 1


@dataclass(frozen=True, eq=False, repr=False)
class ExactSoftmax(Softmax):
    """`exact`: softmax of a table of exponentials in 16 fractional bits, rounded once, half up.

    m = max q; E = table[m - q]; S = sum E; code = floor((2 E L + S) / (2 S)) + target.min with L = 2^bits - 1.
    """

    name: ClassVar[str] = "exact"
    table: np.ndarray
    """int64 [largest - smallest code + 1]: rhe(2^16 e^(-d scale)) for differences d from 0 on."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """The table of `scale`."""
        cls._require_scale(scale)
        cls._require(source.bits <= 16, f"{source} would need a table of 2^{source.bits} entries, at most 2^16 are made")
        below = np.arange(source.max - source.min + 1, dtype=np.float64) * -scale
        return cls(source, target, np.rint(exp(below) * 2.0**EXP_BITS).astype(np.int64))

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        exponential = take(self.table, row_max(x) - x)
        total = row_sum(exponential)
        return (exponential * (2 * self._levels) + total) // (total * 2) + self.target.min

    def oracle(self, row: list[int]) -> list[int]:
        """The nearest fraction, ties up."""
        values = [int(self.table[max(row) - q]) for q in row]
        top = 2**self.target.bits - 1
        return [math.floor(Fraction(e * top, sum(values)) + Fraction(1, 2)) + self.target.min for e in values]

    def _check(self, channels: int) -> None:
        self._require(self.source.bits <= 16, f"codes of {self.source}, of at most 16 bits")
        self._require_arrays("int64", (self._span + 1,), "table")
        self._require(self.table[0] == 1 << EXP_BITS and (np.diff(self.table) <= 0).all() and self.table[-1] >= 0,
                      f"the table must fall from 2^{EXP_BITS} at 0 and nowhere below 0")
        self._require((2 * self._levels + channels) << EXP_BITS < INT64 and channels << (EXP_BITS + 1) < INT64,
                      f"{channels} codes to {self.target} leave 64 bits")


@dataclass(frozen=True, eq=False, repr=False)
class IbertSoftmax(Softmax):
    """`ibert`: a parabola for e^x on (-ln 2, 0] and shifts (Kim et al. 2021, arXiv 2101.01321), as in Deeploy's iSoftmax.

    t = q - max q; z = floor(-t / log2); p = t + z log2; y = (a (p + b)^2 + c) >> z;
    code = floor(y (2^bits - 1) / sum y) + target.min.  Deeploy's C holds z in 8 bits and y in 32: equal while both fit.
    """

    name: ClassVar[str] = "ibert"
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    log2: np.ndarray
    """Four integers, int64 [1] each."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """I-BERT's 0.3585 (p + 1.353)^2 + 0.344, each constant rounded down in units of `scale`."""
        cls._require_scale(scale)
        cls._require(2.0**-24 <= scale <= LN2, f"a code stands for {scale:g}, must stand for 2^-24 to ln 2")
        b, c, log2 = math.floor(1.353 / scale), math.floor(0.344 / (0.3585 * scale * scale)), math.floor(LN2 / scale)
        return cls(source, target, number(1), number(b), number(c), number(log2))

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        a, b, c, log2 = (int(array[0]) for array in (self.a, self.b, self.c, self.log2))
        below = row_max(x) - x
        halvings = below // log2
        offset = halvings * log2 - below + b
        y = (offset * offset * a + c) >> halvings.clip(0, 63)
        return y * self._levels // row_sum(y) + self.target.min

    def oracle(self, row: list[int]) -> list[int]:
        """One parabola at a time."""
        largest, log2, y = max(row), int(self.log2[0]), []
        for q in row:
            z, rest = divmod(largest - q, log2)
            y.append((int(self.a[0]) * (int(self.b[0]) - rest) ** 2 + int(self.c[0])) // 2**z)
        return [value * (2**self.target.bits - 1) // sum(y) - (2 ** (self.target.bits - 1) if self.target.signed else 0)
                for value in y]

    def _check(self, channels: int) -> None:
        a, b = self._require_number("a", 0, 1 << 30), self._require_number("b", 0, 1 << 30)
        c, log2 = self._require_number("c", 0, 1 << 60), self._require_number("log2", 1, 1 << 30)
        self._require(a * b * b + c > 0, "the exponential of 0 is 0")
        most = a * max(b, log2) ** 2 + c
        self._require(most * max(self._levels, channels) < INT64,
                      f"exponentials up to {most} of {channels} codes to {self.target} leave 64 bits")


@dataclass(frozen=True, eq=False, repr=False)
class Log2Softmax(Softmax):
    """`log2` (Lin et al. 2022, FQ-ViT, arXiv 2111.13824): codes are exponents, -log2 of the probability, rounded.

    I-BERT's i-exp: q = max(q - max q, 30 x0) with x0 < 0; z = floor(q / x0); r = q - x0 z;
    E = max(((r + b) r + c) 2^(30 - z), 0); v = S / E rounded half to even; n = floor(log2 v); code = n, or n + 1 if
    v >= 1.5 2^n; the largest code if E = 0.  The paper's program computes S / E in float32, which this does exactly, and
    takes probabilities that would need a larger code for 0, which a code cannot say: here they are the largest code.
    """

    name: ClassVar[str] = "log2"
    SHIFT: ClassVar[int] = 30
    MOST_BITS: ClassVar[int] = 8
    b: np.ndarray
    c: np.ndarray
    x0: np.ndarray
    """Three integers, int64 [1] each; x0 < 0."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """I-BERT's 0.35815147 x^2 + 0.96963238 x + 1 in units of `scale`, rounded down."""
        cls._require_scale(scale)
        cls._require(2.0**-12 <= scale <= 0.6931, f"a code stands for {scale:g}, must stand for 2^-12 to 0.6931")
        b = math.floor(0.96963238 / 0.35815147 / scale)
        c = math.floor(1.0 / 0.35815147 / (scale * scale))
        return cls(source, target, number(b), number(c), number(math.floor(-0.6931 / scale)))

    def output_scale(self, scale: float, step: float = 1.0) -> None:
        """Codes are exponents: code n stands for 2^-n."""

    @property
    def zero(self) -> int:
        """No code stands for 0; the largest is what is nearest."""
        return self.target.max

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        b, c, x0 = int(self.b[0]), int(self.c[0]), int(self.x0[0])
        q = (x - row_max(x)).clip(self.SHIFT * x0, 0)
        z = q // x0
        r = q - z * x0
        e = (((r + b) * r + c) << (self.SHIFT - z)).clip(0, None)
        total, divisor = row_sum(e), e.clip(1, None)
        v, rest = total // divisor, total % divisor
        v = v + ((rest > divisor - rest) | ((rest == divisor - rest) & (v % 2 == 1)))
        n = bit_length(v) - 1
        power = (n * 0 + 1) << n
        code = (n + ((v - power) * 2 >= power) * (n > 0)).clip(0, self.target.max)
        return select(e > 0, code, code * 0 + self.target.max)

    def oracle(self, row: list[int]) -> list[int]:
        """Fractions and their rounding."""
        b, c, x0 = int(self.b[0]), int(self.c[0]), int(self.x0[0])
        values = []
        for code in row:
            z, r = divmod(min(max(row) - code, -30 * x0), -x0)
            values.append(max((r * r - b * r + c) * 2**30 // 2**z, 0))
        found = []
        for e in values:
            v = round(Fraction(sum(values), e)) if e else 0
            n = next(n for n in range(64) if 2 * v < 3 * 2**n)  # 1.5 2^(n-1) <= v < 1.5 2^n
            found.append(min(n, self.target.max) if e else self.target.max)
        return found

    def _check(self, channels: int) -> None:
        b, c = self._require_number("b", 0, 1 << 30), self._require_number("c", 1, 1 << 30)
        x0 = self._require_number("x0", -(1 << 30), -1)
        self._require(not self.target.signed and self.target.bits <= self.MOST_BITS,
                      f"codes are unsigned of at most {self.MOST_BITS} bits, not {self.target}")
        most = c + x0 * x0 + b * -x0
        self._require(most * channels << self.SHIFT < INT64 // 2,
                      f"exponentials up to {most} 2^30 of {channels} codes leave 64 bits")


@dataclass(frozen=True, eq=False, repr=False)
class ShiftSoftmax(Log2Softmax):
    """`log2shift`: the powers of 2 that the exponents n of `log2` stand for, as codes that a product takes.

    code = 2^(bits - 1 - n), and 0 from n = bits on: with 16 bits what FQ-ViT's shifters make of exponents of 4 bits.
    """

    name: ClassVar[str] = "log2shift"
    MOST_BITS: ClassVar[int] = 16

    def output_scale(self, scale: float, step: float = 1.0) -> float | None:  # type: ignore[override]
        """2^-(bits - 1): the largest code stands for 1."""
        return 0.5 ** (self.target.bits - 1)

    @property
    def zero(self) -> int:
        """0."""
        return 0

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        n = self._exponents().codes(x).clip(0, 63)
        return ((n * 0 + (1 << self.target.bits)) >> n) >> 1

    def oracle(self, row: list[int]) -> list[int]:
        """Whole parts of fractions."""
        return [int(Fraction(2**self.target.bits, 2 ** (n + 1))) for n in self._exponents().oracle(row)]

    def _exponents(self) -> Log2Softmax:
        """The same with exponents for codes."""
        return Log2Softmax(self.source, IntFormat(8, signed=False), self.b, self.c, self.x0)
