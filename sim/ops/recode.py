"""The same values in codes of a fixed format and step: what a unit of hardware reads, whatever has been learned."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sim.formats import IntFormat, Shape, is_whole
from sim.functions import FUNCTIONS, FunctionError, table
from sim.ops.op import MAX_TABLE_BITS, Op
from sim.ops.requantize import TableOp
from sim.ops.row import NetworkError, Row

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Recode(Row):
    """Signed codes of `bits` bits, each worth `step`: the nearest, ties to even, within the format; any shape, unchanged.

    With the step 0 the largest code stands for what the largest of the input's format does.

    >>> Recode("unit", "scores", 8, 1 / 16).output_shape({"scores": (12, 192, 192)})
    (12, 192, 192)
    """

    kind: ClassVar[str] = "recode"
    bits: int = 8
    step: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.bits) or not 2 <= self.bits <= MAX_TABLE_BITS:
            raise NetworkError(f"{self.name}: bits must be 2 to {MAX_TABLE_BITS}, not {self.bits!r}")
        if not isinstance(self.step, float) or not (math.isfinite(self.step) and self.step >= 0.0):
            raise NetworkError(f"{self.name}: a step is positive and finite, or 0 for the input's range, not {self.step!r}")

    @property
    def format(self) -> IntFormat:
        """Of its codes: narrow, as all signed ones of networks that are trained here."""
        return IntFormat(self.bits, signed=True, narrow=True)

    def step_for(self, scale: float, most: float) -> float:
        """What a code stands for, if the input's stand for `scale` each and none is larger than `most`."""
        return self.step or scale * most / self.format.max

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Unchanged."""
        return shapes[self.source]

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation F13 of the identity."""
        source = to.format_of(self.source)
        step = self.step_for(to.scales[self.source], float(source.max))
        try:
            codes = table(FUNCTIONS["identity"], to.scales[self.source], source, step, self.format,
                          to.ops[self.source].zero_point)
        except FunctionError as error:
            raise NetworkError(str(error)) from None
        return TableOp(self.name, self.source, to.shapes[self.name], self.format, codes.astype(self.format.dtype),
                       source.min), step
