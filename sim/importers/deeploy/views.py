"""Tensors of an ONNX graph as tensors of a program: axes that lie in another order, and affines that nobody computed yet.

ONNX has images as [1, C, H, W], programs as (H, W, C).  A view says in which order the axes of an ONNX tensor lie in an
operation's memory; transposing and reshaping make a new view, and copy only what later operations want otherwise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.importers.builder import image_of

Bounds = tuple[int, int]
"""The least and the largest integer that a tensor can hold."""


@dataclass(frozen=True)
class View:
    """An operation's codes as an ONNX tensor of `shape`, whose axes lie in the order `axes` in memory.

    `shape` is for one sample: its first side is 1 where the file has a batch axis.

    >>> image = View("conv", (1, 16, 8, 4), (0, 2, 3, 1), (0, 255))
    >>> image.stored, image.sides, image.transposed((0, 3, 2, 1)).axes
    ((1, 8, 4, 16), (8, 4, 16), (0, 2, 1, 3))
    """

    op: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    bounds: Bounds

    @property
    def stored(self) -> tuple[int, ...]:
        """The sides in memory's order."""
        return tuple(self.shape[axis] for axis in self.axes)

    @property
    def sides(self) -> tuple[int, ...]:
        """The same without the batch axis, where that is the first."""
        return self.stored[1:] if self.axes[:1] == (0,) and self.shape[0] == 1 else self.stored

    @property
    def size(self) -> int:
        """Numbers of one sample."""
        return math.prod(self.shape)

    def transposed(self, order: tuple[int, ...]) -> "View":
        """ONNX's Transpose: nothing moves."""
        return replace(self, shape=tuple(self.shape[axis] for axis in order),
                       axes=tuple(order.index(axis) for axis in self.axes))

    def reshaped(self, shape: tuple[int, ...]) -> "View":
        """ONNX's Reshape of a tensor that lies in its own order."""
        return replace(self, shape=shape, axes=tuple(range(len(shape))))

    def lies(self, axes: tuple[int, ...]) -> bool:
        """Whether memory's order is this one, sides of 1 aside."""
        return self._long(self.axes) == self._long(axes)

    def _long(self, axes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(axis for axis in axes if self.shape[axis] != 1)

    def codes_of(self, given: np.ndarray) -> np.ndarray:
        """Samples of the file's shape, [N, ...] or one without the batch axis's length -> [N, height, width, channels]."""
        rows = given.reshape(-1, *self.shape).transpose(0, *(axis + 1 for axis in self.axes))
        return np.ascontiguousarray(rows).reshape(len(rows), *image_of(self.sides))

    def file_of(self, codes: np.ndarray) -> np.ndarray:
        """The inverse: [N, height, width, channels] -> [N, *shape without the batch axis]."""
        back = [1 + self.axes.index(axis) for axis in range(len(self.axes))]
        rows = codes.reshape(len(codes), *self.stored).transpose(0, *back)
        return rows.reshape(len(rows), *self.shape[1:]) if self.shape[:1] == (1,) else rows


@dataclass(frozen=True)
class Products:
    """An operation with registers that is not written yet: emit(name, requantizer, format, limits) does.

    `kind` is the profile's; `low` and `high` int64 [channels] bound its sums.
    """

    emit: Callable[[str, Any, IntFormat, tuple[int, ...]], str]
    kind: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    low: np.ndarray
    high: np.ndarray

    @property
    def channel(self) -> int:
        """The ONNX axis of its channels, the last in memory."""
        return self.axes[-1]

    @property
    def bounds(self) -> Bounds:
        """Of all sums."""
        return int(self.low.min()), int(self.high.max())


@dataclass(frozen=True)
class Affine:
    """base multiplier + addend, over `divisor`: not computed yet, so that one requantizer can do all of it.

    Constants are int64 arrays that numpy broadcasts to the ONNX shape, of as many axes.  A divisor above 1 leaves numbers
    that are not whole until something rounds them: `floored` says that it was asked for.
    """

    base: View | Products
    multiplier: np.ndarray
    addend: np.ndarray
    divisor: int = 1
    floored: bool = False

    @classmethod
    def of(cls, base: "View | Products | Affine") -> "Affine":
        """The tensor itself."""
        if isinstance(base, Affine):
            return base
        ones = (1,) * len(base.shape)
        return cls(base, np.ones(ones, np.int64), np.zeros(ones, np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        """The base's: constants are spread over it."""
        return self.base.shape

    @property
    def is_plain(self) -> bool:
        """Whether it is its base."""
        return self.divisor == 1 and bool((self.multiplier == 1).all() and (self.addend == 0).all())

    def reduced(self) -> "Affine":
        """Without what divides all constants and the divisor."""
        common = math.gcd(self.divisor, int(np.gcd.reduce(self.multiplier, None)), int(np.gcd.reduce(self.addend, None)))
        return replace(self, multiplier=self.multiplier // common, addend=self.addend // common,
                       divisor=self.divisor // common)

    def varies(self) -> list[int]:
        """ONNX axes along which the constants differ."""
        found = []
        for axis in range(len(self.shape)):
            for part in (self.multiplier, self.addend):
                if part.shape[axis] > 1 and (part != part.take([0], axis)).any() and axis not in found:
                    found.append(axis)
        return found

    def along(self, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Multipliers and addends along one axis, or one of each: int64 [side] or [1]."""
        return tuple(_along(part, axis, 1 if axis is None else self.shape[axis])  # type: ignore[return-value]
                     for part in (self.multiplier, self.addend))


def _along(part: np.ndarray, axis: int | None, side: int) -> np.ndarray:
    """The numbers of an axis where all others have the same."""
    index = tuple(slice(None) if place == axis else 0 for place in range(part.ndim))
    return np.broadcast_to(part[index], (side,)).copy()
