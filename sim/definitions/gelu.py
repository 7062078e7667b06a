"""Activations in integers, elementwise, as Deeploy has them: wide codes come out, which a requantizer takes.

Up to 16 bits a table of a function (sim/functions.py) does the same work; these are for runtimes that compute.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from sim.definitions.definition import INT64, Definition, number
from sim.definitions.integers import Codes, sign
from sim.formats import IntFormat


@dataclass(frozen=True, eq=False, repr=False)
class IntegerGelu(Definition):
    """`igelu`: I-BERT's parabola for erf (Kim et al. 2021, arXiv 2101.01321).  The input's zero point is 0.

    p = min(|q|, -b) + b; L = sgn(q) (one - p^2); code = q ((one + L) >> 1), a step worth scale / one.
    """

    name: ClassVar[str] = "igelu"
    kind: ClassVar[str] = "gelu"
    b: np.ndarray
    one: np.ndarray
    """Two integers, int64 [1] each; b < 0."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """I-BERT's erf(x) = sgn(x) (1 - 0.2888 (min(|x|, 1.769) - 1.769)^2) at scale / sqrt 2, constants rounded down."""
        cls._require_scale(scale)
        inner = scale * 0.7071067811865476
        cls._require(2.0**-24 <= inner <= 1.0, f"a code stands for {scale:g}, must stand for 2^-23.5 to sqrt 2")
        return cls(source, target, number(math.floor(-1.769 / inner)), number(math.floor(1.0 / (0.2888 * inner * inner))))

    def output_scale(self, scale: float, step: float = 1.0) -> float | None:
        """scale / one."""
        return scale / int(self.one[0])

    def codes(self, x: Codes) -> Codes:
        """Any shape."""
        b, one = int(self.b[0]), int(self.one[0])
        distance = abs(x).clip(None, -b) + b
        return x * ((sign(x) * (one - distance * distance) + one) >> 1)

    def oracle(self, row: list[int]) -> list[int]:
        """The parabola where it holds, and 0 or `one` outside."""
        b, one = int(self.b[0]), int(self.one[0])
        half = {q: (one + (q > 0) * (one - (q + b) ** 2) - (q < 0) * (one - (b - q) ** 2)) // 2
                if abs(q) < -b else one * (q > 0) for q in set(row)}
        return [q * half[q] for q in row]

    def _check(self, channels: int) -> None:
        b, one = self._require_number("b", -(1 << 30), -1), self._require_number("one", 0, 1 << 50)
        reach = max(b * b, one)
        self._require(2 * reach < 1 << 53, f"b = {b} and one = {one} leave 53 bits")
        most = self._most * reach
        self._require(most < INT64 and most <= min(self.target.max, -self.target.min),
                      f"codes up to {most} in magnitude leave {self.target}")


@dataclass(frozen=True, eq=False, repr=False)
class IntegerHardSwish(Definition):
    """`ihardswish`: code = q (clip(q + three, 0, six) sixth), a step worth scale / (six sixth).

    The input's zero point is 0.
    """

    name: ClassVar[str] = "ihardswish"
    kind: ClassVar[str] = "hardswish"
    three: np.ndarray
    six: np.ndarray
    sixth: np.ndarray
    """Three integers, int64 [1] each."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """3 and 6 rounded to codes; a sixth, which is only a factor, is 1."""
        cls._require_scale(scale)
        cls._require(2.0**-24 <= scale <= 3.0, f"a code stands for {scale:g}, must stand for 2^-24 to 3")
        return cls(source, target, number(round(3.0 / scale)), number(round(6.0 / scale)), number(1))

    def output_scale(self, scale: float, step: float = 1.0) -> float | None:
        """scale / (six sixth)."""
        return scale / (int(self.six[0]) * int(self.sixth[0]))

    def codes(self, x: Codes) -> Codes:
        """Any shape."""
        return x * ((x + int(self.three[0])).clip(0, int(self.six[0])) * int(self.sixth[0]))

    def oracle(self, row: list[int]) -> list[int]:
        """Plain integers."""
        return [q * int(self.sixth[0]) * min(max(q + int(self.three[0]), 0), int(self.six[0])) for q in row]

    def _check(self, channels: int) -> None:
        self._require_number("three", 0, 1 << 30)
        most = self._most * self._require_number("six", 1, 1 << 30) * self._require_number("sixth", 1, 1 << 30)
        self._require(most < INT64 and most <= min(self.target.max, -self.target.min),
                      f"codes up to {most} in magnitude leave {self.target}")
