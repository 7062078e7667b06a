"""Accumulators in their simplest form for one layer: what provably changes neither a sum nor a count is left out.

Contract C7, equations A7 to A9 of ARITHMETIC.md.  A register whose bound fits its range never does anything.  One that wraps
before another one that wraps, as narrow or narrower, changes nothing that the other one keeps: both are homomorphisms of
rings.  What order, and what tile, a single register has that wraps, or takes its sum at once, does not matter.
"""

from dataclasses import dataclass, replace

import numpy as np

from sim.accumulator import END, Accumulator, Stage
from sim.orders import DEFAULT, SORTED


@dataclass(frozen=True)
class Extremes:
    """The smallest and the largest value of every product, int64 [products, channels] in the order that registers see.

    `starts` int64 [channels] are what the last register holds before, 0 if None.
    """

    least: np.ndarray
    most: np.ndarray
    starts: np.ndarray | None = None

    @property
    def products(self) -> int:
        """Of one output."""
        return len(self.most)

    def begins(self, stage: Stage) -> np.ndarray:
        """The product with which each register of a stage begins."""
        return np.arange(0, self.products, self._size(stage))

    def of_registers(self, stage: Stage, is_sorted: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest sum that each register of a stage can ever hold, int64 [registers, channels].

        Only what is below 0 of the smallest values counts, and what is above 0 of the largest: that bounds every sum on the
        way, and what registers before make of it by clipping.  Of sorted products one register has the most of both.
        """
        low, high = np.minimum(self.least, 0), np.maximum(self.most, 0)
        if is_sorted:
            lowest, highest = np.sort(low, axis=0)[: self._size(stage)], np.sort(high, axis=0)[::-1][: self._size(stage)]
            return lowest.sum(0, keepdims=True), highest.sum(0, keepdims=True)
        starts = self.begins(stage)
        return np.add.reduceat(low, starts, axis=0), np.add.reduceat(high, starts, axis=0)

    def _size(self, stage: Stage) -> int:
        return self.products if stage.products == END else min(stage.products, self.products)

    def bounds(self, stage: Stage, is_sorted: bool, is_last: bool) -> tuple[int, int]:
        """The smallest and the largest sum of all registers of a stage, whatever codes and order are."""
        lows, highs = self.of_registers(stage, is_sorted)
        if is_last and self.starts is not None:
            lows, highs = lows + self.starts, highs + self.starts
        return int(lows.min(initial=0)), int(highs.max(initial=0))


def fitting(accumulator: Accumulator, extremes: Extremes) -> list[bool]:
    """Whether the registers of each stage can never leave their range."""
    is_sorted, stages = accumulator.order == SORTED, accumulator.stages
    fits: list[bool] = []
    wild: tuple[int, tuple[int, int]] | None = None  # products and range of what a register that wraps hands on
    for number, stage in enumerate(stages):
        low, high = extremes.bounds(stage, is_sorted, number == len(stages) - 1)
        if wild is not None:
            size = extremes.products if stage.products == END else min(stage.products, extremes.products)
            count = -(-size // (wild[0] or size))
            start = extremes.bounds(stage, is_sorted, is_last=True) if number == len(stages) - 1 else (0, 0)
            low, high = (count * wild[1][0] + min(start[0], 0), count * wild[1][1] + max(start[1], 0))
        form = stage.range
        fits.append(form is None or (form.min <= low and high <= form.max))
        if form is not None and not fits[-1] and (stage.overflow == "wrap" or wild is not None):
            wild = stage.products, (form.min, form.max)
        elif wild is not None:
            wild = stage.products, (low, high)
    return fits


def simplified(accumulator: Accumulator, extremes: Extremes) -> Accumulator:
    """An accumulator with the same sums and overflowed outputs for this layer."""
    stages = accumulator.stages
    kept = [number for number, fits in enumerate(fitting(accumulator, extremes)) if not fits]
    kept = [number for place, number in enumerate(kept) if not _is_repeated(stages, kept[place:])]
    if not kept:
        return Accumulator()
    found: list[Stage] = []
    for number in kept:
        stage = replace(stages[number], tile=_tile(stages, number, found[-1].products if found else 1, extremes.products))
        found.append(stage)
    if found[-1].products != END or (extremes.starts is not None and kept[-1] < len(stages) - 1):
        found.append(Stage(END))
    plain = Accumulator.of(found, accumulator.order)
    return replace(plain, order=DEFAULT) if not plain.before and plain.is_whole(extremes.products) else plain


def _is_repeated(stages: tuple[Stage, ...], kept: list[int]) -> bool:
    """Whether the first of the stages that are kept is done over by the next one."""
    if len(kept) < 2 or stages[kept[0]].overflow != "wrap":
        return False
    first, other = stages[kept[0]], stages[kept[1]]
    assert first.bits is not None
    assert other.bits is not None
    return other.overflow == "wrap" and other.bits <= first.bits


def _tile(stages: tuple[Stage, ...], number: int, received: int, products: int) -> int:
    """The tile of a stage that receives sums of so many products (END: of all), as many products as before.

    END where these are all that there are: in products a tile may be a larger number than a stage can have.
    """
    stage, size = stages[number], stages[number - 1].products if number else 1
    if stage.overflow == "wrap":
        return 1
    if END in (size, stage.tile, received) or stage.tile * size >= products:
        return END
    return stage.tile * size // received
