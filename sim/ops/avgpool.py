"""Average pooling: exact sums over windows, requantized with the number of codes in a window as divisor."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim import reference
from sim.formats import Shape, is_whole
from sim.ops.op import (
    Op,
    PoolWindow,
    check_requant,
    check_shape,
    check_sizes,
    check_sum,
    check_zeros,
    output_side,
    reach_of,
    read,
)
from sim.ops.row import Activation, Row, window_sides
from sim.values import LATER, sizes

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering
    from sim.requantizers import Requantizer


@dataclass(frozen=True)
class AvgPool(Row):
    """Average over windows; padding counts as 0 and the divisor is always the whole window.

    A window has `kernel` rows and `kernel_width` columns, as many as rows if that is 0 (or the same number).

    >>> AvgPool("pool", "conv", kernel=7, kernel_width=4).window, AvgPool("pool", "conv", kernel=7).window
    ((7, 4), (7, 7))
    """

    kind: ClassVar[str] = "avgpool"
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    activation: Activation = field(default_factory=lambda: Activation("boundary"))
    kernel_width: int = field(default=0, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes(kernel=self.kernel, stride=self.stride, padding=self.padding)
        if is_whole(self.kernel_width) and self.kernel_width in (0, self.kernel):
            object.__setattr__(self, "kernel_width", 0)  # one way to say the same
        else:
            self._sizes(kernel_width=self.kernel_width)

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        return self.kernel, self.kernel_width or self.kernel

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """As a convolution's."""
        height, width, channels = shapes[self.source]
        return (*window_sides(self, self.window, height, width), channels)

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation 7 with the number of codes in a window as divisor."""
        rows, columns = self.window
        channels, source = to.shapes[self.name][2], to.format_of(self.source)
        form, step = to.activation(self, self.activation)
        gain = to.scales[self.source] / (rows * columns * step)
        bounds = (rows * columns * source.min, rows * columns * source.max)
        requant, _ = to.requantizer_of(form, np.full(channels, gain), np.zeros(channels), bounds)
        return PoolOp(self.name, self.source, to.shapes[self.name], form, self.kernel, self.stride, self.padding,
                      requant, self.kernel_width), step


@dataclass(frozen=True, eq=False, repr=False)
class PoolOp(PoolWindow, Op):
    """Exact sums over windows of `size` rows and `width` columns (0: as many as rows), requantized.

    They are sums of codes less `source_zero`, the zero point of its input.
    """

    kind: ClassVar[str] = "pool"
    clamps: ClassVar[bool] = True
    size: int
    stride: int
    padding: int
    requant: "Requantizer"
    width: int = field(default=0, metadata=LATER)
    source_zero: int = field(default=0, metadata=LATER)

    @property
    def border(self) -> int:
        """Its padding."""
        return self.padding

    def details(self) -> list[str]:
        """Geometry and requantizer."""
        return [f"window {sizes(self.window)}", f"stride {self.stride}", f"padding {self.padding}", self.requant.name]

    def check(self, before: Mapping[str, Op]) -> None:
        """A requantizer for sums of whole windows."""
        check_sizes(self, size=self.size, stride=self.stride, padding=self.padding, window_width=self.window[1])
        source = read(before, self.source)
        check_zeros(self.source_zero, source)
        sides = (output_side(source.shape[axis], self.window[axis], self.stride, self.padding) for axis in (0, 1))
        check_shape(self, (*sides, source.shape[2]))
        check_sum(math.prod(self.window) * reach_of(source))
        check_requant(self, self.requant, math.prod(self.window) * reach_of(source))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Sums, then the requantizer's rule."""
        sums = reference.window_sums(reference.less(inputs[0], self.source_zero), self.window, self.stride, self.padding)
        return reference.requantize(sums, self, None), None
