"""The input of a program that was read from a file: integers as they come."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.inputs import accept_codes
from sim.ops.op import Op, check_sizes, format_of
from sim.values import sizes


@dataclass(frozen=True, eq=False, repr=False)
class CodesInputOp(Op):
    """Codes [N, *shape] of its format, whose zero point it names; sides of 1 may be left out of what is handed over."""

    kind: ClassVar[str] = "codes"
    is_input: ClassVar[bool] = True
    reads: ClassVar[str] = "codes"

    @property
    def given(self) -> str:
        """Codes."""
        return f"{sizes(self.shape)} {self.format} codes"

    def accept(self, given: Any) -> np.ndarray:
        """Integers [N, *shape] of any type whose values fit -> codes of the format's type."""
        return accept_codes(self.name, given, self.shape, format_of(self))

    def check(self, before: Any) -> None:
        """A shape."""
        check_sizes(self)

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """The codes."""
        return inputs[0], None
