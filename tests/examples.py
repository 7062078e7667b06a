"""How many examples a property takes: all of them, or the share that `make test` gives to those who wait."""

import os

from hypothesis import settings

SHARE = float(os.environ.get("BITTRUE_EXAMPLES", "1"))
FEWEST = 5


def scaled(count: int) -> int:
    """The share of `count` examples."""
    return max(FEWEST, round(SHARE * count))


def examples(count: int, **others: object) -> settings:
    """`hypothesis.settings` of so many examples where nobody waits."""
    return settings(max_examples=scaled(count), **others)  # type: ignore[arg-type]
