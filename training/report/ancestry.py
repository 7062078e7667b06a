"""The epochs of every network on the way to a student, and what else its steps cost.

Those of a given teacher are taken from the record of its own run.
"""

import hashlib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from training.folder import FINAL_FILE, RECORD_FILE
from training.report.records import Record, Run

_OF_SWEEP = re.compile(r"(.*)-seed\d+")
Cost = Callable[[Record, str], int | None]
"""Of a step, by name, in the record of its run; None where it is not known."""


def _epochs(record: Record, name: str) -> int:
    return len(record["steps"][name]["epochs"])


class Ancestry:
    """Runs by what they wrote, so that a teacher that was given to one of them is found among the others."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = [run.training for run in runs]
        self._in_folder: dict[Path, list[Record]] = {}
        for run in self._runs:
            if (folder := _out(run)) is not None:
                self._in_folder.setdefault(folder, []).append(run)
        self._of_users = [run for run in self._runs if run.file.name == RECORD_FILE]
        self._files: dict[Path, str] = {}

    def epochs(self, run: Run) -> int | None:
        """Of the student and its ancestors together, each counted once; None where those of a teacher are not known."""
        return self._cost(run.training, FINAL_FILE, frozenset(), _epochs)

    def cost(self, run: Run, of_step: Cost) -> int | None:
        """What all steps cost on the way to the student."""
        return self._cost(run.training, FINAL_FILE, frozenset(), of_step)

    def _cost(self, record: Record, checkpoint: str, seen: frozenset[Path], of_step: Cost) -> int | None:
        """Of what is behind one checkpoint of a run: its student, or "4bit.pt" of the step of that name."""
        steps, total = record["steps"], 0
        if record.file in seen or (checkpoint != FINAL_FILE and Path(checkpoint).stem not in steps):
            return None
        for name, step in steps.items():
            if "from" in step:
                count = self._of_teacher(record, step, seen | {record.file}, of_step)
            else:
                count = of_step(record, name)
            if count is None:
                return None
            total += count
            if f"{name}.pt" == checkpoint:
                break
        return total

    def _of_teacher(self, record: Record, step: Mapping[str, Any], seen: frozenset[Path], of_step: Cost) -> int | None:
        teacher = Path(step["from"])
        counts = {self._cost(other, teacher.name, seen, of_step) for other in self._teachers(record, teacher)}
        if counts:
            return counts.pop() if len(counts) == 1 else None
        is_old_sweep = of_step is _epochs and not record.get("digests") and _is_of_one_sweep(teacher, _out(record))
        config = record["config"]
        return int(config["epochs"]) * (config["path"].index(step["bits"]) + 1) if is_old_sweep else None

    def _teachers(self, record: Record, teacher: Path) -> Iterator[Record]:
        """The runs that wrote this checkpoint: by its digest where the file is still there, else by its folder."""
        digest = str((record.get("digests") or {}).get("teacher", ""))
        named = self._in_folder.get(teacher.parent, [])
        for other in (*named, *(run for run in self._of_users if run not in named)):
            if other is record:
                continue
            if other.file.name == RECORD_FILE and digest and (known := self._digest(other.file.parent / teacher.name)):
                if known == digest:
                    yield other
            elif (other in named or _is_beside(teacher, other)) and str(other["date"]) <= str(record["date"]):
                yield other

    def _digest(self, file: Path) -> str:
        """Empty if there is no such file."""
        if file not in self._files:
            try:
                self._files[file] = "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
            except OSError:
                self._files[file] = ""
        return self._files[file]


def _is_beside(checkpoint: Path, run: Record) -> bool:
    return run.file.parent.resolve() == checkpoint.parent.resolve()


def _out(run: Record) -> Path | None:
    """The folder that the command of a run names; None if it names none."""
    try:
        words = shlex.split(str(run["command"]))
    except ValueError:
        return None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--out" and following:
            return Path(following)
        if word.startswith("--out="):
            return Path(word.removeprefix("--out="))
    return None


def _is_of_one_sweep(teacher: Path, out: Path | None) -> bool:
    """Sweeps give all their runs the same epochs; before 0.2 their records said no more of a teacher than its path."""
    return (out is not None and teacher.parent.parent == out.parent and
            bool(_OF_SWEEP.fullmatch(teacher.parent.name) and _OF_SWEEP.fullmatch(out.name)))
