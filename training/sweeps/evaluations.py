"""What a grid asks of its students beside their own evaluation: other hardware, mistakes of teachers, profiles."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

EVERY = "*"
"""As the job of an evaluation: every one whose student is quantized."""
HARDWARE, MISTAKES, PROFILE = KINDS = "hardware", "mistakes", "profile"
"""What may be looked at: sim.eval, training.mistakes, training.profile."""
OPTIONS: Mapping[str, tuple[Any, str]] = MappingProxyType({
    **dict.fromkeys(("bits", "boundary-bits", "activation-bits", "accumulator", "boundary-accumulator", "limit", "batch"),
                    (int, "a whole number, or several in a list")),
    **dict.fromkeys(("overflow", "requant", "quantizer", "softmax", "gelu", "norm"), (str, "a name, or several in a list")),
    "tile": ((int, str), "a number of products or \"end\", or several in a list"), "verify": (bool, "true or false")})
"""Options of sim.eval that an evaluation of hardware may have."""
_OPTIONS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType({
    HARDWARE: tuple(OPTIONS), MISTAKES: ("limit",), PROFILE: ("limit",)})
_KEYS = ("name", "job", "why", "of", "beside")


@dataclass(frozen=True)
class Evaluation:
    """More evaluations of one job: one for every combination of values.  `name` has {job}, {seed} and {option}.

    `of` is what is looked at, `beside` a job whose student the mistakes are compared with, too, as a teacher's.
    """

    name: str
    jobs: tuple[str, ...]
    options: Mapping[str, tuple[Any, ...]]
    of: str = HARDWARE
    beside: str = ""

    def combinations(self) -> Iterator[dict[str, Any]]:
        """The options of each."""
        for values in itertools.product(*self.options.values()):
            yield dict(zip(self.options, values, strict=True))


class Reader(Protocol):
    """Reads values of a file, and refuses them by name."""

    def refuse(self, problem: str, where: str = "") -> NoReturn:
        """Raise an error in one line."""

    def check_keys(self, found: Any, allowed: Collection[str], where: str) -> None:
        """Refuse what is no table, or has other keys."""

    def text(self, table: Mapping[str, Any], key: str, where: str) -> str:
        """Of a key; empty if it is not there."""


def read_evaluations(reader: Reader, tables: Any, jobs: Collection[str]) -> Iterator[Evaluation]:
    """The tables [[evaluations]] of a grid with these jobs."""
    if not isinstance(tables, list):
        reader.refuse("evaluations: each is a table of its own, [[evaluations]]")
    for number, table in enumerate(tables, 1):
        where = f"evaluation {number}"
        reader.check_keys(table, (*OPTIONS, *_KEYS), where)
        of = reader.text(table, "of", where) or HARDWARE
        if of not in KINDS:
            reader.refuse(f"of: {of!r} is unknown, choose one of {', '.join(KINDS)}", where)
        reader.check_keys(table, (*_OPTIONS_OF[of], *_KEYS), f"{where} of {of}")
        asked = table.get("job", EVERY)
        named = tuple(asked) if isinstance(asked, list) else (asked,)
        beside = reader.text(table, "beside", where)
        for name in (*named, *([beside] if beside else [])):
            if name != EVERY and (not isinstance(name, str) or name not in jobs):
                reader.refuse(f"job: {name!r} is no job of this grid, name one or {EVERY!r} for all", where)
        if beside and (of != MISTAKES or beside == EVERY):
            reader.refuse(f"beside: only {MISTAKES} are compared with another job's, name one", where)
        name = reader.text(table, "name", where)
        if not name:
            reader.refuse("name: there is none, give one such as \"accumulator-{job}-{accumulator:02}\"", where)
        options = {key: _values(reader, key, table[key], where) for key in table if key not in _KEYS}
        yield Evaluation(name, named, MappingProxyType(options), of, beside)


def _values(reader: Reader, key: str, value: Any, where: str) -> tuple[Any, ...]:
    kind, what = OPTIONS[key]
    values = tuple(value) if isinstance(value, list) else (value,)
    if not values:
        reader.refuse(f"{key}: an empty list asks for nothing", where)
    for each in values:
        if not isinstance(each, kind) or (isinstance(each, bool) and kind is not bool):
            reader.refuse(f"{key}: {each!r} is not allowed, give {what}", where)
    return values
