"""Which registers a sweep asks for: widths, rules and tiles as a command line gives them, and every combination."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sim.accumulator import MAX_BITS, MIN_BITS, AccumulatorError, parse_accumulator
from sim.arithmetic import Arithmetic
from sim.outputs import EvalError
from sim.text import printable

RULES = ("wrap", "saturate")
"""What a register does with a sum that does not fit; one that stops the run has no accuracy."""
SAME = "same"
"""Boundary registers that are those of the other layers."""
SINGLE = "end:B:R:T"
"""One register: B stands for its bits, R for its rule and T for its tile, as in the stages that are given beside it."""
MOST = 10_000
"""Configurations of one sweep."""


@dataclass(frozen=True)
class Configuration:
    """The registers of the inner layers, and the requantizer beside them; all as `sim.eval` takes them.

    `stages` are those of more than one register, with B for the width (and R, T for rule and tile, if they are in it); ""
    is a single register.  `boundary` is the register of the first and last layer, bits or stages; None: what it is without
    a word (unlimited, or that of the profile).

    >>> str(Configuration(10, "saturate", "16")), str(Configuration(12, "wrap", "1", "2:16:saturate,end:B:R"))
    ('10 bits, saturate, tile 16', '2:16:saturate,end:12:wrap')
    """

    bits: int
    overflow: str
    tile: str
    stages: str = ""
    boundary: str | None = None
    requant: str | None = None

    def __str__(self) -> str:
        parts = [self.accumulator] if self.stages else [f"{self.bits} bits", self.overflow, f"tile {self.tile}"]
        parts += [] if self.boundary is None else [f"boundary {self.boundary}"]
        return ", ".join([*parts, *([] if self.requant is None else [self.requant])])

    @property
    def accumulator(self) -> str:
        """Its stages as sim.eval takes them."""
        return _filled(self.stages or SINGLE, str(self.bits), self.overflow, self.tile)

    @property
    def kind(self) -> str:
        """What a line of widths has in common: the stages with B for the width; "" for a single register."""
        return _filled(self.stages, "B", self.overflow, self.tile)

    def arithmetic(self, common: Arithmetic) -> Arithmetic:
        """What `sim.eval` would be asked for: these registers, the rest as for all."""
        boundary = self.boundary if self.boundary is None or ":" in self.boundary else int(self.boundary)
        own: dict[str, Any] = {"accumulator": self.bits, "overflow": self.overflow, "tile": self.tile}
        if self.stages:
            own = {"accumulator": self.accumulator}
        return Arithmetic(**{**vars(common), "boundary_accumulator": boundary, "requant": self.requant, **own})


def configurations(accumulator: str, overflow: str = "wrap", tile: str = "1", requant: str | None = None,
                   boundary: str | None = None, stages: Sequence[str] = ()) -> tuple[Configuration, ...]:
    """Every combination, widths from narrow to wide; raises EvalError by the name of the option.

    `stages` come instead of the single register; "single" among them is that.

    >>> [str(each) for each in configurations("8:10:2", "saturate", "1,end")]
    ['8 bits, saturate, tile 1', '10 bits, saturate, tile 1', '8 bits, saturate, tile end', '10 bits, saturate, tile end']
    """
    lists = (_requants(requant), [_template(text) for text in stages] or [""], words("overflow", overflow, RULES),
             tiles(tile), widths("accumulator", accumulator))
    every = (_told(Configuration(bits, rule, part, template, None, name), boundary) for name, template, rule, part, bits
             in itertools.product(*lists))
    found = tuple(dict.fromkeys(itertools.islice(every, MOST + 1)))
    if len(found) > MOST:
        raise EvalError(f"accumulator: these are more than {MOST:,} configurations, choose fewer widths, rules or tiles")
    return found


def _told(each: Configuration, boundary: str | None) -> Configuration:
    """With its boundary register; of what its stages do not ask for nothing is said."""
    if each.stages:
        letters = _letters(each.stages)
        each = replace(each, overflow=each.overflow if "R" in letters else "-", tile=each.tile if "T" in letters else "-")
    return each if boundary is None else replace(each, boundary=_boundary(boundary, each))


def _template(text: str) -> str:
    """Stages in which B, R and T stand for what is swept, tried with some values."""
    if text.strip() == "single":
        return ""
    if "B" not in _letters(text):
        raise EvalError(f"stages: {printable(repr(text))} has no B, which stands for the width, such as in "
                        "2:16:saturate,end:B:wrap")
    try:
        parse_accumulator(_filled(text, "32", RULES[0], "1"))
    except AccumulatorError as error:
        raise EvalError(f"stages: {printable(str(error).removeprefix('accumulator: '))} (with B 32, R wrap, T 1)") from None
    return text.strip()


def _letters(template: str) -> set[str]:
    return {part for stage in template.split(",") for part in stage.split(":")}


def _filled(template: str, bits: str, overflow: str, tile: str) -> str:
    values = {"B": bits, "R": overflow, "T": tile}
    return ",".join(":".join(values.get(part.strip(), part.strip()) for part in stage.split(":")) for stage in
                    template.split(",")) if template else ""


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


def _boundary(text: str, each: Configuration) -> str:
    if text == SAME:
        return each.accumulator if each.stages else str(each.bits)
    if not re.fullmatch("[0-9]{1,3}", text) or not MIN_BITS <= int(text) <= MAX_BITS:
        raise EvalError(f"boundary-accumulator: {printable(repr(text))} is not allowed, choose {MIN_BITS} to {MAX_BITS} "
                        f"bits, or {SAME} for what the other layers have")
    return str(int(text))
