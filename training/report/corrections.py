"""Intervals and p values of paired differences, as they are and corrected for how many there are in a family.

Bonferroni's intervals hold all at once with 95 %; Holm's p values are those of his step-down procedure, which finds whatever
Bonferroni's does and more.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from scipy import special

LEVEL = 0.95


def half_width(deviation: float, n: int, level: float = LEVEL) -> float:
    """Of the t interval of a mean; not a number for less than two."""
    return float(special.stdtrit(n - 1, 0.5 + level / 2)) * deviation / math.sqrt(n) if n > 1 else float("nan")


def p_value(mean: float, deviation: float, n: int) -> float:
    """Of Student's t test that the mean is 0, two-sided; not a number for less than two."""
    if n < 2:
        return float("nan")
    if not deviation:
        return float(mean == 0.0)
    return float(2.0 * special.stdtr(n - 1, -abs(mean) * math.sqrt(n) / deviation))


def holm(values: list[float]) -> list[float]:
    """Adjusted p values, in the same order.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        largest = max(largest, min(1.0, values[index] * (len(values) - rank)))
        adjusted[index] = largest
    return adjusted


def with_corrections(rows: Iterable[Mapping[str, Any]], family: Callable[[Mapping[str, Any]], Hashable]
                     ) -> list[dict[str, Any]]:
    """Rows of `paired` with their p value, the size of their family, its corrected interval, p value and verdict."""
    found = [{**row, "p": p_value(row["difference"], row["deviation"], row["n"])} for row in rows]
    families: dict[Hashable, list[dict[str, Any]]] = {}
    for row in found:
        if row["n"] > 1:
            families.setdefault(family(row), []).append(row)
    for row in found:
        row |= {"comparisons": 1, "corrected low": float("nan"), "corrected high": float("nan"), "corrected p": row["p"],
                "corrected verdict": verdict(row["difference"], row["p"])}
    for members in families.values():
        size = len(members)
        for row, p in zip(members, holm([row["p"] for row in members]), strict=True):
            half = half_width(row["deviation"], row["n"], 1.0 - (1.0 - LEVEL) / size)
            row |= {"comparisons": size, "corrected low": row["difference"] - half,
                    "corrected high": row["difference"] + half, "corrected p": p,
                    "corrected verdict": verdict(row["difference"], p)}
    return found


def verdict(difference: float, p: float) -> str:
    """Whether a difference exceeds noise."""
    if math.isnan(p):
        return "one seed"
    return "within noise" if p >= 1.0 - LEVEL else "better" if difference > 0 else "worse"


def both_verdicts(plain: str, corrected: str) -> str:
    """In one cell: with a star what is no longer so after correction."""
    return plain if plain == corrected else f"{plain}*"


def interval_text(low: float, high: float) -> str:
    """"-" where one seed has none."""
    return "-" if math.isnan(low) else f"{low:+.2f} to {high:+.2f}"


def p_text(p: float) -> str:
    """Three digits, or what it is below."""
    return "-" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"
