"""Arrays that others wrote, as [N, height, width, channels]: whatever the order of their axes, whatever their type.

An order is taken if its sides fit; where several do, the one whose numbers differ least from what they are compared with.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.difference.errors import DiffError
from sim.formats import Shape
from sim.text import printable
from sim.tracing import whole

LETTERS = "NHWC"
NEAR = 1e-3
"""A real number this near to a multiple of a scale is that multiple."""


@dataclass(frozen=True)
class Order:
    """Read as sides `before`, axes taken in the order `axes`, read as sides `after`; `told` in words, "" if as it is."""

    told: str
    before: tuple[int, ...]
    axes: tuple[int, ...]
    after: tuple[int, ...]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """[N, H, W, C]."""
        return array.reshape(self.before).transpose(self.axes).reshape(self.after)


def orders(given: tuple[int, ...], shape: Shape) -> list[Order]:
    """Every way to read an array of these sides as images [N, *shape], the likely ones first.

    >>> [order.told for order in orders((2, 16, 8, 8), (8, 8, 16))]
    ['NCHW', 'NCWH']
    >>> [order.told for order in orders((2, 8, 8, 16), (8, 8, 16))][:2], orders((2, 5), (1, 1, 5))[0].told
    (['', 'NWHC'], 'NC')
    >>> orders((3, 3), (8, 8, 16))
    []
    """
    count, rest = divmod(math.prod(given), math.prod(shape))
    if rest or not count:
        return []
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], Order] = {}
    for order in (*_moved(given, (count, *shape)), *_flat(given, count, shape)):
        found.setdefault((order.before, order.axes), order)
    return sorted(found.values(), key=lambda order: order.told not in ("", "NCHW"))


def _moved(given: tuple[int, ...], full: tuple[int, ...]) -> Iterator[Order]:
    """The same axes in another order, those of length 1 left out or not."""
    for sides, target, letters in ((given, full, LETTERS), _without_ones(given, full)):
        if sorted(sides) != sorted(target):
            continue
        for axes in itertools.permutations(range(len(target))):
            if tuple(sides[axis] for axis in axes) == target:
                told = "".join(letters[axes.index(place)] for place in range(len(axes)))
                yield Order("" if sides == full == given and told == LETTERS else told, sides, axes, full)


def _without_ones(given: tuple[int, ...], full: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    letters = "".join(letter for letter, side in zip(LETTERS, full, strict=True) if side != 1)
    return tuple(side for side in given if side != 1), tuple(side for side in full if side != 1), letters


def _flat(given: tuple[int, ...], count: int, shape: Shape) -> Iterator[Order]:
    """All numbers of an image, or of all images, in a row."""
    if len(given) != 1 and given != (count, math.prod(shape)):
        return
    for inner in itertools.permutations(range(3)):
        sides = (count, *(shape[axis] for axis in inner))
        axes = (0, *(inner.index(axis) + 1 for axis in range(3)))
        yield Order("flat, N" + "".join("HWC"[axis] for axis in inner), sides, axes, (count, *shape))


def fitted(name: str, array: np.ndarray, shape: Shape, expected: np.ndarray) -> tuple[Order, np.ndarray]:
    """An array as [N, *shape] in the order in which it differs least from `expected` [n, *shape], its first images.

    Raises DiffError if there is no order.
    """
    ways = orders(array.shape, shape)
    if not ways:
        wanted = ", ".join(map(str, shape))
        raise DiffError(f"{printable(name)}: the array is {list(array.shape)}, no [N, {wanted}] in any order of axes")
    read = [(order, order.apply(array)) for order in ways]
    if len(read) == 1:
        return read[0]
    return min(read, key=lambda pair: _differing(pair[1][: len(expected)], expected))  # of equal ones the first


def _differing(array: np.ndarray, expected: np.ndarray) -> int:
    part = expected[: len(array)]
    return int((array != part).sum())


def codes(name: str, array: np.ndarray, scale: float | None, zero: int) -> tuple[np.ndarray, str]:
    """Numbers of any type as whole ones, and in words what was done: real values are divided by what a code stands for.

    Raises DiffError for real numbers that are no multiples of `scale`.
    """
    if array.dtype.kind in "bu":
        return array.astype(np.int64), ""
    plain = whole(array)
    if plain.dtype.kind == "i":
        return plain.astype(np.int64), ""
    steps = array.astype(np.float64) / scale if scale else array.astype(np.float64)
    if not np.isfinite(steps).all() or np.abs(steps - np.rint(steps)).max() > NEAR:
        tried = f", nor of {scale:g}, which a code stands for there" if scale else ""
        raise DiffError(f"{printable(name)}: its numbers are no whole ones{tried}: write codes")
    return np.rint(steps).astype(np.int64) + zero, f"real numbers, {scale:g} for a code"
