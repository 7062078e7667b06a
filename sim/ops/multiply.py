"""Multiplication of two rows, code by code: gates, and squeeze-and-excite where one of them is of one pixel."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim import reference
from sim.formats import Shape
from sim.ops.op import Op, check_requant, check_sizes, check_sum, reach_of, read_both
from sim.ops.row import Activation, NetworkError, Row

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering
    from sim.requantizers import Requantizer


@dataclass(frozen=True)
class Multiply(Row):
    """Two rows, multiplied, then an activation; `other` is of the same shape, or of one pixel for all of an image."""

    kind: ClassVar[str] = "multiply"
    other: str = ""
    activation: Activation = field(default_factory=Activation)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """That of `source`."""
        shape, other = shapes[self.source], shapes[self.other]
        if other not in (shape, (1, 1, shape[2])):
            raise NetworkError(f"{self.name}: multiplies {shape} of {self.source} by {other} of {self.other}, which must be "
                               f"{shape} or {(1, 1, shape[2])}")
        return shape

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation B: exact products, on a scale that is the product of both scales."""
        channels = to.shapes[self.name][2]
        source, other = to.format_of(self.source), to.format_of(self.other)
        form, step = to.activation(self, self.activation)
        gain = to.scales[self.source] * to.scales[self.other] / step
        products = [a * b for a in (source.min, source.max) for b in (other.min, other.max)]
        requant, _ = to.requantizer_of(
            form, np.full(channels, gain), np.zeros(channels), (min(products), max(products)))
        return MultiplyOp(self.name, self.source, to.shapes[self.name], form, self.other, requant), step


@dataclass(frozen=True, eq=False, repr=False)
class MultiplyOp(Op):
    """requant((code of `source` less `source_zero`) (code of `other` less `other_zero`)).

    `source_zero` and `other_zero` are the zero points of what it reads; either may be of one row, column or channel for all.
    """

    kind: ClassVar[str] = "multiply"
    clamps: ClassVar[bool] = True
    other: str
    requant: "Requantizer"
    source_zero: int = 0
    other_zero: int = 0

    def details(self) -> list[str]:
        """The other operand and the requantizer."""
        return [f"times {self.other}", self.requant.name]

    @property
    def macs(self) -> int:
        """Products for one image."""
        return math.prod(self.shape)

    def check(self, before: Mapping[str, Op]) -> None:
        """Shapes that fit, and a requantizer for every product."""
        check_sizes(self)
        source, other = read_both(self, before)
        check_sum(reach_of(source) * reach_of(other))
        check_requant(self, self.requant, reach_of(source) * reach_of(other))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Products, then the requantizer's rule."""
        a, b = reference.less(inputs[0], self.source_zero), reference.less(inputs[1], self.other_zero)
        products = [[[code * factor for code, factor in pixel] for pixel in row] for row in reference.pairs(a, b)]
        return reference.requantize(products, self, None), None
