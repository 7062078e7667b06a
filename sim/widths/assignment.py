"""A width for the register of each layer, as narrow as can be while the network keeps its accuracy.

First layer by layer, in the order in which they run: each gets the narrowest register, found by bisection, with which the
network so far has lost no more than its part of what may be lost; later layers have no limit meanwhile.  Then every layer is
tried with one bit less, those with the most outputs first, until no layer can lose another bit: any single bit less than
what remains costs more than what may be lost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from sim.accumulator import MIN_BITS, Accumulator
from sim.machine import MOST_IMAGES
from sim.program import Program
from sim.sweep.plan import Run, Runs
from sim.sweep.track import Track, bytes_of
from sim.testset import Examples

Widths = Mapping[str, int]
"""Bits by layer."""
Progress = Callable[[str, int], None]
"""Told a layer and how many evaluations there were."""


class Trials:
    """How many of some images a program without limits gets right on registers of one rule and tile, whatever their widths.

    The images stay as they are without limits, as many as `memory` MiB hold; others are run anew each time.
    """

    def __init__(self, base: Program, examples: Examples, register: Accumulator, isa: str, memory: int) -> None:
        self._runs, self._examples, self._register = Runs(base), examples, register
        count, size = len(examples.labels), bytes_of(base)
        self._images = max(1, min(MOST_IMAGES, count, (memory << 20) // (2 * size)))
        room = max(1, (memory << 20) // (self._images * size))
        track = Track(base, {op.name for op in base.accumulating}, self._images, isa)
        parts = range(0, count, self._images)
        self._tracks = [track, *(track.another() for _ in parts[1:room])]
        self._begun: dict[int, int] = {}
        """Which images each track has."""
        self._known: dict[str, int] = {}
        self.free = self.right({})

    def right(self, widths: Widths) -> int:
        """Of images, with registers of these widths; layers that are not named have no limit."""
        run = self._runs.of({name: replace(self._register, bits=bits) for name, bits in widths.items()})
        if run.key not in self._known:
            self._known[run.key] = sum(self._part(number, run) for number in range(-(-len(self._examples.labels)
                                                                                     // self._images)))
        return self._known[run.key]

    @property
    def evaluations(self) -> int:
        """How many different registers were run."""
        return len(self._known)

    def _part(self, number: int, run: Run) -> int:
        first, last = number * self._images, (number + 1) * self._images
        place = min(number, len(self._tracks) - 1)
        track = self._tracks[place]
        if self._begun.get(place) != number:
            track.begin(self._examples.pixels[first:last])
            self._begun[place] = number
        return int((track.run(run.registers).logits.argmax(1) == self._examples.labels[first:last]).sum())


@dataclass(frozen=True)
class Assignment:
    """Bits of every layer's register; images that are right with them and without limits, of those they were chosen on."""

    widths: Widths
    right: int
    free: int
    images: int
    evaluations: int


def assign(trials: Trials, base: Program, images: int, loss: float, progress: Progress | None = None) -> Assignment:
    """The widths of all layers that lose at most `loss` points of accuracy on the images of the trials."""
    tell = progress or (lambda layer, count: None)
    allowed = Fraction(str(loss)) * images / 100
    widths: dict[str, int] = {}
    layers = base.accumulating
    for number, op in enumerate(layers, 1):
        tell(op.name, trials.evaluations)
        widths[op.name] = _narrowest(trials, widths, op, allowed * number / len(layers))
    order = sorted(layers, key=lambda op: -int(np.prod(op.shape)))
    while any([_is_narrowed(trials, widths, op.name, allowed, tell) for op in order]):
        pass
    return Assignment(widths, trials.right(widths), trials.free, images, trials.evaluations)


def _narrowest(trials: Trials, before: Widths, op: Any, allowed: Fraction) -> int:
    """By bisection between the narrowest register that there is and one that never overflows."""
    name, low, high = op.name, MIN_BITS, max(MIN_BITS, op.safe_bits)
    while low < high:
        middle = (low + high) // 2
        if trials.free - trials.right({**before, name: middle}) <= allowed:
            high = middle
        else:
            low = middle + 1
    return high


def _is_narrowed(trials: Trials, widths: dict[str, int], name: str, allowed: Fraction, tell: Progress) -> bool:
    """Take bits of one layer as long as nothing is lost that may not be; whether there were any."""
    before = widths[name]
    while widths[name] > MIN_BITS:
        tell(name, trials.evaluations)
        if trials.free - trials.right({**widths, name: widths[name] - 1}) > allowed:
            break
        widths[name] -= 1
    return widths[name] < before
