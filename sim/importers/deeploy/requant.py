"""Multipliers, addends and divisors of a file as a requantizer of the profile, and what bounds its results."""

from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.importers.deeploy.views import Bounds
from sim.importers.imported import ImporterError
from sim.ops.op import MAX_CODE_BITS
from sim.requantizers.mul_add_shift import MulAdd, MulAddDivide, MulAddShift, MulAddShiftFloor

FLOORS = ("mul_add_shift_floor", "mul_add_divide")
HALF_UP = "mul_add_shift"
REGISTER = IntFormat(MAX_CODE_BITS, signed=True)
"""What sums are stored in between operations."""
WIDE = IntFormat(MAX_CODE_BITS, signed=True, narrow=True)


def is_floor(profile: Any, kind: str) -> bool:
    """Whether the profile's rule for a kind of operation rounds down; else half up.  ImporterError for any other rule."""
    name = profile.rule(kind).requant
    if name not in (*FLOORS, HALF_UP):
        raise ImporterError(f"the file gives multipliers, addends and divisors, which are for {HALF_UP}, "
                            f"{' and '.join(FLOORS)}; the profile {profile.name} has {name} for {kind}")
    return name in FLOORS


def requantizer_of(profile: Any, kind: str, multiplier: np.ndarray, addend: np.ndarray, divisor: int,
                   rounding: str) -> MulAdd:
    """R = (x multiplier + addend) / divisor, int64 [C] or [1], rounded as the profile says, or by `rounding` if given.

    "exact" is for a divisor of 1, where nothing is rounded; one that is no power of 2 is for floor alone.
    """
    shift = divisor.bit_length() - 1
    if rounding == "exact":
        return MulAddShift.of(multiplier, addend, np.zeros_like(multiplier))
    down = rounding == "floor" or is_floor(profile, kind)
    if divisor != 1 << shift and not down:
        raise ImporterError(f"divides by {divisor}, half up takes powers of 2")
    if divisor != 1 << shift:
        return MulAddDivide.of(multiplier, addend, np.full_like(multiplier, divisor))
    return (MulAddShiftFloor if down else MulAddShift).of(multiplier, addend, np.full_like(multiplier, shift))


def bounds_of(multiplier: np.ndarray, addend: np.ndarray, divisor: int, low: Any, high: Any) -> tuple[Bounds, Bounds]:
    """Bounds of x multiplier + addend + divisor / 2 and of its quotient, x from `low` to `high`, numbers or int64 [C]."""
    ends = [[int(m) * int(x) + int(a) for m, a, x in np.broadcast(multiplier, addend, side)] for side in (low, high)]
    least, most = min(map(min, ends)), max(map(max, ends)) + divisor // 2
    return (least, most), (least // divisor, most // divisor)


def format_for(low: int, high: int) -> IntFormat:
    """The narrowest format that holds every integer from `low` to `high`.  ImporterError beyond 32 bits.

    Of 32 bits without -2^31 where that can be, so that magnitudes have 31.
    """
    signed = low < 0
    bits = max((-low - 1).bit_length() if signed else 1, max(high, 0).bit_length()) + signed
    if not fits(low, high):
        raise ImporterError(f"gives integers from {low} to {high}, {MAX_CODE_BITS} bits are supported")
    return IntFormat(bits, signed) if bits < MAX_CODE_BITS else REGISTER if low == REGISTER.min else WIDE


def fits(low: int, high: int) -> bool:
    """Whether 32 bits hold every integer from `low` to `high`."""
    return REGISTER.min <= low and high <= REGISTER.max
