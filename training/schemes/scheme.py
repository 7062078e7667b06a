"""What a scheme is: a plan of training steps, each of which leaves a checkpoint."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

Path = tuple[int, ...]


class SchemeError(ValueError):
    """A scheme, path or width that makes no sense, and what is allowed."""


@dataclass(frozen=True)
class Step:
    """One network to train: its width, and the step before it that it starts and learns from (None: neither)."""

    name: str
    bits: int
    teacher: str | None


@dataclass(frozen=True)
class Scheme:
    """A method by its published name.

    `default_path` gives the precisions for a student of k bits, teacher first; `check` raises SchemeError on a path that
    is not this method.
    """

    name: str
    summary: str
    default_path: Callable[[int], Path]
    check: Callable[[Path], None]

    def plan(self, path: Path) -> list[Step]:
        """The steps of a path, in order; each learns from the one before."""
        if not path or any(low >= high for high, low in itertools.pairwise(path)):
            raise SchemeError(f"path {','.join(map(str, path))} must go down from step to step, for example 32,8,4,2")
        self.check(path)
        names = [f"{bits}bit" for bits in path]
        return [Step(name, bits, teacher) for name, bits, teacher in zip(names, path, [None, *names], strict=False)]
