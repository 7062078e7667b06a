"""`mul_add_shift`, `mul_add_shift_floor`, `mul_add_divide`: what PULP's tools make of a batch norm.

    mul_add_shift         R = ((sum + bias) mul + add + 2^(d - 1)) >> d, half up; d = 0: no half      Deeploy, QuantLab
    mul_add_shift_floor   R = ((sum + bias) mul + add) >> d                                           DORY, NEMO
    mul_add_divide        R = floor(((sum + bias) mul + add) / divisor), any divisor                  DORY's 2^d - 1

ARITHMETIC.md, R6.  Registers are of 64 bits here; those tools' C code has 32, and the same codes while they suffice.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.reference import shift_right
from sim.requantizers.multiplier import FULL, INT32, multiplier_of
from sim.requantizers.requantizer import Affine, RequantizeError
from sim.requantizers.rule import Domain, Own, Rule, clipped_offset, columns, line_of, none, unit

MOST = 2**62
"""No product with its addend gets so far."""
MOST_SHIFT = 61


@dataclass(frozen=True, eq=False, repr=False)
class MulAdd(Rule):
    """What the three share: int64 `bias`, `multiplier`, `addend` [C], and a shift or divisor."""

    bits: ClassVar[int] = FULL
    half_of_residual: ClassVar[float] = 0.5
    """Where the rule is floor: else two floors together could be two codes off."""
    bias: np.ndarray
    multiplier: np.ndarray
    addend: np.ndarray

    @classmethod
    def of(cls, multiplier: np.ndarray, addend: np.ndarray, last: np.ndarray) -> "MulAdd":
        """Of constants from a file, int64 [C] each; the last are shifts, or divisors where the rule has those."""
        parts = [np.asarray(array, np.int64) for array in (multiplier, addend, last)]
        return cls(np.zeros_like(parts[0]), *parts)

    @classmethod
    def from_real(cls, real: np.ndarray, bias: np.ndarray) -> "MulAdd":
        """Nearest multipliers, no addend."""
        rows = [cls._constants(float(number), 0.0, 1) for number in np.atleast_1d(real)]
        return cls(np.asarray(bias, np.int64), *columns(rows))

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "MulAdd":
        """Integers nearest to the affine; the offset is the addend."""
        reach, offset = max(1, *map(abs, affine.bounds)), clipped_offset(affine, target)
        rows = [cls._constants(float(g), float(o), reach) for g, o in zip(affine.gain, offset, strict=True)]
        skip = cls._constants(affine.skip_gain or 0.0, cls.half_of_residual, max(affine.skip_max, 1))
        return cls(np.zeros(len(rows), np.int64), *columns(rows), *columns([skip]))

    @classmethod
    def _constants(cls, gain: float, offset: float, reach: int) -> tuple[int, int, int]:
        """(multiplier, addend, shift) of one channel: as many bits as the multiplier has and 64-bit sums allow."""
        multiplier, exponent = multiplier_of(gain, cls.name, cls.bits)
        shift = min(cls.bits - exponent, 60 - math.frexp(abs(gain) * reach + abs(offset) + 1.0)[1], MOST_SHIFT)
        if shift < 0:
            raise RequantizeError(f"{cls.name}: a gain of {gain:g} and an offset of {offset:g} codes are too large")
        if shift == cls.bits - exponent:
            multiplier >>= FULL - cls.bits
        else:
            multiplier = round(math.ldexp(gain, shift))
        return multiplier, round(math.ldexp(offset, shift)), shift

    def check(self, channels: int, reach: int) -> None:
        """And no sum beyond 62 bits."""
        super().check(channels, reach)
        most = int(np.abs(self.multiplier).max()) * (reach + int(np.abs(self.bias).max()))
        if most + int(np.abs(self.addend).max()) >= MOST:
            raise RequantizeError(f"{self.name}: sums up to {reach} leave 63 bits when they are multiplied")


@dataclass(frozen=True, eq=False, repr=False)
class MulAddShift(MulAdd):
    """int64 `bias`, `multiplier`, `addend`, `shift` [C]; half up."""

    name = "mul_add_shift"
    whole: ClassVar[tuple[str, ...]] = ("bias", "multiplier", "addend", "shift")
    domain: ClassVar[Domain] = {"multiplier": INT32, "shift": (0, MOST_SHIFT)}
    half_of_residual = 0.0
    shift: np.ndarray
    skip_multiplier: np.ndarray = field(default_factory=none)
    skip_addend: np.ndarray = field(default_factory=none)
    skip_shift: np.ndarray = field(default_factory=none)

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        return shift_right((x + own("bias")) * own("multiplier") + own("addend"), own("shift"))


class MulAddShiftFloor(MulAddShift):
    """The same fields; floor."""

    name = "mul_add_shift_floor"
    half_of_residual = 0.5

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        return ((x + own("bias")) * own("multiplier") + own("addend")) // 2 ** own("shift")


@dataclass(frozen=True, eq=False, repr=False)
class MulAddDivide(MulAdd):
    """int64 `bias`, `multiplier`, `addend`, `divisor` [C]; floor."""

    name = "mul_add_divide"
    whole: ClassVar[tuple[str, ...]] = ("bias", "multiplier", "addend", "divisor")
    domain: ClassVar[Domain] = {"multiplier": INT32, "divisor": (1, 2**MOST_SHIFT)}
    divisor: np.ndarray
    skip_multiplier: np.ndarray = field(default_factory=none)
    skip_addend: np.ndarray = field(default_factory=none)
    skip_divisor: np.ndarray = field(default_factory=unit)

    @classmethod
    def _constants(cls, gain: float, offset: float, reach: int) -> tuple[int, int, int]:
        multiplier, addend, shift = super()._constants(gain, offset, reach)
        return multiplier, addend, 1 << shift

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        return ((x + own("bias")) * own("multiplier") + own("addend")) // own("divisor")


@inline
def mul_add(x: Any, whole: Any, c: Any) -> Any:
    """(sum + bias) mul + add."""
    return (x + whole[0, c]) * whole[1, c] + whole[2, c]


@inline
def half_up_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R6, half up."""
    shift = whole[3, c]
    return (mul_add(x, whole, c) + ((1 << shift) >> 1)) >> shift


@inline
def floor_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R6, floor."""
    return mul_add(x, whole, c) >> whole[3, c]


@inline
def divide_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R6, any divisor; // of numba and Python is floor."""
    return mul_add(x, whole, c) // whole[3, c]


MulAddShift.line = line_of("mul_add_shift", half_up_rule)
MulAddShiftFloor.line = line_of("mul_add_shift_floor", floor_rule)
MulAddDivide.line = line_of("mul_add_divide", divide_rule)
