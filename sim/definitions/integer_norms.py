"""Norms over a row in integers alone, as Deeploy has them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Self

import numpy as np

from sim.definitions.definition import INT64, learned_array, number
from sim.definitions.integers import SQRT_LIMIT, Codes, isqrt, like, row_sum, truncated
from sim.definitions.layernorm import Norm
from sim.formats import IntFormat

MOST_DIVISOR_BITS = 16


class IntegerNorm(Norm):
    """What I-BERT's norms share (Kim et al. 2021, arXiv 2101.01321): an integer root, divisions toward 0 and down."""

    weight: np.ndarray
    divisor: np.ndarray

    def _scaled(self, above: Codes, variance: Codes) -> Codes:
        """above weight / isqrt(variance), toward 0."""
        return truncated(above * like(above, self.weight), isqrt(variance))

    def _finished(self, y: Codes) -> Codes:
        """floor(y / divisor), clamped."""
        return (y // int(self.divisor[0])).clip(self.target.min, self.target.max)

    @classmethod
    def _weights(cls, step: float, *learned: np.ndarray) -> tuple[int, list[np.ndarray]]:
        """A power of 2 and the integers nearest to learned / step times it, which fit 31 bits."""
        cls._require_scale(step, "step")
        steps = [array / step for array in learned]
        largest = max((float(np.abs(array).max(initial=0.0)) for array in steps), default=0.0)
        cls._require(largest < 2.0**30, f"gamma or beta is worth {largest:g} codes, must be below 2^30")
        bits = min(MOST_DIVISOR_BITS, 30 - math.frexp(largest)[1])
        return 1 << bits, [np.rint(array * 2.0**bits).astype(np.int64) for array in steps]

    def _check_weights(self, channels: int, reach: int, *names: str) -> None:
        """Types and values, and that no product or square sum leaves 64 bits; `reach` bounds |above|."""
        self._require_arrays("int64", (channels,), *names)
        for name in names:
            array = getattr(self, name)
            self._require(array.min() >= -(1 << 31) and array.max() < 1 << 31, f"{name} must fit 32 bits")
        self._require_number("divisor", 1, 1 << 31)
        self._require(reach << 32 < INT64 and channels * reach * reach + 1 < SQRT_LIMIT,
                      f"rows of {channels} codes of {self.source} leave 62 bits")


@dataclass(frozen=True, eq=False, repr=False)
class IbertLayerNorm(IntegerNorm):
    """`ibert`: Deeploy's iLayerNorm.

    m = floor(sum q / C); v = floor(sum (q - m)^2 / C) + 1;
    code = clamp(floor((trunc((q - m) weight / isqrt v) + bias) / divisor)).  There is no eps: 1 is added in squared codes.
    """

    name: ClassVar[str] = "ibert"
    weight: np.ndarray
    bias: np.ndarray
    divisor: np.ndarray
    """int64 [C], [C] and [1]."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """gamma / step and beta / step in units of a power of 2, 2^16 or as much as 31 bits hold."""
        cls._require_scale(scale)
        divisor, (weight, bias) = cls._weights(step, *cls._learned(learned))
        return cls(source, target, weight, bias, number(divisor))

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        centered = x - row_sum(x) // x.shape[-1]
        variance = row_sum(centered * centered) // x.shape[-1] + 1
        return self._finished(self._scaled(centered, variance) + like(x, self.bias))

    def oracle(self, row: list[int]) -> list[int]:
        """math.isqrt, and division of magnitudes."""
        mean = sum(row) // len(row)
        root = math.isqrt(sum((q - mean) ** 2 for q in row) // len(row) + 1)
        found = []
        for q, weight, bias in zip(row, self.weight.tolist(), self.bias.tolist(), strict=True):
            product = (q - mean) * weight
            quotient = abs(product) // root * (1 if product >= 0 else -1)
            found.append(min(max((quotient + bias) // int(self.divisor[0]), self.target.min), self.target.max))
        return found

    def _check(self, channels: int) -> None:
        self._check_weights(channels, self._span, "weight", "bias")


@dataclass(frozen=True, eq=False, repr=False)
class IntegerRmsNorm(IntegerNorm):
    """`irmsnorm`: Deeploy's iRMSNorm, I-BERT's without a mean and a bias.  The input's zero point is 0.

    v = floor(sum q^2 / C) + 1; code = clamp(floor(trunc(q weight / isqrt v) / divisor)).
    """

    name: ClassVar[str] = "irmsnorm"
    weight: np.ndarray
    divisor: np.ndarray
    """int64 [C] and [1]."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """gamma / step in units of a power of 2, 2^16 or as much as 31 bits hold; there is no beta."""
        cls._require_scale(scale)
        cls._require(learned is None or not np.any(learned.get("beta", 0.0)), "there is no beta")
        divisor, (weight,) = cls._weights(step, learned_array(learned, "gamma"))
        return cls(source, target, weight, number(divisor))

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        return self._finished(self._scaled(x, row_sum(x * x) // x.shape[-1] + 1))

    def oracle(self, row: list[int]) -> list[int]:
        """math.isqrt, and division of magnitudes."""
        root = math.isqrt(sum(q**2 for q in row) // len(row) + 1)
        products = [q * weight for q, weight in zip(row, self.weight.tolist(), strict=True)]
        quotients = [abs(p) // root * (1 if p >= 0 else -1) for p in products]
        return [min(max(q // int(self.divisor[0]), self.target.min), self.target.max) for q in quotients]

    def _check(self, channels: int) -> None:
        self._check_weights(channels, self._most, "weight")


@dataclass(frozen=True, eq=False, repr=False)
class IntegerNoNorm(IntegerNorm):
    """`inonorm`: Deeploy's iNoNorm, an affine per channel for a norm (MobileBERT, Sun et al. 2020, arXiv 2004.02984).

    code = clamp(floor((q weight + bias) multiplier / divisor)).  The input's zero point is 0.
    """

    name: ClassVar[str] = "inonorm"
    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    divisor: np.ndarray
    """int64 [C], [C], [1] and [1]."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """gamma scale / step and beta / step in units of a power of 2, 2^16 or as much as 31 bits hold; multiplier 1."""
        cls._require_scale(scale)
        gamma, beta = cls._learned(learned)
        divisor, (weight, bias) = cls._weights(step, gamma * scale, beta)
        return cls(source, target, weight, bias, number(1), number(divisor))

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        return self._finished((x * like(x, self.weight) + like(x, self.bias)) * int(self.multiplier[0]))

    def oracle(self, row: list[int]) -> list[int]:
        """Floors of fractions."""
        multiplier, divisor = int(self.multiplier[0]), int(self.divisor[0])
        exact = [Fraction((q * weight + bias) * multiplier, divisor)
                 for q, weight, bias in zip(row, self.weight.tolist(), self.bias.tolist(), strict=True)]
        return [min(max(math.floor(value), self.target.min), self.target.max) for value in exact]

    def _check(self, channels: int) -> None:
        self._check_weights(channels, self._most, "weight", "bias")
        multiplier = self._require_number("multiplier", 0, 1 << 31)
        largest = self._most * int(np.abs(self.weight).max()) + int(np.abs(self.bias).max())
        self._require(largest * multiplier < INT64, f"products up to {largest} {multiplier} leave 64 bits")
