"""Softmax over channels, by an integer definition of one's choice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sim.definitions import SOFTMAXES, DefinitionError
from sim.formats import IntFormat, Shape, is_whole
from sim.ops.defined import DefinedOp
from sim.ops.op import Op
from sim.ops.row import NetworkError, Row, check_role
from sim.registry import RegistryError
from sim.values import LATER

if TYPE_CHECKING:
    from sim.network import Precision
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Softmax(Row):
    """Softmax of the channels of every pixel, one of sim.definitions.SOFTMAXES -> unsigned codes of the width of `role`.

    The definition says what a code stands for: there is nothing to learn.
    """

    kind: ClassVar[str] = "softmax"
    definition: str = "exact"
    role: str = "inner"
    bits: int = field(default=0, metadata=LATER)
    """Of its codes, where the unit that computes it has one width; 0: that of the role."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_role(self.role)
        if self.bits and (not is_whole(self.bits) or not 1 <= self.bits <= 16):
            raise NetworkError(f"{self.name}: bits must be 1 to 16, or 0 for those of its role, not {self.bits!r}")
        try:
            SOFTMAXES.known(self.definition)
        except RegistryError as error:
            raise NetworkError(f"{self.name}: {error}") from None

    def has_role(self, role: str) -> bool:
        """That of its output."""
        return role == self.role and not self.bits

    def width(self, precision: "Precision") -> int:
        """Bits of its codes."""
        own = precision.activation_bits(self.role, self.name)
        return own if precision.is_float or not self.bits else self.bits

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Unchanged."""
        return shapes[self.source]

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """The definition for the scale of the input."""
        scale, source = to.scales[self.source], to.format_of(self.source)
        form = IntFormat(self.width(to.spec.precision), signed=False)
        try:
            definition = SOFTMAXES[self.definition].build(scale, source, form)
            definition.check(to.shapes[self.name][2])
        except DefinitionError as error:
            raise NetworkError(str(error)) from None
        step = definition.output_scale(scale)
        if step is None:
            raise NetworkError(f"codes of {self.definition} are exponents, which no other row reads")
        return DefinedOp(self.name, self.source, to.shapes[self.name], form, definition, zero_point=definition.zero), step
