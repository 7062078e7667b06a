"""How many examples a property takes, and on which kernels: all, or what `make test` gives to those who wait."""

import os
from collections.abc import Sequence

import pytest
from hypothesis import settings

from sim.kernels.isa import PLAIN, available, runnable

SHARE = float(os.environ.get("BITTRUE_EXAMPLES", "1"))
FEWEST = 5
BRIEF = 0.25
"""Up to this share somebody waits."""


def scaled(count: int) -> int:
    """The share of `count` examples."""
    return max(FEWEST, round(SHARE * count))


def examples(count: int, **others: object) -> settings:
    """`hypothesis.settings` of so many examples where nobody waits."""
    return settings(max_examples=scaled(count), **others)  # type: ignore[arg-type]


def compiling(count: int, **others: object) -> settings:
    """The same where nearly every example compiles kernels of its own, a second each: the fewest where somebody waits."""
    return settings(max_examples=FEWEST if SHARE <= BRIEF else scaled(count), **others)  # type: ignore[arg-type]


def in_turn(rows: Sequence[object], columns: Sequence[object]) -> list[object]:
    """Rows of parameters (row, column): where somebody waits each row has one column, the columns in turn."""
    return [pytest.param(row, column, id=f"{row}-{column}", marks=() if (index - place) % len(columns) == 0 else
                         pytest.mark.exhaustive) for index, row in enumerate(rows) for place, column in enumerate(columns)]


def instruction_sets() -> tuple[str, ...]:
    """Those that are compared with the plain loops; where somebody waits, any processor's and the fastest here."""
    found = runnable()[1:] or (PLAIN,)
    return found if SHARE > BRIEF else tuple(dict.fromkeys((found[0], available()[-1])))
