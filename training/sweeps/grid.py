"""A grid as its TOML file says it.  What a key means is in training/README.md; what follows from the values is plan.py's."""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from sim.text import printable
from training.options import OPTIONS
from training.sweeps.evaluations import Evaluation, read_evaluations

BUILT_IN = Path(__file__).resolve().parent.parent / "grids"
ENDING = ".toml"
TOLD = frozenset({"out", "resume", "seed", "config", "log", "tensorboard", "save_minutes"})
"""Options that a sweep sets itself, or that change no result."""
JOB_OPTIONS: Mapping[str, str] = MappingProxyType({
    option.text: name for name, option in OPTIONS.items() if name not in TOLD})
"""As on the command line -> as in Python."""
_GRID_KEYS = ("title", "why", "hours", "left-out", "seeds", "equal-compute", "settings", "jobs", "evaluations")
_JOB_KEYS = ("seeds", "why", "unequal")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class GridError(ValueError):
    """A grid that cannot be run: its file, the job, the key, and what is allowed."""


@dataclass(frozen=True)
class Job:
    """One network for every seed.  `options` are those of training.run by their Python names, as the file has them."""

    name: str
    options: Mapping[str, Any]
    seeds: tuple[int, ...] | None = None
    why: str = ""
    unequal: str = ""
    """Why its compute is not that of the others, where a grid says what is equal."""


@dataclass(frozen=True)
class EqualCompute:
    """What is equal in words, and the epochs along the path of every quantized student (0: no number is promised)."""

    words: str = ""
    epochs: int = 0


@dataclass(frozen=True)
class Grid:
    """Jobs by name in the order of the file, with the settings that they share."""

    file: Path
    jobs: Mapping[str, Job]
    settings: Mapping[str, Any]
    seeds: tuple[int, ...] = (0,)
    evaluations: tuple[Evaluation, ...] = ()
    title: str = ""
    why: str = ""
    hours: float | None = None
    left_out: tuple[str, ...] = ()
    equal_compute: EqualCompute = EqualCompute()
    changes: tuple[str, ...] = ()
    """Settings that are not those of the file, as `with_settings` was given them."""

    @cached_property
    def name(self) -> str:
        """By which folders of runs and records are called."""
        return self.file.name.removesuffix(ENDING)

    def refuse(self, problem: str, job: str = "") -> NoReturn:
        """Raise GridError in one line."""
        raise GridError(printable(f"{self.file}: " + (f"job {job}: " if job else "") + problem))


def built_in() -> list[str]:
    """The names of the grids that come with the package."""
    return sorted(file.name.removesuffix(ENDING) for file in BUILT_IN.glob(f"*{ENDING}"))


def find_grid(name: str) -> Grid:
    """A grid by the name of a built-in one, or by its file ("mine.toml", "grids/mine").  Raises GridError or OSError."""
    if name in built_in():
        return read_grid(BUILT_IN / f"{name}{ENDING}")
    if name.endswith(ENDING) or "/" in name:
        return read_grid(Path(name))
    near = difflib.get_close_matches(name, built_in(), 1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(built_in())}"
    raise GridError(f"unknown sweep {printable(repr(name))}, {hint}; or name a file of your own, such as grid{ENDING}")


