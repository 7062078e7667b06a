"""Tensors of codes with the next layer's padding already around them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sim.formats import Shape

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
        full = (images, shape[0] + 2 * pad, shape[1] + 2 * pad, shape[2])
        size = int(np.prod(full)) * np.dtype(dtype).itemsize
        slack = SLACK_BYTES + SLACK_PIXELS * shape[2] * np.dtype(dtype).itemsize
        memory = np.zeros(CACHE_LINE + size + slack, np.uint8)
        start = -memory.ctypes.data % CACHE_LINE
        return cls(memory[start : start + size].view(dtype).reshape(full), pad)

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
    def interior(self) -> np.ndarray:
        """[N, H, W, C] without the border, sharing memory."""
        _, rows, columns, _ = self.array.shape
        return self.array[:, self.pad : rows - self.pad, self.pad : columns - self.pad]
