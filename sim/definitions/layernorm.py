"""Norms over a row, and BitTrue's own layer norm: moments in integers, then float32 as the requantizer `fp32` has it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from sim.definitions.definition import Definition, learned_array
from sim.definitions.integers import Codes, constant32, constant64, float32, float64, int64, inverse_sqrt, row_sum
from sim.formats import IntFormat
from sim.reference import round_to_float32

FLOAT32_MAX = float(np.finfo(np.float32).max)


class Norm(Definition):
    """Learned are gamma [C], and for layer norms beta [C]; codes may have any zero point where the mean is taken away."""

    kind: ClassVar[str] = "layernorm"

    @classmethod
    def _learned(cls, learned: Mapping[str, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray]:
        """gamma, and beta or zeros, float64 [C]."""
        gamma = learned_array(learned, "gamma")
        return gamma, learned_array(learned, "beta", np.zeros(gamma.shape))


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
        gamma, beta = cls._learned(learned)
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
            steps = round_to_float32(round_to_float32(count * q - total) * round_to_float32(inverse * gain))
            found.append(min(max(round(round_to_float32(steps + offset)), self.target.min), self.target.max))
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
