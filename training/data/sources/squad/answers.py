"""Where in a context an answer stands, if it occurs several times and nobody has written down which one is meant.

Of a file without `occurrences` the place is believed if the answer stands there.  Otherwise, of all occurrences that are not
parts of longer words (all, if there are none), the one whose sentence has the most words of the question; of several the one
whose neighbourhood of NEAR characters to each side has the most; of equal ones the first.
"""

import re

from sim.tasks.answers import normalized
from training.data.sources.squad.files import Answer

NEAR = 60
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_COMMON = ("of in on at to for from by with and or is was were are be been did do does has have had what which who whom "
           "whose when where why how that this these those it its as than many much name")
COMMON = frozenset(_COMMON.split(" "))
"""Words of questions that say nothing about a place."""


def place_of(answer: Answer, context: str, question: str) -> int | None:
    """The character at which the answer begins; None if it does not stand in the context."""
    if not answer.text:
        return None
    is_there = context.startswith(answer.text, answer.start)
    if is_there and not answer.is_first:
        return answer.start
    found = occurrences(answer.text, context)
    if len(found) < 2:
        return found[0] if found else None
    wanted = words_of(question) - words_of(answer.text)
    bounds = sentences(context)

    def likeness(start: int) -> tuple[int, int, int]:
        end = start + len(answer.text)
        first = max(begin for begin, _ in bounds if begin <= start)
        last = min(stop for _, stop in bounds if stop >= end)
        near = context[max(0, start - NEAR) : end + NEAR]
        return len(wanted & words_of(context[first:last])), len(wanted & words_of(near)), -start

    return max(found, key=likeness)


def occurrences(text: str, context: str) -> list[int]:
    """Where a text begins in another, overlaps included; those within longer words only if there are no others.

    >>> occurrences("19", "In 1973, 19 of 1990")
    [9]
    """
    found, start = [], context.find(text)
    while start >= 0:
        found.append(start)
        start = context.find(text, start + 1)
    whole = [start for start in found if _is_whole(context, start, start + len(text))]
    return whole or found


def _is_whole(context: str, start: int, end: int) -> bool:
    before, behind = context[start - 1 : start + 1] if start else "", context[end - 1 : end + 1]
    return not (before.isalnum() and len(before) == 2) and not (behind.isalnum() and len(behind) == 2)


def sentences(context: str) -> list[tuple[int, int]]:
    """Begin and end of each sentence, side by side.

    >>> sentences("It rose. To $3 (U.S. prices).")
    [(0, 9), (9, 21), (21, 29)]
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(context)]
    starts = [0, *ends]
    return list(zip(starts, [*ends, len(context)], strict=True))


def words_of(text: str) -> frozenset[str]:
    """Its words, as answers are compared, without common ones."""
    return frozenset(normalized(text).split()) - COMMON
