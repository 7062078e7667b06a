"""The same values in another format: one code for another, by a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim.formats import Shape, is_whole
from sim.ops.op import MAX_TABLE_BITS, Op, ProgramError, check_shape, check_table, format_of, read
from sim.ops.row import Activation, Row
from sim.values import LATER

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Requantize(Row):
    """The same values in another format: from the wide residual path to the width of a layer's input."""

    kind: ClassVar[str] = "requantize"
    activation: Activation = field(default_factory=Activation)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Unchanged."""
        return shapes[self.source]

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation 7, for every code of the input."""
        source = to.format_of(self.source)
        form, step = to.activation(self, self.activation)
        gain = np.array([to.scales[self.source] / step])
        requant, _ = to.requantizer_of(form, gain, np.zeros(1), (source.min, source.max))
        every = np.arange(source.min, source.max + 1, dtype=np.int64).reshape(1, 1, -1, 1)
        table = requant.codes(every, None, form).ravel()
        return TableOp(self.name, self.source, to.shapes[self.name], form, table, source.min), step


@dataclass(frozen=True, eq=False, repr=False)
class TableOp(Op):
    """One code for another: `table` [codes of the input], the first of which is `least`."""

    kind: ClassVar[str] = "table"
    table: np.ndarray
    least: int = field(default=0, metadata=LATER)

    def check(self, before: Mapping[str, Op]) -> None:
        """A code for every code."""
        source = read(before, self.source)
        form = format_of(source)
        if not is_whole(self.least) or form.min != self.least:
            raise ProgramError(f"its table begins with code {self.least}, the least that it reads is {form.min}")
        check_shape(self, source.shape)
        if form.bits > MAX_TABLE_BITS:
            raise ProgramError(f"tables are for codes of up to {MAX_TABLE_BITS} bits, {source.name} has {form}: rescale it")
        check_table(self, self.table, (form.max - form.min + 1,))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Look up."""
        table = self.table.tolist()
        return [[[table[code - self.least] for code in pixel] for pixel in row] for row in inputs[0]], None
