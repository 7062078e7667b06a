"""The record of a grid: each of its jobs and how it ended, beside the records of those that are finished.

`training.tables` makes rows of those that are not, so that a table says what is missing and why.
"""

from pathlib import Path
from typing import Any

from sim.records import write_record
from training.config import RunConfig
from training.record import provenance
from training.sweeps.tasks import Schedule
from training.sweeps.work import FINISHED, NOT_RUN, Outcome

GRID_FILE = "grid.json"
KIND = "grid"


class GridRecord:
    """Written anew whenever a task ends, so that a sweep may be killed at any time."""

    def __init__(self, schedule: Schedule, results: Path, command: str) -> None:
        self.schedule, self.outcomes = schedule, dict[str, Outcome]()
        self.file = results / "records" / schedule.grid.name / GRID_FILE
        self.origin = provenance(command)

    def note_missing(self) -> Path:
        """Write the record of a sweep that is not begun: what has no kept record is not run; the file."""
        for name, task in self.schedule.tasks.items():
            kept = self.file.parent.parent / task.grid
            is_kept = all((kept / record).exists() for _, record in task.kept)
            self.outcomes[name] = Outcome(name, FINISHED if is_kept else NOT_RUN)
        self.write()
        return self.file

    def write(self) -> None:
        """What is known now."""
        grid = self.schedule.grid
        equal = {"words": grid.equal_compute.words, "epochs": grid.equal_compute.epochs}
        write_record(self.file, {
            "kind": KIND, **self.origin, "grid": grid.name, "title": grid.title, "why": grid.why, "equal_compute": equal,
            "hours": grid.hours, "left_out": list(grid.left_out), "jobs": [self._row(name) for name in self.schedule.tasks]})

    def _row(self, name: str) -> dict[str, Any]:
        task = self.schedule.tasks[name]
        is_done = name not in self.schedule.chosen and task.is_done
        outcome = self.outcomes.get(name, Outcome(name, FINISHED if is_done else NOT_RUN))
        plan = self.schedule.plans[task.grid, task.job]
        return {"name": name, "job": task.job, "seed": task.seed, "scheme": plan.config.scheme,
                "path": list(plan.config.path), "model": plan.config.model, "preset": plan.config.preset,
                "dataset": plan.config.dataset, "data": plan.config.data, "epochs": task.epochs, **_register(plan.config),
                "status": outcome.status, "error": outcome.error}


def _register(config: RunConfig) -> dict[str, Any]:
    """What a job is trained for, if for a register."""
    keys = ("accumulator_bits", "accumulator_training", "overflow")
    return {key: getattr(config, key) for key in keys} if config.accumulator_bits else {}
