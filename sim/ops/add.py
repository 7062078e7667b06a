"""Addition: residuals that meet in an operation of their own, with a scale each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim import reference
from sim.formats import Shape
from sim.ops.op import Op, ProgramError, check_requant, check_sizes, reach_of, read_both
from sim.ops.row import Activation, NetworkError, Row

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering
    from sim.requantizers import Requantizer


@dataclass(frozen=True)
class Add(Row):
    """Two rows of one shape, summed, then an activation.

    >>> Add("sum", "conv", "block", Activation("skip", function="none")).sources()
    ('conv', 'block')
    """

    kind: ClassVar[str] = "add"
    other: str = ""
    activation: Activation = field(default_factory=Activation)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Unchanged."""
        if shapes[self.source] != shapes[self.other]:
            raise NetworkError(f"{self.name}: adds {shapes[self.source]} of {self.source} and {shapes[self.other]} of "
                               f"{self.other}, they must be of one shape")
        return shapes[self.source]

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation A: the first as a sum, the second as its residual."""
        source, channels = to.format_of(self.source), to.shapes[self.name][2]
        form, step = to.activation(self, self.activation)
        gain, skip = to.scales[self.source] / step, (to.scales[self.other] / step, to.format_of(self.other))
        requant, _ = to.requantizer_of(
            form, np.full(channels, gain), np.zeros(channels), (source.min, source.max), skip)
        return AddOp(self.name, self.source, to.shapes[self.name], form, self.other, requant), step


@dataclass(frozen=True, eq=False, repr=False)
class AddOp(Op):
    """requant(sum = code of `source` less `source_zero`, residual = code of `other` less `other_zero`).

    `source_zero` and `other_zero` are the zero points of what it reads; either may be of one row, column or channel for all.
    """

    kind: ClassVar[str] = "add"
    clamps: ClassVar[bool] = True
    other: str
    requant: "Requantizer"
    source_zero: int = 0
    other_zero: int = 0

    def details(self) -> list[str]:
        """The other operand and the requantizer."""
        return [f"plus {self.other}", self.requant.name]

    def check(self, before: Mapping[str, Op]) -> None:
        """Two of one shape or spread to one, and a requantizer for the codes of the first."""
        check_sizes(self)
        source, other = read_both(self, before)
        if reach_of(other) >= 2**31:
            raise ProgramError(f"residuals have 32 bits, {other.name} less its zero point can have more")
        check_requant(self, self.requant, reach_of(source))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """The requantizer's rule with a residual."""
        both = reference.pairs(reference.less(inputs[0], self.source_zero), reference.less(inputs[1], self.other_zero))
        a, b = ([[[pair[side] for pair in pixel] for pixel in row] for row in both] for side in (0, 1))
        return reference.requantize(a, self, b), None
