"""What QONNX's quantizers do to a float32 number, operation by operation as its executor's numpy does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sim.formats import IntFormat

Array = np.ndarray
ROUNDINGS: Mapping[str, Callable[[Array], Array]] = {
    "ROUND": np.round, "HALF_EVEN": np.round, "CEIL": np.ceil, "FLOOR": np.floor, "DOWN": np.fix,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}
"""UP is away from 0, DOWN toward it; HALF_UP and HALF_DOWN are ties away from 0 and toward it."""


@dataclass(frozen=True)
class Grid:
    """The integers of a quantizer: `bits`, `signed`, and `narrow`, which for unsigned ones lacks the largest.

    >>> Grid(8, False, True).ends, Grid(8, True, True).ends, Grid(1, True, False).form
    ((0, 254), (-127, 127), IntFormat(s2 narrow))
    """

    bits: int
    signed: bool
    narrow: bool

    @property
    def ends(self) -> tuple[int, int]:
        """Smallest and largest; signed integers of one bit are -1 and 1."""
        if self.is_bipolar:
            return -1, 1
        if self.signed:
            return -(1 << (self.bits - 1)) + self.narrow, (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1 - self.narrow

    @property
    def is_bipolar(self) -> bool:
        """Whether it has -1 and 1 alone."""
        return self.signed and self.bits == 1

    @property
    def form(self) -> IntFormat:
        """A format that holds them."""
        if self.is_bipolar:
            return IntFormat(2, True, True)
        return IntFormat(self.bits, self.signed, self.signed and self.narrow)


def quantized(x: Array, scale: Array, zero: Array, grid: Grid, rounding: str) -> Array:
    """Quant: divide, add the zero point, clamp, round -> int64."""
    with np.errstate(all="ignore"):
        steps = np.nan_to_num(np.asarray(x / scale + zero))
    if grid.is_bipolar:
        return bipolar(steps)
    return np.asarray(ROUNDINGS[rounding](np.clip(steps, *grid.ends)), np.float64).astype(np.int64)


def bipolar(x: Array) -> Array:
    """1 from 0 on, else -1."""
    return np.where(x >= 0, 1, -1).astype(np.int64)


def truncated(x: Array, scale: Array, zero: Array, factor: float, ends: tuple[int, int] | None, rounding: str) -> Array:
    """Trunc: divide, round, divide by a power of two, clamp where there are ends, round -> int64."""
    with np.errstate(all="ignore"):
        steps = np.nan_to_num(np.round(x / scale + zero)) / factor
    if ends is not None:
        steps = np.clip(steps, *ends)
    return np.asarray(ROUNDINGS[rounding](steps), np.float64).astype(np.int64)
