"""Softmax without a multiplier, of ITA, an accelerator for transformers: powers of 2 for exponentials, a division a row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from sim.definitions.integers import Codes, row_max, row_sum, select
from sim.definitions.softmax import LN2, Softmax
from sim.formats import IntFormat


class ItaSoftmax(Softmax):
    """What ITA's two softmaxes share: powers of 2 for exponentials, one division a row, one scale of the input."""

    SCALE: ClassVar[float] = LN2 / 32
    """What a code of the input must stand for: 32 codes are a factor of 2."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """For codes of ITA's scale, ln 2 / 32, to within 0.1 %."""
        cls._require(abs(scale / cls.SCALE - 1.0) <= 1e-3,
                     f"a code stands for {scale:g}, must stand for ln 2 / 32 = {cls.SCALE:.6g}: requantize the input")
        return cls(source, target)

    def _check(self, channels: int) -> None:
        self._require(max(self.source.bits, self.target.bits) <= 16,
                      f"codes of at most 16 bits, not {self.source} to {self.target}")


@dataclass(frozen=True, eq=False, repr=False)
class ItaMax(ItaSoftmax):
    """`itamax` (Islamoglu et al. 2023, arXiv 2307.03493; ITAMax_s8 of Deeploy), for codes worth ln 2 / 32.

    h = (max q - q + 16) >> 5; code = (floor((2^bits - 1) 256 / sum(256 >> h)) >> h) + target.min.
    """

    name: ClassVar[str] = "itamax"

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        shift = ((row_max(x) - x + 16) >> 5).clip(0, 63)
        total = row_sum((shift * 0 + 256) >> shift)
        return ((total * 0 + self._levels * 256) // total >> shift) + self.target.min

    def oracle(self, row: list[int]) -> list[int]:
        """Powers of 2 as divisors."""
        divisors = [2 ** ((max(row) - q + 16) // 32) for q in row]
        inverse = (2**self.target.bits - 1) * 256 // sum(256 // d for d in divisors)
        return [inverse // d + self.target.min for d in divisors]


@dataclass(frozen=True, eq=False, repr=False)
class ItaPartialMax(ItaSoftmax):
    """`itapartialmax` (ITAPartialMax_s8 of Deeploy): ITAMax with a running maximum over groups of 16 codes, in one pass.

    Before each group the sum is shifted by (new maximum - old maximum + 16) >> 5.  A probability of 1 is only
    2^(bits - 1) - 1 steps: the numerator is (2^(bits - 1) - 1) 256.
    """

    name: ClassVar[str] = "itapartialmax"
    GROUP: ClassVar[int] = 16

    def output_scale(self, scale: float, step: float = 1.0) -> float | None:
        """1 / (2^(bits - 1) - 1)."""
        return 1.0 / (self._levels >> 1)

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        largest = x[..., :1] * 0 + self.source.min
        total = largest * 0
        for start in range(0, x.shape[-1], self.GROUP):
            group = x[..., start : start + self.GROUP]
            found = row_max(group)
            grown = select(found > largest, found, largest)
            shift = ((grown - group + 16) >> 5).clip(0, 63)
            total = (total >> ((grown - largest + 16) >> 5).clip(0, 63)) + row_sum((shift * 0 + 256) >> shift)
            largest = grown
        shift = ((largest - x + 16) >> 5).clip(0, 63)
        return ((total * 0 + (self._levels >> 1) * 256) // total >> shift) + self.target.min

    def oracle(self, row: list[int]) -> list[int]:
        """Groups one after another."""
        largest, total = self.source.min, 0
        for start in range(0, len(row), 16):
            group = row[start : start + 16]
            if max(group) > largest:
                total //= 2 ** ((max(group) - largest + 16) // 32)
                largest = max(group)
            total += sum(256 // 2 ** ((largest - q + 16) // 32) for q in group)
        inverse = (2 ** (self.target.bits - 1) - 1) * 256 // total
        return [inverse // 2 ** ((largest - q + 16) // 32) + self.target.min for q in row]

    def _check(self, channels: int) -> None:
        super()._check(channels)
        self._require(self.target.bits > 1, "codes of 1 bit have no level")
        self._require(channels % self.GROUP == 0, f"rows are groups of {self.GROUP} codes, {channels} is no multiple")
