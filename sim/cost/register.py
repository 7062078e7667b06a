"""A register that takes products one after the other for many outputs at once, and counts the bits that change in it."""

from typing import Any

import numpy as np

from sim.formats import IntFormat

UNLIMITED_BITS = 63


class Register:
    """What `Accumulator` describes, for outputs [rows, columns]; `bits` of its register, wide enough where it is unlimited.

    It begins at `start`, or 0; loading that is not counted.  Bits that differ before and after are counted whenever it is
    consulted: after every tile of products, which are summed exactly in front of it, and at the end.

    >>> register = Register(shape=(1, 1), bits=3, overflow="wrap", tile=1)
    >>> for product in (3, 1, -4):  # 000 -> 011 -> 100 (4 is -4 there) -> 000
    ...     register.take(np.array([[product]]))
    >>> register.close().tolist(), register.toggled
    ([[0]], 6)
    """

    def __init__(self, shape: tuple[int, int], bits: int, overflow: str, tile: int, start: np.ndarray | None = None) -> None:
        self.value = np.zeros(shape, np.int64)
        if start is not None:
            self.value += start
        self.toggled = 0
        self._form, self._overflow, self._tile = IntFormat(bits, signed=True), overflow, tile
        self._pending, self._held = np.zeros(shape, np.int64), 0

    def take(self, products: np.ndarray) -> None:
        """One product of every output, int64 [rows, columns]."""
        self._pending += products
        self._held += 1
        if self._held == self._tile:
            self._consult()

    def close(self) -> np.ndarray:
        """What it holds after the last product."""
        if self._held:
            self._consult()
        return self.value

    def _consult(self) -> None:
        after = self._limited(self.value + self._pending)
        self.toggled += toggled(self.value, after, self._form.bits)
        self.value, self._held = after, 0
        self._pending[...] = 0

    def _limited(self, sums: np.ndarray) -> np.ndarray:
        low, high = self._form.min, self._form.max
        if self._overflow == "saturate":
            return np.clip(sums, low, high)
        mask = (1 << self._form.bits) - 1
        wrapped: np.ndarray = ((sums - low) & mask) + low
        return wrapped


def toggled(before: Any, after: Any, bits: int) -> int:
    """Bits that differ between two arrays of integers, of which each has so many bits in two's complement."""
    different = (np.asarray(before, np.int64) ^ np.asarray(after, np.int64)) & ((1 << bits) - 1)
    return int(np.bitwise_count(different).sum(dtype=np.int64))
