"""Which registers a sweep asks for: widths, rules and tiles as a command line gives them, and every combination."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sim.accumulator import MAX_BITS, MIN_BITS
from sim.arithmetic import Arithmetic
from sim.outputs import EvalError
from sim.text import printable

RULES = ("wrap", "saturate")
"""What a register does with a sum that does not fit; one that stops the run has no accuracy."""
SAME = "same"
"""A boundary register of the width of the others."""
MOST = 10_000
"""Configurations of one sweep."""


@dataclass(frozen=True)
class Configuration:
    """One register of the inner layers, and the requantizer beside it; all as `sim.eval` takes them.

    `boundary` is the width of the register of the first and last layer; None: what it is without a word (unlimited, or that
    of the profile).

    >>> str(Configuration(10, "saturate", "16"))
    '10 bits, saturate, tile 16'
    """

    bits: int
    overflow: str
    tile: str
    boundary: int | None = None
    requant: str | None = None

    def __str__(self) -> str:
        parts = [f"{self.bits} bits", self.overflow, f"tile {self.tile}"]
        parts += [] if self.boundary is None else [f"boundary {self.boundary} bits"]
        return ", ".join([*parts, *([] if self.requant is None else [self.requant])])

    def arithmetic(self, common: Arithmetic) -> Arithmetic:
        """What `sim.eval` would be asked for: these registers, the rest as for all."""
        return Arithmetic(**{**vars(common), "accumulator": self.bits, "boundary_accumulator": self.boundary,
                             "overflow": self.overflow, "tile": self.tile, "requant": self.requant})


def configurations(accumulator: str, overflow: str = "wrap", tile: str = "1", requant: str | None = None,
                   boundary: str | None = None) -> tuple[Configuration, ...]:
    """Every combination, widths from narrow to wide; raises EvalError by the name of the option.

    >>> [str(each) for each in configurations("8:10:2", "saturate", "1,end")]
    ['8 bits, saturate, tile 1', '10 bits, saturate, tile 1', '8 bits, saturate, tile end', '10 bits, saturate, tile end']
    """
    lists = (_requants(requant), words("overflow", overflow, RULES), tiles(tile), widths("accumulator", accumulator))
    found = tuple(Configuration(bits, rule, part, _boundary(boundary, bits), name) for name, rule, part, bits
                  in itertools.product(*lists))
    if len(found) > MOST:
        raise EvalError(f"accumulator: {len(found):,} configurations are more than {MOST:,}, choose fewer widths, rules or "
                        "tiles")
    return found


def widths(option: str, text: str) -> tuple[int, ...]:
    """Widths of a list of numbers and of ranges, both ends included.

    >>> widths("accumulator", "8:10,16,20:24:2")
    (8, 9, 10, 16, 20, 22, 24)
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,3})(?::([0-9]{1,3})(?::([0-9]{1,3}))?)?", part.strip())
        first, last, step = (int(match[1]), int(match[2] or match[1]), int(match[3] or 1)) if match else (0, 0, 0)
        if not (MIN_BITS <= first <= last <= MAX_BITS and step):
            raise EvalError(f"{option}: {printable(repr(part))} is not allowed, choose widths of {MIN_BITS} to {MAX_BITS} "
                            "bits, such as 8:24, 8:24:2 or 8,12,16")
        found |= set(range(first, last + 1, step))
    return tuple(sorted(found))


def words(option: str, text: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Words of a list, each once, all of them allowed."""
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for word in found:
        if word not in allowed:
            more = ": a register that stops the run has no accuracy" if word == "error" else ""
            raise EvalError(f"{option}: {printable(repr(word))} is not allowed, choose from {','.join(allowed)}{more}")
    return found


def tiles(text: str) -> tuple[str, ...]:
    """Tiles of a list: numbers of products, and "end"."""
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for word in found:
        if word != "end" and not re.fullmatch(r"0*[1-9][0-9]{0,8}", word):
            raise EvalError(f"tile: {printable(repr(word))} is not allowed, choose 1 or more products, or end, with commas")
    return tuple(word if word == "end" else str(int(word)) for word in found)


def _requants(text: str | None) -> Iterator[str | None] | list[str | None]:
    if text is None:
        return [None]
    return list(dict.fromkeys(word.strip() for word in text.split(",")))


def _boundary(text: str | None, bits: int) -> int | None:
    if text is None:
        return None
    if text == SAME:
        return bits
    if not re.fullmatch("[0-9]{1,3}", text) or not MIN_BITS <= int(text) <= MAX_BITS:
        raise EvalError(f"boundary-accumulator: {printable(repr(text))} is not allowed, choose {MIN_BITS} to {MAX_BITS} "
                        f"bits, or {SAME} for the width of the other layers")
    return int(text)
