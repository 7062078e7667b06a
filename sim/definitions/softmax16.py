"""The int16 softmax of TensorFlow Lite, tflite-micro and CMSIS-NN: two tables of 513 samples, linear in between."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from sim.definitions.definition import number
from sim.definitions.gemmlowp import INT32_MAX, halved, high
from sim.definitions.integers import Codes, bit_length, row_max, row_sum, take
from sim.definitions.softmax import Softmax
from sim.formats import IntFormat
from sim.functions import exp

SAMPLES = 513
LARGEST = 2**15 - 1


@dataclass(frozen=True, eq=False, repr=False)
class TableSoftmax(Softmax):
    """`tflite_int16`: 16-bit codes in and out; a step stands for 2^-15, code 0 for 0.

    Where the sum of exponentials is below a power of 2 by 2^-18 of it or less, TensorFlow Lite's 16-bit index of the
    second table wraps, and so it does here.
    """

    name: ClassVar[str] = "tflite_int16"
    multiplier: np.ndarray
    shift: np.ndarray
    """A difference d of codes is d multiplier 2^(shift - 31) steps of 10 / 65535, rounded twice (int64 [1] each)."""
    exponentials: np.ndarray
    reciprocals: np.ndarray
    """int64 [513] each: e^x for x from -10 to 0 and 1 / (1 + x) for x from 0 to 1, in steps of 2^-15."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """TensorFlow Lite's QuantizeMultiplier and gen_lut, with beta = 1 and exponentials of sim/functions.py."""
        cls._require_scale(scale)
        cls._require(scale <= 1.0, f"a code stands for {scale:g}, must stand for 1 at most")
        fraction, shift = math.frexp(scale / (10.0 / 65535.0))
        multiplier = math.floor(fraction * 2.0**31 + 0.5)
        if multiplier == 2**31:
            multiplier, shift = 2**30, shift + 1
        if shift < -31:
            multiplier, shift = 0, 0
        return cls(source, target, number(multiplier), number(shift), _samples(exp, -10.0, 0.0),
                   _samples(lambda x: 1.0 / (1.0 + x), 0.0, 1.0))

    def output_scale(self, scale: float, step: float = 1.0) -> float | None:
        """2^-15."""
        return 2.0**-15

    @property
    def zero(self) -> int:
        """0: half of the codes are never used."""
        return 0

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        shift = int(self.shift[0])
        steps = halved(high((x - row_max(x)) << max(shift, 0), int(self.multiplier[0])), max(-shift, 0))
        exponential = _between(self.exponentials, (steps + LARGEST).clip(-LARGEST - 1, LARGEST))
        total = row_sum(exponential)
        headroom = 32 - bit_length(total)
        index = (((total << (headroom - 1)) + (1 << 13)) >> 14) - 98304
        inverse = _between(self.reciprocals, ((index + (1 << 15)) & 0xFFFF) - (1 << 15))
        return ((((exponential * inverse) >> (30 - headroom)) + 1) >> 1).clip(0, LARGEST)

    def oracle(self, row: list[int]) -> list[int]:
        """One code after another, with fractions of two where the kernel shifts."""
        def looked_up(table: list[int], value: int) -> int:
            entry, rest = divmod(value + 2**15, 128)
            return table[entry] + ((table[entry + 1] - table[entry]) * rest + 64) // 128

        shift, multiplier = int(self.shift[0]), int(self.multiplier[0])
        found = []
        for q in row:
            product = ((max(row) - q) * 2 ** max(shift, 0) * -multiplier * 2 + 2**31) // 2**32
            steps = -((-2 * product + 2 ** max(-shift, 0)) // 2 ** (max(-shift, 0) + 1))
            found.append(looked_up(self.exponentials.tolist(), max(steps + 2**15 - 1, -(2**15))))
        bits = sum(found).bit_length()
        index = (sum(found) * 2 ** (31 - bits) + 2**13) // 2**14 - 2**16
        inverse = looked_up(self.reciprocals.tolist(), index % 2**16 - 2**15)
        return [min((e * inverse + 2 ** (bits - 2)) // 2 ** (bits - 1), 2**15 - 1) for e in found]

    def _check(self, channels: int) -> None:
        self._require(self.source.bits <= 16 and self.target == IntFormat(16, signed=True),
                      f"codes of at most 16 bits to s16, not {self.source} to {self.target}")
        self._require_number("multiplier", 0, INT32_MAX)
        self._require_number("shift", -31, 14)
        self._require_arrays("int64", (SAMPLES,), "exponentials", "reciprocals")
        for name, last in (("exponentials", LARGEST // 2), ("reciprocals", 0)):
            table = getattr(self, name)
            self._require(table.min() >= 0 and table.max() <= LARGEST and table[-2:].min() > last,
                          f"{name} must be from 0 to {LARGEST}, the last two above {last}")
        self._require(channels < 1 << 16, f"sums of {channels} exponentials leave 31 bits")


def _between(table: np.ndarray, index: Codes) -> Codes:
    """generic_int16_table_lookup: linear between samples of a 16-bit index, rounded half up."""
    entry = (index >> 7) + 256
    base = take(table, entry)
    return base + (((take(table, entry + 1) - base) * (index & 127) + 64) >> 7)


def _samples(function: Any, least: float, most: float) -> np.ndarray:
    """gen_lut: samples moved by half the error that linear interpolation makes in the middle of a segment."""
    step = (most - least) / (SAMPLES - 1)
    at = least + np.arange(SAMPLES, dtype=np.float64) * step
    values = function(at) * 32768.0
    samples = _half_away(values)
    between = _half_away((values[1:] + samples[:-1]) / 2.0) - _half_away(function(at[:-1] + step / 2.0) * 32768.0)
    samples[:-1] -= _half_away(between / 2.0)
    return samples.clip(-LARGEST - 1, LARGEST).astype(np.int64)


def _half_away(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.copysign(np.floor(np.abs(values) + 0.5), values)
    return rounded
