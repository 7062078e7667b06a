"""What rules with an integer multiplier and a power of 2 share: where the constants come from.

real ~ multiplier 2^(exponent - 31), 2^30 <= |multiplier| < 2^31, as TensorFlow Lite's QuantizeMultiplier has it.  One of
fewer bits is the same number with zeros at its end: every rule here gives the same codes with it as one that is shifted
by less, so `bits` is only where it is rounded.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from sim.formats import IntFormat
from sim.requantizers.requantizer import Affine, InRegisters, RequantizeError
from sim.requantizers.rule import Domain, ScalingRule, columns, none, wrapped

FULL = 31
"""Bits of a multiplier, without its sign."""
LEAST_EXPONENT = -31
INT32 = (-(2**31), 2**31 - 1)


@dataclass(frozen=True, eq=False, repr=False)
class MultiplierRule(ScalingRule):
    """int64 `bias`, `multiplier`, `exponent` [C]: x = sum + bias, then R(x, multiplier, exponent); [1] for the residual and
    `fraction`, the bits that the sum is shifted before."""

    whole: ClassVar[tuple[str, ...]] = ("bias", "multiplier", "exponent", "fraction")
    domain: ClassVar[Domain] = {"bias": INT32, "multiplier": INT32, "exponent": (LEAST_EXPONENT, 30)}
    bits: ClassVar[int] = FULL
    tile: ClassVar[str] = ""
    """The rule of kernels/finish.py that is this one, if one is."""
    bias: np.ndarray
    multiplier: np.ndarray
    exponent: np.ndarray
    skip_multiplier: np.ndarray = field(default_factory=none)
    skip_exponent: np.ndarray = field(default_factory=none)
    fraction: np.ndarray = field(default_factory=none)

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> Self:
        """And no left shift beyond 32 bits."""
        built = super().build(affine, target)
        built.check_reach(max(map(abs, affine.bounds)), affine.skip_max)
        return built

    def check_reach(self, reach: int, skip_max: int) -> None:
        """Raise RequantizeError if a left shift could leave 32 bits: of our own networks none does."""
        most = int(((np.abs(self.bias) + (reach << self.fraction)) << np.maximum(self.exponent, 0)).max())
        if max(most, skip_max << max(int(self.skip_exponent[0]), 0)) >= 2**31:
            raise RequantizeError(f"{self.name}: sums up to {reach} leave 32 bits when they are shifted left by "
                                  f"{self.exponent.max()}, the gain is too large")

    def in_registers(self, target: IntFormat, reach: int, less: np.ndarray | None, zero: int) -> InRegisters | None:
        """Where the class names a `tile` rule.  None if a code could pass what int32 holds before its clamp."""
        bias = self.bias if less is None else self.bias - less
        gains = np.ldexp(np.abs(self.multiplier), self.exponent - 31)
        most = min(reach + int(np.abs(bias).max()), 2**31) * float(gains.max())
        most += 255 * float(np.ldexp(np.abs(self.skip_multiplier), self.skip_exponent - 31)[0])
        if not self.tile or most >= 2**30 or -(2**31) in self.multiplier or self.fraction[0]:
            return None
        shifts, skip_shifts = self._shifts(self.exponent), self._shifts(self.skip_exponent)
        rows = np.stack([wrapped(self.multiplier), wrapped(bias), *map(wrapped, shifts)])
        return InRegisters(self.tile, rows, np.array([self.skip_multiplier[0], 0, *(s[0] for s in skip_shifts)], np.int32))

    @classmethod
    def _shifts(cls, exponent: np.ndarray) -> tuple[np.ndarray, ...]:
        """To the left and to the right."""
        return np.maximum(exponent, 0), np.maximum(-exponent, 0)

    @classmethod
    def constants(cls, reals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Multipliers of `bits` bits nearest to real ones, half away from zero; below 2^-32 they are 0."""
        multiplier, exponent = columns(
            multiplier_of(float(real), cls.name, cls.bits, cls.domain["exponent"]) for real in reals)
        return multiplier, exponent


def multiplier_of(real: float, name: str, bits: int = FULL, exponents: tuple[int, int] = (LEAST_EXPONENT, 30)
                  ) -> tuple[int, int]:
    """(multiplier, exponent) with real ~ multiplier 2^(exponent - 31), rounded to `bits` bits, half away from zero.

    >>> multiplier_of(0.75, "double"), multiplier_of(-1.0, "double"), multiplier_of(2.0**-40, "double")
    ((1610612736, 0), (-1073741824, 1), (0, 0))
    """
    if not math.isfinite(real):
        raise RequantizeError(f"{name}: a gain of {real!r} is no multiplier")
    multiplier, exponent = normalized(real, bits)
    if exponent > exponents[1]:
        raise RequantizeError(f"{name}: a gain of {real:g} codes per unit is too large, the exponent is {exponent} and may "
                              f"be {exponents[1]}")
    if exponent < exponents[0] or multiplier == 0:
        return 0, 0
    return (multiplier << FULL - bits) * (1 if real > 0 else -1), exponent


def normalized(real: float, bits: int = FULL) -> tuple[int, int]:
    """(multiplier, exponent) with |real| ~ multiplier 2^(exponent - bits), 2^(bits - 1) <= multiplier < 2^bits; 0 stays 0.

    >>> normalized(0.75), normalized(-1.0, 8)
    ((1610612736, 0), (128, 1))
    """
    fraction, exponent = math.frexp(abs(real))
    multiplier = math.floor(fraction * 2**bits + 0.5)
    return (multiplier // 2, exponent + 1) if multiplier == 2**bits else (multiplier, exponent)
