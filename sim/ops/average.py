"""Average pooling as runtimes of integers have it: an exact sum over a window, divided and rounded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sim import reference
from sim.ops.op import (
    Op,
    ProgramError,
    Window,
    check_paddings,
    check_pairs,
    check_rounding,
    check_shape,
    check_sizes,
    check_zeros,
    read,
)
from sim.values import LATER, sizes

DIVISORS = ("valid", "window")
"""The codes of a window that lie in the image, or all of it: padding then counts as 0."""


@dataclass(frozen=True, eq=False, repr=False)
class AverageOp(Op):
    """clamp(round(sum of codes less `source_zero` over a window / count) + zero point); what is around the image adds 0.

    A window has `taps` (rows, columns), moves by `strides` (down, across); `paddings` are top, bottom, left, right.
    `divisor` says what is counted (DIVISORS), `rounding` how the quotient is rounded (sim/ops/op.py, ROUNDINGS).
    """

    kind: ClassVar[str] = "average"
    clamps: ClassVar[bool] = True
    taps: tuple[int, int]
    strides: tuple[int, int]
    paddings: tuple[int, int, int, int]
    divisor: str
    rounding: str
    source_zero: int = field(default=0, metadata=LATER)

    @property
    def window(self) -> Window:
        """Taps, strides and paddings."""
        return Window(self.taps, self.strides, 1, self.paddings)

    def details(self) -> list[str]:
        """Geometry, divisor and rounding."""
        return [f"window {sizes(self.taps)}", f"stride {sizes(self.strides)}",
                f"padding {', '.join(map(str, self.paddings))}", f"divided by the {self.divisor} count", self.rounding]

    def check(self, before: Mapping[str, Op]) -> None:
        """A code in every window, a known divisor and rounding."""
        check_sizes(self)
        check_pairs(taps=self.taps, strides=self.strides)
        check_paddings(self.paddings, self.taps)
        check_rounding(self.rounding)
        if self.divisor not in DIVISORS:
            raise ProgramError(f"its divisor must be {' or '.join(DIVISORS)}, not {self.divisor!r}")
        source = read(before, self.source)
        check_zeros(self.source_zero, source)
        check_shape(self, (*self.window.sides(*source.shape[:2]), source.shape[2]))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Sum, count, divide, round, clamp."""
        (rows, columns), (down, across), (top, bottom, left, right) = self.taps, self.strides, self.paddings
        x = reference.less(inputs[0], self.source_zero)
        height, width, channels = len(x), len(x[0]), len(x[0][0])
        result: Any = []
        for first in range(-top, height + bottom - rows + 1, down):
            result.append([])
            for start in range(-left, width + right - columns + 1, across):
                inside = [x[i][j] for i in range(first, first + rows) if 0 <= i < height
                          for j in range(start, start + columns) if 0 <= j < width]
                count = len(inside) if self.divisor == "valid" else rows * columns
                result[-1].append([reference.rounded(sum(pixel[c] for pixel in inside), count, self.rounding)
                                   for c in range(channels)])
        return reference.clamped(result, self), None
