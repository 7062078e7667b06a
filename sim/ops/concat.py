"""Concatenation along channels: every input comes to the common scale by a table of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim.formats import Shape, is_whole
from sim.ops.op import Op, ProgramError, check_kept, check_shape, check_table, format_of, read
from sim.ops.row import Activation, NetworkError, Row
from sim.values import LATER

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Concat(Row):
    """The channels of `source`, then those of `others` in their order; then an activation.

    >>> Concat("joined", "left", ("middle", "right")).sources()
    ('left', 'middle', 'right')
    """

    kind: ClassVar[str] = "concat"
    others: tuple[str, ...] = ()
    activation: Activation = field(default_factory=Activation)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.others, tuple) or not self.others or not all(isinstance(name, str) for name in self.others):
            raise NetworkError(f"{self.name}: others must be names of rows, at least one")

    def sources(self) -> tuple[str, ...]:
        """All."""
        return self.source, *self.others

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The channels of all."""
        height, width, _ = shapes[self.source]
        for name in self.others:
            if shapes[name][:2] != (height, width):
                raise NetworkError(f"{self.name}: {name} is {shapes[name]}, {self.source} {shapes[self.source]}: their "
                                   "height and width must be the same")
        return height, width, sum(shapes[name][2] for name in self.sources())

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation 7, for every code of every input."""
        form, step = to.activation(self, self.activation)
        formats = [to.format_of(name) for name in self.sources()]
        tables = []
        for name, source in zip(self.sources(), formats, strict=True):
            gain = np.array([to.scales[name] / step])
            requant, _ = to.requantizer_of(form, gain, np.zeros(1), (source.min, source.max))
            every = np.arange(source.min, source.max + 1, dtype=np.int64).reshape(1, 1, -1, 1)
            tables.append(requant.codes(every, None, form).ravel())
        return ConcatOp(self.name, self.source, to.shapes[self.name], form, self.others, np.concatenate(tables),
                        tuple(source.min for source in formats), tuple(map(len, tables))), step


@dataclass(frozen=True, eq=False, repr=False)
class ConcatOp(Op):
    """The channels of all inputs side by side (`axis` 2; rows 0, columns 1), each looked up in its own part of `table`.

    Parts stand one after the other and are of `lengths` codes; `least` are the codes that their first entries are for.
    Without parts codes are copied: they must have the format and zero point of the output.
    """

    kind: ClassVar[str] = "concat"
    others: tuple[str, ...]
    table: np.ndarray
    least: tuple[int, ...]
    lengths: tuple[int, ...]
    axis: int = field(default=2, metadata=LATER)

    def details(self) -> list[str]:
        """The other operands."""
        return [f"then {', '.join(self.others)}", *([f"along {'HWC'[self.axis]}"] if self.axis != 2 else [])]

    def sources(self) -> tuple[str, ...]:
        """All."""
        return self.source, *self.others

    def tables(self) -> list[tuple[np.ndarray, int]]:
        """For each input its table, and the code of the first entry."""
        ends = list(accumulate(self.lengths))
        return [(self.table[end - length : end], least)
                for end, length, least in zip(ends, self.lengths, self.least, strict=True)]

    def check(self, before: Mapping[str, Op]) -> None:
        """A code for every code of every input."""
        sources = [read(before, name) for name in self.sources()]
        if self.axis not in (0, 1, 2) or isinstance(self.axis, bool):
            raise ProgramError(f"its axis must be 0, 1 or 2, not {self.axis!r}")
        for source in sources:
            sides = list(source.shape)
            sides[self.axis] = sum(each.shape[self.axis] for each in sources)
            check_shape(self, sides)
        if not self.lengths and not self.least:
            for source in sources:
                check_kept(self, source)
            check_table(self, self.table, (0,))
            return
        formats = [format_of(source) for source in sources]
        if not all(map(is_whole, (*self.least, *self.lengths))) or self.least != tuple(form.min for form in formats) \
                or self.lengths != tuple(form.max - form.min + 1 for form in formats):
            raise ProgramError("the parts of its table do not fit the codes that it reads")
        check_table(self, self.table, (sum(self.lengths),))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Look up, side by side."""
        tables = [(table.tolist(), least) for table, least in self.tables()]
        found = [[[[table[code - least] for code in pixel] for pixel in row] for row in x]
                 for x, (table, least) in zip(inputs, tables, strict=True)] if tables else list(inputs)
        if self.axis == 0:
            return [row for x in found for row in x], None
        if self.axis == 1:
            return [[pixel for x in found for pixel in x[i]] for i in range(self.shape[0])], None
        return [[[code for x in found for code in x[i][j]] for j in range(self.shape[1])]
                for i in range(self.shape[0])], None
