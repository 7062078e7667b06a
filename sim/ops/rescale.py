"""A requantizer applied to codes, one by one: from any width to any other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sim import reference
from sim.ops.op import Op, check_requant, check_shape, check_sizes, check_zeros, reach_of, read
from sim.values import LATER

if TYPE_CHECKING:
    from sim.requantizers import Requantizer


@dataclass(frozen=True, eq=False, repr=False)
class RescaleOp(Op):
    """clamp(R(code less `source_zero`) + zero point); constants are per channel, or one for all.

    What a table (sim/ops/requantize.py) is for codes of few bits, this is for wide ones.
    """

    kind: ClassVar[str] = "rescale"
    clamps: ClassVar[bool] = True
    requant: "Requantizer"
    source_zero: int = field(default=0, metadata=LATER)

    def details(self) -> list[str]:
        """The requantizer."""
        return [self.requant.name]

    def check(self, before: Mapping[str, Op]) -> None:
        """A requantizer for every code."""
        check_sizes(self)
        source = read(before, self.source)
        check_zeros(self.source_zero, source)
        check_shape(self, source.shape)
        check_requant(self, self.requant, reach_of(source))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """The requantizer's rule."""
        return reference.requantize(reference.less(inputs[0], self.source_zero), self, None), None