def with_settings(grid: Grid, changes: Sequence[str]) -> Grid:
    """The grid with other settings, each "option=value" with a value as in its file, or a bare text.  Raises GridError."""
    settings = dict(grid.settings)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            grid.refuse(f"set: {change!r} is not of the form option=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, KeyError):
            value = text
        settings |= Reader(grid.file).options({key: value}, "set")
    return replace(grid, settings=MappingProxyType(settings), changes=(*grid.changes, *changes))


def read_grid(file: Path) -> Grid:
    """The grid of a file, checked as far as its own text goes.  Raises GridError or OSError."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GridError(printable(f"{file}: no TOML: {' '.join(str(error).split())}")) from None
    reader = Reader(file)
    if not NAME.fullmatch(file.name.removesuffix(ENDING)):
        reader.refuse("a grid's file needs a name of letters, digits, '.', '_' and '-', which its folders have, too")
    reader.check_keys(content, _GRID_KEYS, "")
    jobs = reader.jobs(content.get("jobs"))
    return Grid(
        file, MappingProxyType(jobs), MappingProxyType(reader.options(content.get("settings", {}), "settings")),
        reader.seeds(content.get("seeds", 1), ""), tuple(read_evaluations(reader, content.get("evaluations", []), jobs)),
        reader.text(content, "title", ""), reader.text(content, "why", ""), reader.hours(content),
        reader.left_out(content.get("left-out", [])), reader.equal_compute(content.get("equal-compute", {})))


@dataclass(frozen=True)
class Reader:
    """Values of one file; `where` names the part that is read."""

    file: Path

    def refuse(self, problem: str, where: str = "") -> NoReturn:
        """Raise GridError in one line."""
        raise GridError(printable(f"{self.file}: " + (f"{where}: " if where else "") + problem))

    def check_keys(self, found: Any, allowed: Collection[str], where: str) -> None:
        """Refuse what is no table, or has other keys."""
        if not isinstance(found, dict):
            self.refuse(f"{found!r} is no table of keys and values", where)
        for key in found:
            if key in TOLD or key.replace("_", "-") in TOLD:
                self.refuse(f"{key}: the sweep sets it itself, leave it out", where)
            if key not in allowed:
                near = difflib.get_close_matches(key.replace("_", "-"), allowed, 1)
                self.refuse(f"{key}: there is no such key, " + (
                    f"did you mean {near[0]}?" if near else f"allowed are {', '.join(allowed)}"), where)

    def text(self, table: Mapping[str, Any], key: str, where: str) -> str:
        """Of a key, in one line; empty if it is not there."""
        value = table.get(key, "")
        if not isinstance(value, str):
            self.refuse(f"{key}: {value!r} is not allowed, give a text", where)
        return " ".join(value.split())

    def hours(self, table: Mapping[str, Any]) -> float | None:
        """That somebody expects."""
        value = table.get("hours")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            self.refuse(f"hours: {value!r} is not allowed, give a number of hours")
        return value

    def left_out(self, value: Any) -> tuple[str, ...]:
        """What a grid does not ask, and why."""
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            self.refuse(f"left-out: {value!r} is not allowed, give a list of texts")
        return tuple(" ".join(line.split()) for line in value)

    def seeds(self, value: Any, where: str) -> tuple[int, ...]:
        """A number of seeds from 0 on, or a list of them."""
        seeds = list(range(value)) if isinstance(value, int) and not isinstance(value, bool) and value <= 10_000 else value
        good = isinstance(seeds, list) and bool(seeds) and len(set(map(repr, seeds))) == len(seeds)
        if not good or any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in seeds):
            self.refuse(f"seeds: {value!r} is not allowed, give how many (at least 1) or a list such as [0, 1, 2]", where)
        return tuple(seeds)

    def equal_compute(self, value: Any) -> EqualCompute:
        """What is equal."""
        where = "equal-compute"
        self.check_keys(value, ("words", "epochs"), where)
        epochs = value.get("epochs", 0)
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
            self.refuse(f"epochs: {epochs!r} is not allowed, give the epochs along the path of every student", where)
        return EqualCompute(self.text(value, "words", where), epochs)

    def options(self, table: Any, where: str, more: Sequence[str] = ()) -> dict[str, Any]:
        """Options of training.run by their Python names."""
        self.check_keys(table, (*JOB_OPTIONS, *more), where)
        return {JOB_OPTIONS[key]: value for key, value in table.items() if key in JOB_OPTIONS}

    def jobs(self, table: Any) -> dict[str, Job]:
        """All of them, by name."""
        if not isinstance(table, dict) or not table:
            self.refuse("jobs: there are none, add for example [jobs.first] with scheme = \"individual\" and bits = 2")
        found = {}
        for name, keys in table.items():
            where = f"job {name}"
            if not NAME.fullmatch(name):
                self.refuse("its name is that of files, too: letters, digits, '.', '_' and '-' are allowed", where)
            options = self.options(keys, where, _JOB_KEYS)
            seeds = self.seeds(keys["seeds"], where) if "seeds" in keys else None
            found[name] = Job(name, MappingProxyType(options), seeds, self.text(keys, "why", where),
                              self.text(keys, "unequal", where))
        return found


def near(name: str, names: Collection[str]) -> str:
    """", did you mean ...?", if one of the names is like it."""
    found = difflib.get_close_matches(name, names, 1)
    return f", did you mean {found[0]}?" if found else ""
