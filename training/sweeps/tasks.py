"""What is to do: a task for every job and seed, and one for every other evaluation."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.network import FLOAT_BITS
from sim.records import read_record
from sim.trained import shown_by
from training.folder import FINAL_FILE, KIND, RECORD_FILE, unlike
from training.options import OPTIONS, shown_options
from training.quantizers import QUANTIZERS
from training.register_options import OVERFLOW
from training.sweeps.evaluations import EVERY, HARDWARE, PROFILE, Evaluation
from training.sweeps.grid import NAME, Grid, near
from training.sweeps.hardware import HardwareError, check_evaluation
from training.sweeps.plan import Plan
from training.sweeps.planner import Planner
from training.sweeps.work import Command, Task

DEPLOYED_BITS = 8
"""What a float first and last layer is evaluated at: an integer program has none."""


class Schedule:
    """The tasks of a grid by name, those that are needed before those that need them.

    `only`: names of jobs; `chosen` are their tasks and what these need.  The rest is the Planner's.  Raises GridError.
    """

    def __init__(self, grid: Grid, out: Path, *, seeds: tuple[int, ...] | None = None, only: tuple[str, ...] = (),
                 is_guessing: bool = False) -> None:
        for name in only:
            if name not in grid.jobs:
                grid.refuse(f"only: there is no job {name!r}{near(name, grid.jobs)}")
        self.planner = Planner(grid, out, seeds, is_guessing)
        self.grid, self.plans = grid, self.planner.plans
        self.tasks: dict[str, Task] = {}
        own = [seed for job in grid.jobs.values() for seed in job.seeds or ()]
        for seed in dict.fromkeys([*self.planner.seeds, *own]):
            for job in grid.jobs.values():
                if seed in (job.seeds or self.planner.seeds):
                    self.task(grid, job.name, seed)
        for evaluation in grid.evaluations:
            self._evaluations(evaluation)
        self._check_names()
        self.chosen = self._with_needs(only) if only else self.tasks

    def task(self, grid: Grid, name: str, seed: int) -> Task:
        """The task of a job for a seed, after those that it needs."""
        key = f"{grid.name}/{name}-seed{seed}"
        if key in self.tasks:
            return self.tasks[key]
        plan = self.plans[grid.name, name]
        needs, files = [], {}
        for option, found in plan.references.items():
            teacher = self.planner.grids[found.grid]
            its_seed = self.planner.seed_of(grid, plan.job, teacher.jobs[found.job], seed)
            needs.append(self.task(teacher, found.job, its_seed).name)
            files[option] = str(self.planner.file(grid, plan.job, found, seed))
        out, record = self.planner.folder(grid, name, seed), f"{name}-seed{seed}"
        options = {**plan.options, **files, "seed": seed, "out": str(out), "resume": True}
        commands = [Command("training.run", _arguments(options), out / RECORD_FILE)]
        kept = [(out / RECORD_FILE, f"{record}.train.json")]
        if plan.is_quantized:
            file = out / "eval.json"
            commands.append(_evaluation(plan, out, {"bits": plan.config.bits, "verify": True}, file))
            kept.append((file, f"{record}.eval.json"))
        task = Task(key, grid.name, name, seed, out, tuple(commands), tuple(kept), tuple(dict.fromkeys(needs)), plan.epochs)
        self.tasks[key] = task
        return task

    def _evaluations(self, evaluation: Evaluation) -> None:
        for name in self.grid.jobs if EVERY in evaluation.jobs else evaluation.jobs:
            plan = self.plans[self.grid.name, name]
            if EVERY in evaluation.jobs and not plan.is_quantized:
                continue
            seeds = plan.job.seeds or self.planner.seeds
            for seed in seeds if "{seed" in evaluation.name else seeds[:1]:
                run = self.tasks[f"{self.grid.name}/{name}-seed{seed}"]
                for options in evaluation.combinations():
                    self._one_evaluation(evaluation, run, options)

    def _one_evaluation(self, evaluation: Evaluation, run: Task, options: Mapping[str, Any]) -> None:
        where = f"evaluation {evaluation.name!r}"
        try:
            name = evaluation.name.format(**{**options, "job": run.job, "seed": run.seed})
            if evaluation.of == HARDWARE:
                check_evaluation(options)
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            if isinstance(error, HardwareError):
                self.grid.refuse(f"{where}: {error}")
            allowed = ", ".join(f"{{{key}}}" for key in ("job", "seed", *options))
            self.grid.refuse(f"{where}: its name can have {allowed}, and not {error}")
        if f"{run.grid}/{name}" in self.tasks or not NAME.fullmatch(name):
            self.grid.refuse(f"{where}: its name is no file's, or that of several: {name!r}; name what tells them apart, as "
                             "{job} and {seed} do")
        file = run.folder / f"{name}.json"
        command, others = self._command(evaluation, run, options, file)
        ending = "eval" if evaluation.of == HARDWARE else evaluation.of
        self.tasks[f"{run.grid}/{name}"] = Task(
            f"{run.grid}/{name}", run.grid, run.job, run.seed, run.folder, (command,), ((file, f"{name}.{ending}.json"),),
            (run.name, *others))

    def _command(self, evaluation: Evaluation, run: Task, options: Mapping[str, Any], file: Path
                 ) -> tuple[Command, tuple[str, ...]]:
        """What looks at a student, and the tasks that it needs beside that of the student."""
        if evaluation.of == HARDWARE:
            return _evaluation(self.plans[run.grid, run.job], run.folder, options, file), ()
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        if evaluation.of == PROFILE:
            words = ["--model", str(run.folder / FINAL_FILE), *words, "--json", str(file)]
            return Command("training.profile", tuple(words), file), ()
        others = []
        if not evaluation.beside and len(self.plans[run.grid, run.job].run.plan) == 1:
            self.grid.refuse(f"evaluation {evaluation.name!r}: job {run.job} has no teacher whose mistakes it could repeat, "
                             "name another one in beside")
        if evaluation.beside:
            seed = self.planner.seed_of(self.grid, self.grid.jobs[run.job], self.grid.jobs[evaluation.beside], run.seed)
            others = [self.task(self.grid, evaluation.beside, seed)]
        places = [*(str(other.folder / FINAL_FILE) for other in others), str(run.folder)]
        return (Command("training.mistakes", (*places, *words, "--json", str(file)), file),
                tuple(other.name for other in others))

    def _with_needs(self, only: tuple[str, ...]) -> dict[str, Task]:
        names = {task.name for task in self.tasks.values() if task.grid == self.grid.name and task.job in only}
        for task in reversed(self.tasks.values()):
            names |= set(task.needs) if task.name in names else set()
        return {name: task for name, task in self.tasks.items() if name in names}

    def _check_names(self) -> None:
        seen: dict[tuple[str, str], str] = {}
        for task in self.tasks.values():
            for _, record in task.kept:
                if other := seen.get((task.grid, record)):
                    self.grid.refuse(f"{task} and {other} would both write the record {record}: give one another name")
                seen[task.grid, record] = str(task)


def _evaluation(plan: Plan, out: Path, options: Mapping[str, Any], file: Path) -> Command:
    """The command that runs a student in integers; what a network of that kind always needs is added."""
    asked: dict[str, Any] = {"bits": plan.config.bits}
    if plan.config.test_limit is not None:  # as many as the run itself was tested on
        asked["limit"] = plan.config.test_limit
    if plan.config.boundary_bits == FLOAT_BITS:
        asked["boundary-bits"] = DEPLOYED_BITS
    if plan.config.quantizer not in list(QUANTIZERS):
        asked["quantizer"] = plan.config.quantizer
    asked |= shown_by(plan.config.to_json()) if plan.config.accumulator_training == OVERFLOW else {}
    asked |= options
    words = ["--model", str(out / FINAL_FILE)]
    for key, value in asked.items():
        words += [f"--{key}"] if value is True else [] if value is False else [f"--{key}", str(value)]
    return Command("sim.eval", (*words, "--json", str(file)), file)


def _arguments(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Options as read, as words of a command line."""
    words: list[str] = []
    for name, value in shown_options(options).items():
        key, text = f"--{OPTIONS[name].text}", str(value)
        words += [key] if value is True else [f"{key}={text}"] if text.startswith("-") else [key, text]
    return tuple(words)


def check_folders(schedule: Schedule) -> None:
    """Raise GridError for a folder whose run is not the one that the grid asks for now; RecordError for a damaged one."""
    for task in schedule.chosen.values():
        record = task.folder / RECORD_FILE
        if record.exists():
            plan = schedule.plans[task.grid, task.job]
            config = dataclasses.replace(plan.config, seed=task.seed).to_json()
            if changed := unlike(read_record(record, KIND), config):
                plan.grid.refuse(f"{task.folder} holds another run ({'; '.join(changed)}): choose another --out", task.job)
