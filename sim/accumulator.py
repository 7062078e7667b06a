"""The accumulator register: its width, what happens when a sum does not fit, and when it is consulted (contract C6)."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sim.formats import IntFormat, is_whole

Overflow = Literal["wrap", "saturate", "error"]
MIN_BITS, MAX_BITS = 2, 63
END = 0
"""The tile of an accumulator that receives the whole sum at once."""


class AccumulatorError(ValueError):
    """An accumulator that there is not: which part, what was given, what is allowed."""


class AccumulatorOverflowError(ArithmeticError):
    """A sum did not fit a register that must not overflow: which layer and channel."""


@dataclass(frozen=True)
class Accumulator:
    """A register of `bits` bits (None: wide enough for everything) fed with sums of `tile` consecutive products.

    Products come in the order (kernel row, kernel column, input channel), padding included.  Each tile is summed
    exactly, then added to the register, which wraps, saturates or makes the run fail; `tile` 0 is the whole sum.

    >>> Accumulator(10, "saturate", 4).range
    IntFormat(s10)
    >>> Accumulator(1)
    Traceback (most recent call last):
    sim.accumulator.AccumulatorError: accumulator: 1 bits are not allowed, choose 2 to 63

    Raises AccumulatorError.
    """

    bits: int | None = None
    overflow: Overflow = "wrap"
    tile: int = 1

    def __post_init__(self) -> None:
        if self.bits is not None and not (is_whole(self.bits) and MIN_BITS <= self.bits <= MAX_BITS):
            raise AccumulatorError(f"accumulator: {self.bits!r} bits are not allowed, choose {MIN_BITS} to {MAX_BITS}")
        if self.overflow not in get_args(Overflow):
            raise AccumulatorError(f"overflow: {self.overflow!r} is unknown, choose one of {', '.join(get_args(Overflow))}")
        if not (is_whole(self.tile) and END <= self.tile <= 2**31 - 1):
            raise AccumulatorError(f"tile: {self.tile!r} is not allowed, choose 1 or more products, or 0 for the whole sum "
                                   "(on the command line: end)")

    def __str__(self) -> str:
        tile = {END: "at the end", 1: "each product"}.get(self.tile, f"every {self.tile} products")
        return "unlimited" if self.bits is None else f"{self.bits}-bit register, {self.overflow}, {tile}"

    @property
    def range(self) -> IntFormat | None:
        """The values of the register; None if unlimited."""
        return None if self.bits is None else IntFormat(self.bits, signed=True)

    def is_whole(self, products: int) -> bool:
        """Whether the last of so many products tells all: no order of additions, and no sum on the way, matters."""
        return self.bits is None or self.overflow == "wrap" or self.tile == END or self.tile >= products


def prefix_bounds(weights: np.ndarray, operand: IntFormat) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest partial sum that any input, in any order of products, can reach (contract C7).

    weights int [kernel rows, kernel columns, in channels / groups, channels] -> two int64 arrays [channels].
    """
    wide = weights.astype(np.int64)
    low = np.minimum(wide * operand.min, wide * operand.max)
    high = np.maximum(wide * operand.min, wide * operand.max)
    return np.minimum(low, 0).sum((0, 1, 2)), np.maximum(high, 0).sum((0, 1, 2))


def bits_for(low: int, high: int) -> int:
    """Width of the narrowest two's complement register that holds `low` and `high`.

    >>> bits_for(-128, 127), bits_for(0, 128)
    (8, 9)
    """
    return max(int(high).bit_length(), int(-low - 1).bit_length() if low < 0 else 0) + 1
