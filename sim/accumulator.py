"""The accumulator register: its width, what happens when a sum does not fit, and when it is consulted (contract C6)."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sim.formats import IntFormat

Overflow = Literal["wrap", "saturate", "error"]
MIN_BITS, MAX_BITS = 2, 63
END = 0
"""The tile of an accumulator that receives the whole sum at once."""


class AccumulatorOverflowError(ArithmeticError):
    """A sum did not fit a register that must not overflow: which layer and channel."""


@dataclass(frozen=True)
class Accumulator:
    """A register of `bits` bits (None: wide enough for everything) fed with sums of `tile` consecutive products.

    Products come in the order (kernel row, kernel column, input channel), padding included.  Each tile is summed
    exactly, then added to the register, which wraps, saturates or makes the run fail; `tile` 0 is the whole sum.
    """

    bits: int | None = None
    overflow: Overflow = "wrap"
    tile: int = 1

    def __post_init__(self) -> None:
        if self.bits is not None and not MIN_BITS <= self.bits <= MAX_BITS:
            raise ValueError(f"accumulator: {self.bits} bits are not allowed, choose {MIN_BITS} to {MAX_BITS}")
        if self.overflow not in get_args(Overflow):
            raise ValueError(f"overflow: {self.overflow!r} is unknown, choose one of {', '.join(get_args(Overflow))}")
        if not END <= self.tile <= 2**31 - 1:
            raise ValueError(f"tile: {self.tile} is not allowed, choose 1 or more products, or end")

    @property
    def range(self) -> IntFormat | None:
        """The values of the register; None if unlimited."""
        return None if self.bits is None else IntFormat(self.bits, signed=True)


def prefix_bounds(weights: np.ndarray, operand: IntFormat) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest partial sum that any input, in any order of products, can reach (contract C7).

    weights int [kernel rows, kernel columns, in channels / groups, channels] -> two int64 arrays [channels].
    """
    wide = weights.astype(np.int64)
    low = np.minimum(wide * operand.min, wide * operand.max)
    high = np.maximum(wide * operand.min, wide * operand.max)
    return np.minimum(low, 0).sum((0, 1, 2)), np.maximum(high, 0).sum((0, 1, 2))


def bits_for(low: int, high: int) -> int:
    """Width of the narrowest two's complement register that holds `low` and `high`."""
    return max(int(high).bit_length(), int(-low - 1).bit_length() if low < 0 else 0) + 1
