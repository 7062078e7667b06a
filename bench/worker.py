"""python -m bench.worker FAMILY: one family of implementations in a process of its own, so that none disturbs another's
imports and thread pools.

Requests are lines of JSON on stdin, answers lines of JSON on stdout; whatever else is printed goes to stderr.
"""

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.cases import MEASURES, Work, case_from_json

TURN = 0.05
"""Seconds that the repetitions of one turn take together; the turn's value is their median."""
ROOT = Path(__file__).resolve().parent.parent


class Session:
    """The works that were prepared for one case, by implementation."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.works: dict[str, tuple[Work, int]] = {}

    def prepare(self, impl: str, what: str, case: Mapping[str, Any]) -> dict[str, Any]:
        """Build, compile and warm up; find out how many calls fill a turn."""
        module = importlib.import_module(f"bench.impls.{self.family}")
        work = module.BUILD[impl][what](case_from_json(case))
        work.call()
        self.works[impl] = work, work.repetitions or _repetitions(work)
        return {"isa": module.isa(), "extra": dict(work.extra)}

    def turn(self, impl: str, what: str) -> dict[str, Any]:
        """One value: the median over repetitions."""
        work, repetitions = self.works[impl]
        if repetitions > 1:
            work.call()  # another process may have had the caches
        with _no_collection():
            values = [_timed(work, MEASURES[what].value) for _ in range(repetitions)]
        return {"value": float(np.median(values))}

    def release(self) -> dict[str, Any]:
        """Forget all works."""
        self.works.clear()
        gc.collect()
        return {}


COMMANDS: Mapping[str, Callable[..., dict[str, Any]]] = MappingProxyType(
    {"prepare": Session.prepare, "turn": Session.turn, "release": Session.release})


def _repetitions(work: Work) -> int:
    started = time.perf_counter()
    work.call()
    return int(np.clip(TURN / (time.perf_counter() - started), 1, 1000))


def _timed(work: Work, value: Callable[[Work, float, Any], float]) -> float:
    started = time.perf_counter()
    result = work.call()
    return value(work, time.perf_counter() - started, result)


@contextlib.contextmanager
def _no_collection() -> Any:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def describe(error: Exception) -> str:
    """One line on why an implementation cannot be measured."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        return f"{package} is not installed: pip install -c constraints.txt -e '.[peers]'"
    return without_paths(f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}")


def without_paths(text: str) -> str:
    """Records are published: they do not say where things are on this machine."""
    for folder in (sys.prefix, str(ROOT), str(Path.home())):
        text = text.replace(folder, "...")
    return text


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = Session(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = COMMANDS[request.pop("do")](session, **request)
        except Exception as error:  # whatever a peer does wrong is a row that says so
            answer = {"missing": describe(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
