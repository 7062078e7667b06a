"""Registers that take products one after the other for many outputs at once, and count the bits that change in them."""

from collections.abc import Sequence

import numpy as np

from sim.accumulator import END, Accumulator, Stage


class Registers:
    """Those of an accumulator, for outputs [rows, columns]; of registers that are unlimited `wide` bits are looked at.

    The last begins at `start` as it holds that (equation A3), or 0, all others at 0; loading is not counted.  Bits that
    differ before and after are counted whenever a register is consulted (contract C6): after every tile, which is summed
    exactly in front of it.

    >>> registers = Registers((1, 1), Accumulator(3, "wrap"), wide=9)
    >>> for product in (3, 1, -4):  # 000 -> 011 -> 100 (4 is -4 there) -> 000
    ...     registers.take(np.array([[product]]))
    >>> registers.close().tolist(), registers.toggled
    ([[0]], [6])
    """

    def __init__(self, shape: tuple[int, int], accumulator: Accumulator, wide: int, start: np.ndarray | None = None) -> None:
        self._stages = [_Register(shape, stage, wide) for stage in accumulator.stages]
        if start is not None:
            self._stages[-1].load(start)
        self._sizes = [stage.products for stage in accumulator.stages]
        self._taken = 0

    @property
    def toggled(self) -> list[int]:
        """Bits of each stage so far."""
        return [stage.toggled for stage in self._stages]

    def take(self, products: np.ndarray) -> None:
        """One product of every output, int64 [rows, columns]."""
        self._taken += 1
        self._stages[0].take(products)
        for place, size in enumerate(self._sizes[:-1]):
            if size == END or self._taken % size:
                return
            self._stages[place + 1].take(self._stages[place].hand_on())

    def close(self) -> np.ndarray:
        """What the last register holds after the last product."""
        for place, stage in enumerate(self._stages[:-1]):
            if self._sizes[place] == END or self._taken % self._sizes[place]:
                self._stages[place + 1].take(stage.hand_on())
        return self._stages[-1].close()


class _Register:
    """One of them."""

    def __init__(self, shape: tuple[int, int], stage: Stage, wide: int) -> None:
        self.value, self.toggled = np.zeros(shape, np.int64), 0
        self._pending, self._held = np.zeros(shape, np.int64), 0
        self._form, self._bits, self._tile = stage.range, stage.bits or wide, stage.tile
        self._saturates = stage.overflow == "saturate"

    def load(self, start: np.ndarray) -> None:
        self.value[...] = self._fitted(start)

    def take(self, value: np.ndarray) -> None:
        self._pending += value
        self._held += 1
        if self._held == self._tile:
            self._consult()

    def close(self) -> np.ndarray:
        if self._held:
            self._consult()
        return self.value

    def hand_on(self) -> np.ndarray:
        """What it holds; then it begins anew."""
        value = self.close()
        self.value = np.zeros_like(value)
        return value

    def _consult(self) -> None:
        after = self._fitted(self.value + self._pending)
        self.toggled += toggled(self.value, after, self._bits)
        self.value, self._held = after, 0
        self._pending[...] = 0

    def _fitted(self, sums: np.ndarray) -> np.ndarray:
        if self._form is None:
            return sums
        if self._saturates:
            return np.clip(sums, self._form.min, self._form.max)
        found: np.ndarray = ((sums - self._form.min) & ((1 << self._form.bits) - 1)) + self._form.min
        return found


def paired(products: np.ndarray) -> np.ndarray:
    """Products in the order `sorted`, each output's along the first axis: the largest, the most negative, the next largest.

    >>> paired(np.array([3, 0, -1, 5, 7, -2])).tolist()
    [7, -2, 5, -1, 3, 0]
    """
    rising, count = np.sort(products, axis=0), len(products)
    below, above = (products < 0).sum(0), (products > 0).sum(0)
    place = np.arange(count).reshape(-1, *(1 for _ in products.shape[1:]))
    fall = count - 1 - place  # a product above 0 has so many larger ones before it, one below 0 `place` smaller ones
    of_signs = np.where(rising > 0, fall + np.minimum(fall, below), place + np.minimum(place + 1, above))
    to = np.where(rising == 0, place + above, of_signs)
    found = np.empty_like(products)
    np.put_along_axis(found, to, rising, 0)
    return found


def widths(accumulator: Accumulator, wide: int) -> list[int]:
    """Bits of each register, `wide` where one is unlimited."""
    return [stage.bits or wide for stage in accumulator.stages]


def additions(accumulator: Accumulator, products: int) -> list[int]:
    """How many numbers each register receives of so many products of one output.

    >>> additions(Accumulator(32, before=(Stage(2, 16, "saturate"),)), 9)
    [9, 5]
    """
    sizes: Sequence[int] = [stage.products for stage in accumulator.stages[:-1]]
    return [products, *(1 if size == END else -(-products // size) for size in sizes)]


def toggled(before: np.ndarray, after: np.ndarray, bits: int) -> int:
    """Bits that differ between two arrays of integers, of which each has so many bits in two's complement."""
    different = (before.astype(np.int64) ^ after.astype(np.int64)) & ((1 << bits) - 1)
    return int(np.bitwise_count(different).sum(dtype=np.int64))
