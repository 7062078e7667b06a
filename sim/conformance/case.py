"""What a golden case is: a program, what it is given, and the codes that somebody else's arithmetic made of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from sim.program import Program


class UnsupportedError(ValueError):
    """A case outside of what is supported, or one that cannot be read: why, in a few words."""


@dataclass(frozen=True)
class Golden:
    """`given` are codes [N, *shape] by the name of an input; `expected` are codes by the name of a tensor.

    The operation of that name must give them, or the one that `operations` names for it, through the function that `give`
    has for it, if any: real numbers of codes.  The numbers count, in C order: a file may know another shape of the same
    tensor.  `rule` is the arithmetic that the case tries, by the name of a
    requantizer, of a rounding or of a profile.
    """

    rule: str
    program: Program
    given: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]
    operations: Mapping[str, str] = field(default_factory=dict)
    give: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)

    def tensors(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The expected tensors, of what operations gave [N, H, W, C]."""
        found = {name: values[self.operations.get(name, name)] for name in self.expected}
        return {name: self.give[name](array) if name in self.give else array for name, array in found.items()}


@dataclass(frozen=True)
class Case:
    """One case of a family: its name, the operation that it tries, and how to make it.

    `make` reads no more than this case, and raises UnsupportedError where that cannot be done.
    """

    name: str
    operation: str
    make: Callable[[], Golden]


@dataclass(frozen=True)
class Outcome:
    """What came of a case: `tensors` and `codes` compared and how many are `differing`, or the `reason` that it was not run.

    `plain` and `plain_differing` count the codes of those cases that are small enough for the plain integers of
    sim/reference.py, too.  `first` says where the first difference is.
    """

    family: str
    name: str
    operation: str
    rule: str = ""
    tensors: int = 0
    codes: int = 0
    differing: int = 0
    plain: int = 0
    plain_differing: int = 0
    first: str = ""
    reason: str = ""

    @property
    def is_run(self) -> bool:
        """Whether it was compared."""
        return not self.reason

    @property
    def agrees(self) -> bool:
        """Whether no code differs, in either arithmetic."""
        return self.differing == self.plain_differing == 0
