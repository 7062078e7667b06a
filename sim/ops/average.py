"""Average pooling as runtimes of integers have it: an exact sum over a window, divided and rounded."""

from collections.abc import Callable, Mapping, Sequence
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
class WindowAverage(Op):
    """What averages over windows share, whatever they compute with.

    A window has `taps` (rows, columns), moves by `strides` (down, across); `paddings` are top, bottom, left, right, and add
    nothing.  `divisor` says what is counted (DIVISORS).
    """

    clamps: ClassVar[bool] = True
    taps: tuple[int, int]
    strides: tuple[int, int]
    paddings: tuple[int, int, int, int]
    divisor: str

    @property
    def window(self) -> Window:
        """Taps, strides and paddings."""
        return Window(self.taps, self.strides, 1, self.paddings)

    def details(self) -> list[str]:
        """Geometry and divisor."""
        return [f"window {sizes(self.taps)}", f"stride {sizes(self.strides)}",
                f"padding {', '.join(map(str, self.paddings))}", f"divided by the {self.divisor} count"]

    def check(self, before: Mapping[str, Op]) -> None:
        """A code in every window, a known divisor."""
        check_sizes(self)
        check_pairs(taps=self.taps, strides=self.strides)
        check_paddings(self.paddings, self.taps)
        if self.divisor not in DIVISORS:
            raise ProgramError(f"its divisor must be {' or '.join(DIVISORS)}, not {self.divisor!r}")
        source = read(before, self.source)
        check_shape(self, (*self.window.sides(*source.shape[:2]), source.shape[2]))

    def averages(self, x: Any, average: Callable[[Sequence[int], int], int]) -> Any:
        """In plain Python: [row][column][channel] of average(a channel's numbers in a window, their divisor)."""
        size = self.taps[0] * self.taps[1]
        return [[[average(numbers, len(inside) if self.divisor == "valid" else size)
                  for numbers in zip(*inside, strict=True)] for inside in row]
                for row in reference.windows(x, self.taps, self.strides, self.paddings)]


@dataclass(frozen=True, eq=False, repr=False)
class AverageOp(WindowAverage):
    """clamp(round(sum of codes less `source_zero` over a window / count) + zero point); what is around the image adds 0.

    `rounding` says how the quotient is rounded (sim/ops/op.py, ROUNDINGS).
    """

    kind: ClassVar[str] = "average"
    rounding: str
    source_zero: int = field(default=0, metadata=LATER)

    def details(self) -> list[str]:
        """Geometry, divisor and rounding."""
        return [*super().details(), self.rounding]

    def check(self, before: Mapping[str, Op]) -> None:
        """And a known rounding."""
        super().check(before)
        check_rounding(self.rounding)
        check_zeros(self.source_zero, read(before, self.source))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Sum, count, divide, round, clamp."""
        averages = self.averages(reference.less(inputs[0], self.source_zero),
                                 lambda numbers, count: reference.rounded(sum(numbers), count, self.rounding))
        return reference.clamped(averages, self), None
