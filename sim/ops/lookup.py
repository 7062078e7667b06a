"""A function of one value, such as SiLU: one code for another, by a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sim.formats import Shape
from sim.functions import FUNCTIONS, SCALED, FunctionError, function_at, table
from sim.ops.op import Op
from sim.ops.requantize import TableOp
from sim.ops.row import Activation, NetworkError, Row
from sim.registry import RegistryError

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Lookup(Row):
    """`function` of each value, one of sim.functions.FUNCTIONS or SCALED, then the activation's codes: any shape, unchanged.

    >>> Lookup("swish", "conv", "silu", Activation(function="none")).function
    'silu'
    """

    kind: ClassVar[str] = "lookup"
    function: str = "relu"
    activation: Activation = field(default_factory=Activation)

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            if self.function not in SCALED:
                FUNCTIONS.known(self.function)
        except RegistryError as error:
            raise NetworkError(f"{self.name}: {error}") from None

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Unchanged."""
        return shapes[self.source]

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation F13: rhe(f((q - z) s) / t), clamped, in float64, for every code q of the input."""
        source = to.format_of(self.source)
        form, step = to.activation(self, self.activation)
        try:
            codes = table(function_at(self.function, to.scales[self.source]), to.scales[self.source], source, step, form,
                          to.ops[self.source].zero_point)
        except FunctionError as error:
            raise NetworkError(str(error)) from None
        return TableOp(self.name, self.source, to.shapes[self.name], form, codes.astype(form.dtype), source.min), step
