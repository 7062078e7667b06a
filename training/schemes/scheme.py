"""What a scheme is: a plan of training steps, each of which leaves a checkpoint, and the loss of every step."""

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from sim.network import FLOAT_BITS
from training.schemes.objectives import Objective
from training.schemes.options import PHASES, SchemeError, SchemeOptions, option_name

__all__ = ["PHASES", "Path", "Scheme", "SchemeError", "SchemeOptions", "Step"]  # what schemes are made of, from one place

Path = tuple[int, ...]
@dataclass(frozen=True)
class Step:
    """One network to train.

    It begins with the weights of the step `start` (None: random ones) and learns from that of `teacher` (None: nobody) by
    `objective`; `share` of the run's epochs are its own.  `network` is whose architecture it has, "student" or "teacher".
    A `partner` is a float network that learns beside it: the step that it begins with ("" for random weights); its best
    state becomes a checkpoint of the name `partner_name`.
    """

    name: str
    bits: int
    teacher: str | None
    objective: Objective
    start: str | None = None
    share: float = 1.0
    network: str = "student"
    partner: str | None = None
    trains: bool = True

    @property
    def partner_name(self) -> str:
        """The checkpoint of the partner."""
        return f"{self.name}-teacher"


Plan = Callable[[Path, SchemeOptions], list[Step]]


@dataclass(frozen=True)
class Scheme:
    """A method by its published name.

    `default_path` gives the precisions for a student of k bits, teacher first; `check` raises SchemeError on a path that
    is not this method.  `defaults` are values of the recipe that belong to the method, `uses` the options it reads.
    """

    name: str
    summary: str
    default_path: Callable[[int], Path]
    check: Callable[[Path], None]
    build: Plan
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    uses: frozenset[str] = frozenset()

    def plan(self, path: Path, options: SchemeOptions | None = None) -> list[Step]:
        """The steps of a path, in order."""
        options = SchemeOptions() if options is None else options
        if not path or any(low >= high for high, low in itertools.pairwise(path)):
            raise SchemeError(f"path {','.join(map(str, path))} must go down from step to step, for example 32,8,4,2")
        self.check(path)
        options.check_options()
        for option in fields(SchemeOptions):
            if option.name not in self.uses and getattr(options, option.name) != option.default:
                raise SchemeError(f"{option_name(option.name)}: scheme {self.name} has no such option")
        steps = self.build(path, options)
        _check_steps(self.name, steps, path[-1])
        return steps


def _check_steps(scheme: str, steps: list[Step], bits: int) -> None:
    """Raise SchemeError unless steps read steps before them, have names that can be a file's, and end at the student.

    What is wrong in a plan shows here, and not after hours of training.
    """
    before: set[str] = set()
    if not isinstance(steps, list) or not steps or not all(isinstance(step, Step) for step in steps):
        raise SchemeError(f"{scheme}: its plan is not a list of training.schemes.Step")
    for step in steps:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", step.name) or step.name in (*before, "ckpt", "resume"):
            raise SchemeError(f"{scheme}: a step cannot be called {step.name!r}, or another one is")
        for role in ("start", "teacher", "partner"):
            if (name := getattr(step, role)) and name not in before:
                raise SchemeError(f"{scheme}: {role} {name!r} of step {step.name} is no step before it")
        before |= {step.name} if step.partner is None else {step.name, step.partner_name}
    if steps[-1].bits != bits:
        raise SchemeError(f"{scheme}: the last step, {steps[-1].name}, has {steps[-1].bits} bits, the student {bits}")


def from_float(bits: int) -> Path:
    """The path of schemes that go from a float network to the student in one step."""
    return (FLOAT_BITS, bits)


def check_from_float(name: str) -> Callable[[Path], None]:
    """A check that a path goes from 32 bits to the student."""
    def check(path: Path) -> None:
        if len(path) != 2 or path[0] != FLOAT_BITS:
            raise SchemeError(f"{name} goes from a float network to the student: give --bits, or a path such as 32,2")

    return check


def has_own_teacher(options: SchemeOptions) -> bool:
    """Whether the teacher is another network than the student's float twin."""
    return bool(options.teacher_model or options.teacher_width)
