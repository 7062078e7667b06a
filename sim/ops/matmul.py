"""The product of two activations, as in attention: sums of products of codes through a register, then requantized."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim import reference
from sim.accumulator import Accumulator, bits_for
from sim.formats import IntFormat, Shape, is_whole
from sim.ops.op import MAX_SUM_BITS, Op, ProgramError, check_requant, check_shape, check_sizes, read
from sim.ops.row import Activation, NetworkError, Row, check_role
from sim.values import LATER

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering
    from sim.requantizers import Requantizer

LARGEST_DIVISOR = 1e6


@dataclass(frozen=True)
class MatMul(Row):
    """Matrix products of two activations, one for each head, divided by `divisor`.

    With `transpose` [heads, tokens, depth] times [heads, others, depth], transposed -> [heads, tokens, others]: queries and
    keys.  Without it [heads, tokens, others] times [heads, others, depth] -> [heads, tokens, depth]: weights and values.
    `role` is its register's, as that of a layer.

    >>> shapes = {"q": (2, 5, 8), "k": (2, 7, 8), "v": (2, 7, 4)}
    >>> MatMul("qk", "q", "k").output_shape(shapes)
    (2, 5, 7)
    >>> MatMul("qkv", "qk", "v", transpose=False).output_shape(shapes | {"qk": (2, 5, 7)})
    (2, 5, 4)
    """

    kind: ClassVar[str] = "matmul"
    other: str = ""
    activation: Activation = field(default_factory=lambda: Activation(function="none"))
    divisor: float = 1.0
    transpose: bool = True
    role: str = "inner"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_role(self.role)
        if not isinstance(self.divisor, float) or not 1.0 / LARGEST_DIVISOR <= self.divisor <= LARGEST_DIVISOR:
            raise NetworkError(f"{self.name}: the divisor must be from {1.0 / LARGEST_DIVISOR:g} to {LARGEST_DIVISOR:g}, "
                               f"not {self.divisor!r}")

    @property
    def register_role(self) -> str:
        """It has a register, though no weights."""
        return self.role

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Rows of the first factor, columns of the other."""
        (heads, tokens, depth), other = shapes[self.source], shapes[self.other]
        summed, columns = (other[2], other[1]) if self.transpose else (other[1], other[2])
        if (other[0], summed) != (heads, depth):
            how = "transposed " if self.transpose else ""
            raise NetworkError(f"{self.name}: {shapes[self.source]} times {how}{other} differ in heads or in what is summed")
        return heads, tokens, columns

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation H: equation 6 with both scales, the divisor and no batch norm."""
        sources = [to.ops[name] for name in self.sources()]
        a, b = (to.format_of(name) for name in self.sources())
        form, step = to.activation(self, self.activation)
        depth, columns = to.shapes[self.source][2], to.shapes[self.name][2]
        zeros = tuple(op.zero_point for op in sources)
        gain = to.scales[self.source] * to.scales[self.other] / (self.divisor * step)
        reach = product_reach(a, b, depth, *zeros)
        bounds = product_bounds(a, b, depth) if zeros == (0, 0) else (-reach, reach)
        requant, _ = to.requantizer_of(form, np.full(columns, gain), np.zeros(columns), bounds)
        return MatMulOp(self.name, self.source, to.shapes[self.name], form, self.other, a, b, depth, self.transpose,
                        to.accumulator_of(self, self.role), requant, *zeros), step


def product_bounds(a: IntFormat, b: IntFormat, depth: int) -> tuple[int, int]:
    """Smallest and largest partial sum of `depth` products of codes.

    >>> product_bounds(IntFormat(2, signed=False), IntFormat(2, signed=True), 10)
    (-60, 30)
    """
    products = [x * y for x in (a.min, a.max) for y in (b.min, b.max)]
    return depth * min(0, *products), depth * max(0, *products)


def product_reach(a: IntFormat, b: IntFormat, depth: int, zero: int, other_zero: int) -> int:
    """Magnitude that no sum passes, before or behind the correction for zero points."""
    return depth * (a.reach + abs(zero)) * (b.reach + abs(other_zero))


@dataclass(frozen=True, eq=False, repr=False)
class MatMulOp(Op):
    """Products of codes, summed in an accumulator in the order of depth, requantized by constants per output column.

    [heads, tokens, depth] times [heads, others, depth] if `transpose`, else [heads, depth, others]; `operand` and
    `other_operand` are their formats, `zero` and `other_zero` their zero points z_a and z_b.  The register sees products of
    raw codes, as a convolution's does; behind it the exact correction D z_a z_b - z_a sum(b) - z_b sum(a) is added, which
    makes the sum one of (a - z_a)(b - z_b) wherever the register did not overflow.
    """

    kind: ClassVar[str] = "matmul"
    clamps: ClassVar[bool] = True
    accumulates: ClassVar[bool] = True
    other: str
    operand: IntFormat
    other_operand: IntFormat
    depth: int
    transpose: bool
    accumulator: Accumulator
    requant: "Requantizer"
    zero: int = field(default=0, metadata=LATER)
    other_zero: int = field(default=0, metadata=LATER)

    def details(self) -> list[str]:
        """Formats, register and requantizer."""
        zeros = [f"zero points {self.zero} and {self.other_zero}"] if self.zero or self.other_zero else []
        return [f"{self.operand} x {self.other_operand}", f"times {self.other}{' transposed' if self.transpose else ''}",
                f"depth {self.depth}", *zeros, str(self.accumulator), self.requant.name]

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest partial sum, whatever the inputs."""
        return product_bounds(self.operand, self.other_operand, self.depth)

    @property
    def reach(self) -> int:
        """Magnitude that no sum passes, before or behind the correction for zero points."""
        return product_reach(self.operand, self.other_operand, self.depth, self.zero, self.other_zero)

    @property
    def safe_bits(self) -> int:
        """The accumulator width that can never overflow."""
        return bits_for(*self.bounds)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return math.prod(self.shape) * self.depth

    @property
    def unit(self) -> float:
        """What one of its codes counts as where results of several kinds are compared."""
        return 1.0

    @property
    def factors(self) -> dict[str, Any]:
        """What it multiplies, for records."""
        return {"operand": str(self.operand), "other_operand": str(self.other_operand)}

    def check(self, before: Mapping[str, Op]) -> None:
        """Factors that fit, sums that float64 holds, a requantizer for them."""
        check_sizes(self, depth=self.depth)
        if not isinstance(self.accumulator, Accumulator):
            raise ProgramError("its accumulator must be an Accumulator")
        a, b = read(before, self.source), read(before, self.other)
        if not isinstance(self.transpose, bool) or not is_whole(self.zero) or not is_whole(self.other_zero):
            raise ProgramError("its second factor is transposed or not, and zero points are whole numbers")
        if (a.format, b.format, a.zero_point, b.zero_point) != (
                self.operand, self.other_operand, self.zero, self.other_zero):
            raise ProgramError("its operands are not the formats and zero points of what it reads")
        if self.reach >= 2**MAX_SUM_BITS:
            raise ProgramError(f"its sums can pass {MAX_SUM_BITS} bits, beyond which float64 is not exact")
        summed, columns = (b.shape[2], b.shape[1]) if self.transpose else (b.shape[1], b.shape[2])
        if (a.shape[2], b.shape[0], summed) != (self.depth, a.shape[0], self.depth):
            raise ProgramError("what it reads differs in heads or in depth")
        check_shape(self, (*a.shape[:2], columns))
        check_requant(self, self.requant, self.reach)

    def reference(self, *inputs: Any) -> tuple[Any, list[int]]:
        """Every product in order through the register, the correction, then the requantizer's rule."""
        sums, overflows = reference.matrix_product(
            inputs[0], inputs[1], self.transpose, self.accumulator.plain, (self.zero, self.other_zero))
        return reference.requantize(sums, self, None), overflows
