"""What a sweep shows while it goes on: in a terminal a table that moves, elsewhere a line for whatever happens."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sim.records import RecordError, read_record
from sim.text import printable
from training.folder import KIND, RECORD_FILE
from training.sweeps.work import FINISHED, Outcome, Task

RECENT = 3
"""Epochs whose mean is the pace of a run: widths differ from step to step."""
HEARTBEAT = 600.0
"""Seconds between lines where no terminal shows that it goes on."""
UNKNOWN = "?"


@dataclass
class Progress:
    """How far a run is, from its record, which is written after every epoch."""

    done: int = 0
    pace: float | None = None
    """Seconds for an epoch."""
    accuracy: float | None = None
    """On the validation images, in percent."""
    changed: int = -1

    def look(self, record: Path) -> None:
        """Read the record again if it has changed; one that is just being begun says nothing yet."""
        try:
            changed = record.stat().st_mtime_ns
            if changed == self.changed:
                return
            steps = read_record(record, KIND)["steps"].values()
        except (OSError, RecordError):
            return
        entries = [entry for step in steps for entry in step["epochs"]]
        self.changed, self.done = changed, len(entries)
        if entries:
            self.pace = fmean(float(entry["seconds"]) for entry in entries[-RECENT:])
            self.accuracy = float(entries[-1]["validation_accuracy"])


@dataclass
class Overview:
    """Told of every task by whoever does them.  `keep` takes the records of a finished one and may make it a failed one.

    `workers`: how many tasks run at a time.  Use as a context manager.
    """

    tasks: Mapping[str, Task]
    console: Console
    workers: int
    keep: Callable[[Task, Outcome], Outcome]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    running: dict[str, Progress] = field(default_factory=dict)
    paces: list[float] = field(default_factory=list)
    rests: list[float] = field(default_factory=list)
    """Seconds that finished tasks took beside their epochs: to start, to evaluate."""
    live: Live | None = None
    spoke: float = field(default_factory=time.monotonic)
    """When the last line was printed."""

    def __enter__(self) -> "Overview":
        if self.console.is_terminal:
            self.live = Live(console=self.console, get_renderable=self._table, transient=True, refresh_per_second=1)
            self.live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.live is not None:
            self.live.stop()

    def begin(self, task: Task) -> None:
        """One more runs."""
        self.running[task.name] = Progress()
        if self.live is None:
            what = f", {task.epochs} epoch{'s' * (task.epochs > 1)}" if task.epochs else ""
            self._say(f"[{len(self.outcomes)}/{len(self.tasks)}] {task} begins{what}")

    def end(self, task: Task, outcome: Outcome) -> Outcome:
        """One less; a line says how it ended."""
        outcome = self.keep(task, outcome)
        if progress := self.running.pop(task.name, None):
            progress.look(task.folder / RECORD_FILE)
            self._learn(task, outcome, progress)
        self.outcomes[task.name] = outcome
        took = f" in {duration(outcome.seconds)}" if outcome.seconds >= 1 else ""
        reason = f": {outcome.error}" if outcome.status != FINISHED else ""
        left = f", {duration(self.left())} left in all" if outcome.status == FINISHED and self._unfinished() else ""
        self._say(f"[{len(self.outcomes)}/{len(self.tasks)}] {task} {outcome.status}{took}{reason}{left}")
        return outcome

    def tick(self) -> None:
        """Look at the records of what runs."""
        for name, progress in self.running.items():
            progress.look(self.tasks[name].folder / RECORD_FILE)
        if self.live is None and time.monotonic() > self.spoke + HEARTBEAT:
            self._say(self.summary())

    def left_of(self, task: Task) -> float | None:
        """Seconds until a task is done; None where nothing tells."""
        progress = self.running.get(task.name, Progress())
        pace = progress.pace if progress.pace is not None else self._pace()
        remaining = max(0, task.epochs - progress.done)
        if remaining and pace is None:
            return None
        return remaining * (pace or 0.0) + (fmean(self.rests) if self.rests else 0.0)

    def left(self) -> float | None:
        """Seconds until all is done, by the pace so far and with all workers at work; None where nothing tells."""
        each = [self.left_of(task) for task in self._unfinished()]
        known = [seconds for seconds in each if seconds is not None]
        return max(sum(known) / self.workers, max(known, default=0.0)) if len(known) == len(each) else None

    def _learn(self, task: Task, outcome: Outcome, progress: Progress) -> None:
        if outcome.status == FINISHED:
            epochs = 0.0
            if task.epochs and progress.pace is not None:
                self.paces.append(progress.pace)
                epochs = task.epochs * progress.pace
            self.rests.append(max(0.0, outcome.seconds - epochs))

    def _unfinished(self) -> list[Task]:
        return [task for name, task in self.tasks.items() if name not in self.outcomes]

    def _pace(self) -> float | None:
        found = [*self.paces, *(progress.pace for progress in list(self.running.values()) if progress.pace is not None)]
        return fmean(found) if found else None

    def _say(self, line: str) -> None:
        self.spoke = time.monotonic()
        self.console.print(printable(line), soft_wrap=True)

    def _table(self) -> Group:
        """Those that run, and a line of the rest."""
        table = Table(box=None, pad_edge=False)
        for column in ("running", "epoch", "val %", "left"):
            table.add_column(column, justify="left" if column == "running" else "right", no_wrap=True)
        for name, progress in list(self.running.items()):  # drawn by a thread of its own
            task = self.tasks[name]
            table.add_row(printable(task), f"{min(progress.done, task.epochs)}/{task.epochs}" if task.epochs else "-",
                          UNKNOWN if progress.accuracy is None else f"{progress.accuracy:.2f}", duration(self.left_of(task)))
        return Group(table, Text(printable(self.summary())))

    def summary(self) -> str:
        """How many are done, and when the rest will be."""
        states = [outcome.status for outcome in list(self.outcomes.values())]
        counts = [f"{states.count(state)} {state}" for state in dict.fromkeys([FINISHED, *states])]
        waiting = len(self.tasks) - len(self.outcomes) - len(self.running)
        return f"{', '.join(counts)}, {len(self.running)} running, {waiting} waiting; {duration(self.left())} left in all"


def duration(seconds: float | None) -> str:
    """As a person reads it: 45 s, 12 min, 3 h 20 min.

    >>> duration(45), duration(730), duration(12000), duration(None)
    ('45 s', '12 min', '3 h 20 min', '?')
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
