"""Tensors of codes with the next layer's padding already around them."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sim.formats import Shape
from sim.lazy import cached_property

SLACK_BYTES, SLACK_PIXELS = 64, 3
"""Behind the last pixel: what a kernel which loads whole registers may read."""
CACHE_LINE = 64
"""Tensors begin with one: two threads that write neighboring channels then write to lines of their own."""


@dataclass(frozen=True)
class Padded:
    """`array` [N, H + 2 pad, W + 2 pad, C]; the border is the code that stands for 0 (contract C8)."""

    array: np.ndarray
    pad: int

    @classmethod
    def zeros(cls, images: int, shape: Shape, dtype: np.dtype, pad: int) -> "Padded":
        """All zero, with slack behind it."""
        layout = Layout(shape, np.dtype(dtype), pad)
        return layout.within(np.zeros(layout.room(images), np.uint8), images)

    @classmethod
    def filled(cls, images: int, shape: Shape, dtype: np.dtype, pad: int, zero_point: int) -> "Padded":
        """All `zero_point`."""
        padded = cls.zeros(images, shape, dtype, pad)
        if zero_point:
            padded.array[...] = zero_point
        return padded

    @classmethod
    def of(cls, values: np.ndarray, pad: int, zero_point: int = 0) -> "Padded":
        """A copy of [N, H, W, C] with a border of `zero_point`."""
        padded = cls.filled(len(values), values.shape[1:], values.dtype, pad, zero_point)
        padded.interior[...] = values
        return padded

    def first(self, images: int) -> "Padded":
        """The first images, sharing memory."""
        return Padded(self.array[:images], self.pad)

    @cached_property
    def unsigned(self) -> np.ndarray:
        """The same memory as unsigned integers: kernels are compiled for those only."""
        return self.array.view(np.dtype(f"u{self.array.itemsize}"))

    @property
    def sign(self) -> int:
        """The sign bit of its codes, 0 if they have none: (unsigned ^ sign) - sign is the code."""
        return 1 << (8 * self.array.itemsize - 1) if self.array.dtype.kind == "i" else 0

    def fill_border(self, zero_point: int) -> None:
        """Nothing but `zero_point` around each image."""
        if self.pad:
            _, rows, columns, _ = self.array.shape
            self.array[:, : self.pad] = zero_point
            self.array[:, rows - self.pad :] = zero_point
            self.array[:, self.pad : rows - self.pad, : self.pad] = zero_point
            self.array[:, self.pad : rows - self.pad, columns - self.pad :] = zero_point

    @property
    def interior(self) -> np.ndarray:
        """[N, H, W, C] without the border, sharing memory."""
        _, rows, columns, _ = self.array.shape
        return self.array[:, self.pad : rows - self.pad, self.pad : columns - self.pad]


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in memory: its shape without border, its type, its border and what that holds."""

    shape: Shape
    dtype: np.dtype
    pad: int
    zero_point: int = 0

    @property
    def padded(self) -> Shape:
        """Shape with border."""
        return self.shape[0] + 2 * self.pad, self.shape[1] + 2 * self.pad, self.shape[2]

    @property
    def size(self) -> int:
        """Bytes of one image."""
        rows, columns, channels = self.padded
        return rows * columns * channels * self.dtype.itemsize

    def room(self, images: int) -> int:
        """Bytes of memory for so many images, with what kernels may read behind them."""
        return CACHE_LINE + images * self.size + SLACK_BYTES + SLACK_PIXELS * self.shape[2] * self.dtype.itemsize

    def within(self, memory: np.ndarray, images: int) -> Padded:
        """A tensor in this memory, which is left as it is."""
        start = -memory.ctypes.data % CACHE_LINE
        return Padded(memory[start : start + images * self.size].view(self.dtype).reshape(images, *self.padded), self.pad)


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: in which memory, and whether what was there before may have spoilt its border.

    The first of a run to lie there cannot trust anybody: the run before may have had fewer images, or have stopped.
    """

    slot: int
    layout: Layout
    is_spoilt: bool


class Plan:
    """Which tensors take turns in which memory: those that are never needed at the same time.

    `places` by name; `slots` lists for each memory the layouts that it must hold.  Tensors of one layout follow each other
    where they can, as their borders stay good.
    """

    def __init__(self, lives: Sequence[tuple[str, Layout, int]]) -> None:
        """`lives`: name, layout and the number of the last step that reads it, in the order in which steps write them."""
        self.slots: list[list[Layout]] = []
        owners: list[list[str]] = []
        until: list[int] = []
        at: dict[str, int] = {}
        for step, (name, layout, last) in enumerate(lives):
            free = [slot for slot in range(len(until)) if until[slot] < step]
            if free:
                slot = min(free, key=lambda slot: self._cost(slot, layout))
            else:
                slot = len(until)
                self.slots.append([])
                owners.append([])
                until.append(step)
            self.slots[slot].append(layout)
            owners[slot].append(name)
            until[slot] = max(last, step)
            at[name] = slot
        self._owners = owners
        self.places = self.places_without(())

    def places_without(self, left_out: Container[str]) -> Mapping[str, Place]:
        """Where tensors lie in runs that leave some of them out; their memory is the same."""
        places: dict[str, Place] = {}
        for slot, (names, layouts) in enumerate(zip(self._owners, self.slots, strict=True)):
            before = None
            for name, layout in zip(names, layouts, strict=True):
                if name not in left_out:
                    places[name] = Place(slot, layout, len(set(layouts)) > 1 if before is None else layout != before)
                    before = layout
        return places

    def _cost(self, slot: int, layout: Layout) -> tuple[bool, int, int]:
        """The same layout first, then the memory that grows least, then the smallest."""
        size = max(other.size for other in self.slots[slot])
        return self.slots[slot][-1] != layout, max(layout.size - size, 0), size

    def memory(self, slot: int, images: int) -> np.ndarray:
        """New memory for so many images; all borders are still to be filled."""
        return np.zeros(max(layout.room(images) for layout in self.slots[slot]), np.uint8)

    @property
    def size(self) -> int:
        """Bytes of all memory for one image."""
        return sum(max(layout.size for layout in layouts) for layouts in self.slots)
