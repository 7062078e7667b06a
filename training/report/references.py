"""Checkpoints that runs were given, as far as they tell one experiment from another: not by the numbers of their seeds."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from training.report.records import Run

REFERENCES = ("teacher", "init_from", "individual", "float_weights")
_SEED = re.compile(r"(seed[-_= ]?)(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


def seedless(path: str) -> str:
    """A path with a star for every number that is called a seed."""
    return _SEED.sub(r"\1*", path)


def seeds_named(path: str) -> set[int]:
    """The numbers that are called seeds."""
    return {int(number) for _, number in _SEED.findall(path)}


def canonical_paths(runs: Iterable[Run], rest: Mapping[int, str]) -> dict[int, dict[str, str]]:
    """By the id of a run and by option: one path for one content, with a star for what is the run's own seed.

    `rest` is what else tells the runs apart, by id: only those that agree in it are compared.  A number in a path is a seed
    if it is that of its run in runs of two seeds at least, and not all of these numbers are in the paths of other seeds.
    """
    everyone = list(runs)
    found: dict[int, dict[str, str]] = {id(run): {} for run in everyone}
    for key in REFERENCES:
        first: dict[str, str] = {}
        for run in everyone:
            if digest := digest_of(run, key):
                first[digest] = min(_path(run, key), first.get(digest, _path(run, key)))
        alike: dict[str, list[tuple[Run, str]]] = {}
        for run in everyone:
            path = first.get(digest_of(run, key), _path(run, key))
            alike.setdefault(json.dumps([rest[id(run)], _NUMBER.split(path)]), []).append((run, path))
        for members in alike.values():
            for run, path in _starred(members):
                found[id(run)][key] = path
    return found


def digest_of(run: Run, key: str) -> str:
    """Of the checkpoint, empty if it was not recorded."""
    digests = run.training.get("digests")
    return str(digests.get(key) or "") if isinstance(digests, dict) else ""


def _path(run: Run, key: str) -> str:
    value: Any = run.config.get(key)
    return "" if value is None else str(value)


def _starred(members: list[tuple[Run, str]]) -> list[tuple[Run, str]]:
    """Paths that differ in numbers only."""
    numbers = [list(map(int, _NUMBER.findall(path))) for _, path in members]
    starred: list[set[int]] = [set() for _ in members]
    for place in range(len(numbers[0])):
        own = {each[place] for (run, _), each in zip(members, numbers, strict=True) if each[place] == run.seed}
        others = {each[place] for (run, _), each in zip(members, numbers, strict=True) if each[place] != run.seed}
        if len(own) > 1 and not own <= others:
            for (run, _), each, places in zip(members, numbers, starred, strict=True):
                if each[place] == run.seed:
                    places.add(place)
    return [(run, _with_stars(path, places)) for (run, path), places in zip(members, starred, strict=True)]


def _with_stars(path: str, places: set[int]) -> str:
    parts = _NUMBER.split(path)
    numbers = ["*" if place in places else number for place, number in enumerate(_NUMBER.findall(path))]
    return "".join(part + number for part, number in zip(parts, [*numbers, ""], strict=True))
