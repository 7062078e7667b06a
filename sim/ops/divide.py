"""Division of one tensor by another, in integers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sim import reference
from sim.formats import is_whole
from sim.ops.op import Op, ProgramError, check_rounding, check_sizes, check_sum, reach_of, read_both
from sim.values import LATER


class DivideError(ArithmeticError):
    """A division by 0: which operation."""


@dataclass(frozen=True, eq=False, repr=False)
class DivideOp(Op):
    """clamp(round(a factor / (b other_factor + epsilon)) + zero point), a and b codes less their zero points.

    Each of a (`source`) and b (`other`) may be of one row, column or channel for all.  A denominator of 0 stops the run.
    """

    kind: ClassVar[str] = "divide"
    clamps: ClassVar[bool] = True
    other: str
    rounding: str = "half_away"
    factor: int = 1
    other_factor: int = 1
    epsilon: int = 0
    source_zero: int = field(default=0, metadata=LATER)
    other_zero: int = field(default=0, metadata=LATER)

    def details(self) -> list[str]:
        """What is divided by what."""
        return [f"times {self.factor}, by {self.other} times {self.other_factor} plus {self.epsilon}", self.rounding]

    def check(self, before: Mapping[str, Op]) -> None:
        """Shapes that fit, constants whose products int64 holds."""
        check_sizes(self)
        check_rounding(self.rounding)
        source, other = read_both(self, before)
        if not all(map(is_whole, (self.factor, self.other_factor, self.epsilon))):
            raise ProgramError("its factors and epsilon are whole numbers")
        if not self.other_factor:
            raise ProgramError("it divides by a constant: that is a rescale")
        check_sum(reach_of(source) * abs(self.factor))
        check_sum(reach_of(other) * abs(self.other_factor) + abs(self.epsilon))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Quotients of plain integers."""
        pairs = reference.pairs(reference.less(inputs[0], self.source_zero), reference.less(inputs[1], self.other_zero))
        quotients: Any = []
        for row in pairs:
            quotients.append([])
            for pixel in row:
                denominators = [b * self.other_factor + self.epsilon for _, b in pixel]
                if 0 in denominators:
                    raise DivideError(f"{self.name}: divides by 0")
                quotients[-1].append([reference.rounded(a * self.factor, below, self.rounding)
                                      for (a, _), below in zip(pixel, denominators, strict=True)])
        return reference.clamped(quotients, self), None
