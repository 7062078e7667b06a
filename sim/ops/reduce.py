"""Sums and means over axes of an image."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sim import reference
from sim.ops.op import (
    Op,
    ProgramError,
    check_requant,
    check_rounding,
    check_shape,
    check_sizes,
    check_sum,
    check_zeros,
    reach_of,
    read,
)
from sim.values import LATER

if TYPE_CHECKING:
    from sim.requantizers import Requantizer

RULES = ("sum", "mean")


@dataclass(frozen=True, eq=False, repr=False)
class ReduceOp(Op):
    """Sums of codes less `source_zero` over `axes` of (height, width, channels), whose sides become 1.

    `rule` is "sum", or "mean": the sum divided by how many there are, rounded by `rounding`.  Then the requantizer if there
    is one, the zero point, the clamp.
    """

    kind: ClassVar[str] = "reduce"
    clamps: ClassVar[bool] = True
    axes: tuple[int, ...]
    rule: str
    rounding: str = "half_away"
    requant: "Requantizer | None" = None
    source_zero: int = field(default=0, metadata=LATER)

    def details(self) -> list[str]:
        """The rule and its axes."""
        return [f"{self.rule} over {' '.join('HWC'[axis] for axis in self.axes)}",
                *([self.rounding] if self.rule == "mean" else []), *([self.requant.name] if self.requant else [])]

    def count(self, shape: tuple[int, ...]) -> int:
        """How many numbers of an input of `shape` are added."""
        return math.prod(shape[axis] for axis in self.axes)

    def check(self, before: Mapping[str, Op]) -> None:
        """Axes that there are, and a requantizer for every sum or mean."""
        check_sizes(self)
        source = read(before, self.source)
        check_zeros(self.source_zero, source)
        if not isinstance(self.axes, tuple) or not self.axes or list(self.axes) != sorted(set(self.axes) & {0, 1, 2}):
            raise ProgramError(f"its axes must be of 0, 1 and 2, in this order, not {self.axes!r}")
        if self.rule not in RULES:
            raise ProgramError(f"its rule must be {' or '.join(RULES)}, not {self.rule!r}")
        check_rounding(self.rounding)
        check_shape(self, [1 if axis in self.axes else side for axis, side in enumerate(source.shape)])
        reach = reach_of(source) * self.count(source.shape)
        check_sum(reach)
        if self.requant is not None:
            check_requant(self, self.requant, reach if self.rule == "sum" else reach_of(source))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Add, divide, requantize."""
        x = reference.less(inputs[0], self.source_zero)
        shape = len(x), len(x[0]), len(x[0][0])
        totals = [[[0] * self.shape[2] for _ in range(self.shape[1])] for _ in range(self.shape[0])]
        for i, row in enumerate(x):
            for j, pixel in enumerate(row):
                for c, code in enumerate(pixel):
                    place = [0 if axis in self.axes else index for axis, index in enumerate((i, j, c))]
                    totals[place[0]][place[1]][place[2]] += code
        if self.rule == "mean":
            totals = [[[reference.rounded(total, self.count(shape), self.rounding) for total in pixel] for pixel in row]
                      for row in totals]
        return (reference.clamped(totals, self) if self.requant is None else reference.requantize(totals, self, None)), None
