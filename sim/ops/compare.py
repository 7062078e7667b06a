"""The larger or the smaller of two codes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sim import reference
from sim.ops.op import Op, ProgramError, broadcast_shape, check_kept, check_shape, check_sizes, read

RULES = ("maximum", "minimum")


@dataclass(frozen=True, eq=False, repr=False)
class MinMaxOp(Op):
    """The larger ("maximum") or smaller ("minimum") code of `source` and `other`, of one format, zero point and scale.

    Either may be of one row, column or channel for all.
    """

    kind: ClassVar[str] = "compare"
    other: str
    rule: str

    def details(self) -> list[str]:
        """The rule."""
        return [f"{self.rule} with {self.other}"]

    def check(self, before: Mapping[str, Op]) -> None:
        """Two tensors of codes that can be compared."""
        check_sizes(self)
        source, other = read(before, self.source), read(before, self.other)
        check_kept(self, source)
        check_kept(self, other)
        check_shape(self, broadcast_shape(source, other))
        if self.rule not in RULES:
            raise ProgramError(f"its rule must be {' or '.join(RULES)}, not {self.rule!r}")

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """One of both."""
        choose = max if self.rule == "maximum" else min
        return [[[choose(pair) for pair in pixel] for pixel in row] for row in reference.pairs(*inputs)], None
