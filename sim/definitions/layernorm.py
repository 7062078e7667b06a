"""Norms over a row: BitTrue's own layer norm in float32, and integer ones of I-BERT as Deeploy has them."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from sim.definitions.definition import INT64, Definition, learned_array, number
from sim.definitions.integers import (
    SQRT_LIMIT,
    Codes,
    constant32,
    constant64,
    float32,
    float64,
    int64,
    inverse_sqrt,
    isqrt,
    like,
    row_sum,
    truncated,
)
from sim.formats import IntFormat

FLOAT32_MAX = float(np.finfo(np.float32).max)
MOST_DIVISOR_BITS = 16


class Norm(Definition):
    """Learned are gamma [C], and for layer norms beta [C]; codes may have any zero point where the mean is taken away."""

    kind: ClassVar[str] = "layernorm"


@dataclass(frozen=True, eq=False, repr=False)
class ExactLayerNorm(Norm):
    """`exact`: mean and variance in integers, then float operations as the requantizer `fp32` has them.

    A = sum q; V = C sum q^2 - A^2; r = 1 / sqrt(V + eps) in float64, two roundings;
    code = clamp(rhe(f32(f32(f32(C q - A) f32(r gain)) + offset))).
    """

    name: ClassVar[str] = "exact"
    gain: np.ndarray
    """float32 [C]: gamma / step."""
    offset: np.ndarray
    """float32 [C]: beta / step."""
    eps: np.ndarray
    """float64 [1]: C^2 eps / scale^2."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """gamma / step and beta / step, divided in float64."""
        cls._require_scale(scale)
        cls._require_scale(step, "step")
        gamma = learned_array(learned, "gamma")
        beta = learned_array(learned, "beta", np.zeros(gamma.shape))
        channels = float(gamma.size)
        with np.errstate(over="ignore"):  # check refuses what is not finite
            return cls(source, target, (gamma / step).astype(np.float32), (beta / step).astype(np.float32),
                       np.array([channels * channels * eps / (scale * scale)], np.float64))

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        channels, total = x.shape[-1], row_sum(x)
        spread = row_sum(x * x) * channels - total * total
        inverse = inverse_sqrt(float64(spread) + constant64(x, self.eps))
        gain = float32(inverse * constant64(x, self.gain))
        steps = float32(x * channels - total) * gain + constant32(x, self.offset)
        return int64(steps.round().clip(self.target.min, self.target.max))

    def oracle(self, row: list[int]) -> list[int]:
        """A product or sum of two float32 numbers is rounded as if once by way of float64, which Python's floats are."""
        count, total = len(row), sum(row)
        spread = count * sum(q * q for q in row) - total**2
        inverse = 1.0 / math.sqrt(float(spread) + float(self.eps[0]))
        found = []
        for q, gain, offset in zip(row, self.gain.tolist(), self.offset.tolist(), strict=True):
            steps = _nearest_float32(_nearest_float32(count * q - total) * _nearest_float32(inverse * gain))
            found.append(min(max(round(_nearest_float32(steps + offset)), self.target.min), self.target.max))
        return found

    def _check(self, channels: int) -> None:
        self._require(self.target.bits <= 24, f"codes of {self.target}, of at most 24 bits")
        self._require_arrays("float32", (channels,), "gain", "offset")
        self._require_arrays("float64", (1,), "eps")
        eps = float(self.eps[0])
        self._require(math.isfinite(eps) and eps > 0.0, f"eps is {eps!r}, must be positive and finite")
        largest = float(np.abs(self.gain.astype(np.float64)).max()) / math.sqrt(eps) * 2 * channels * self._most
        self._require(np.isfinite(self.gain).all() and np.isfinite(self.offset).all() and largest < FLOAT32_MAX,
                      "gain or offset is not finite, or can make what is not")
        self._require(2 * (channels * self._most) ** 2 < 1 << 53,
                      f"sums of {channels} squares of {self.source} leave 53 bits")


def _nearest_float32(value: float) -> float:
    nearest: float = struct.unpack("f", struct.pack("f", value))[0]
    return nearest


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
        gamma = learned_array(learned, "gamma")
        divisor, (weight, bias) = cls._weights(step, gamma, learned_array(learned, "beta", np.zeros(gamma.shape)))
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
