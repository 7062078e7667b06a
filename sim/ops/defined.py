"""Operations that are integer definitions by name: softmax, norms, and other functions of a row of codes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sim import reference
from sim.definitions import Definition
from sim.ops.op import Op, ProgramError, check_shape, check_sizes, check_zeros, format_of, read
from sim.values import LATER

SHIFTLESS = ("softmax",)
"""Kinds of definitions whose results do not change if a constant is added to every code of a row."""


@dataclass(frozen=True, eq=False, repr=False)
class DefinedOp(Op):
    """The channels of every pixel through `definition`, which has its constants: program data (contract C10).

    `source_zero` is taken from codes before: the zero point of what it reads, or 0 for a definition that knows of it.
    """

    kind: ClassVar[str] = "defined"
    definition: Definition
    source_zero: int = field(default=0, metadata=LATER)

    def details(self) -> list[str]:
        """The definition's kind and name."""
        return [f"{self.definition.kind} {self.definition.name} of {self.definition.source}"]

    def check(self, before: Mapping[str, Op]) -> None:
        """A definition from the input's codes to its own, for rows of so many channels."""
        check_sizes(self)
        source = read(before, self.source)
        if not isinstance(self.definition, Definition):
            raise ProgramError("it has no definition")
        if self.source_zero:
            check_zeros(self.source_zero, source)
            form, given = self.definition.source, format_of(source)
            is_fitting = form.min <= given.min - self.source_zero and given.max - self.source_zero <= form.max
        else:
            is_fitting = self.definition.source == source.format
        if not is_fitting or self.definition.target != self.format:
            raise ProgramError(f"{self.definition!r} does not fit codes of {source.format} and {self.format}")
        if self.zero_point != self.definition.zero:
            raise ProgramError(f"the code that stands for 0 is {self.definition.zero}, not {self.zero_point}")
        if source.zero_point and not self.source_zero and self.definition.kind not in SHIFTLESS:
            raise ProgramError(f"{self.definition.name} reads codes with the zero point 0")
        check_shape(self, source.shape)
        self.definition.check(self.shape[2])

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """The definition's own oracle for each row."""
        x = reference.less(inputs[0], self.source_zero)
        return [[list(self.definition.oracle(pixel)) for pixel in row] for row in x], None
