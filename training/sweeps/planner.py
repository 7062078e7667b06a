"""What follows from a grid: every run is checked before anything runs.

A setting of the grid counts for the jobs that it has an effect in; an option of a job's own that changes nothing is refused,
as on the command line.  Where a checkpoint is wanted, a job's name stands for that job's student of the same seed,
"job:8bit" for a step of it, and "grid/job" for a job of another grid.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.checkpoint import CheckpointError, load_checkpoint
from sim.network import Graph, Input, NetworkError, QuantizerError, TokenInput
from sim.records import RecordError
from sim.registry import RegistryError
from training.api import TABLES
from training.config import ConfigError, RunConfig, resolve
from training.data import DATASETS, DataError, load_dataset
from training.effects import Run, refuse_unread
from training.folder import FILES
from training.options import OPTIONS, read_options
from training.plans import adopted_step, check_takes_teacher, graphs_of, published_step, wanted_steps
from training.quantizers import QUANTIZERS
from training.schemes import SCHEMES, SchemeError, SchemeOptions
from training.starts import OF_OTHERS
from training.sweeps.grid import BUILT_IN, ENDING, Grid, GridError, Job, built_in, near, read_grid, with_settings
from training.sweeps.ladders import ladder_to_share
from training.sweeps.plan import Data, Plan, Reference

REFUSED = (ConfigError, SchemeError, QuantizerError, RegistryError, RecordError, DataError, NetworkError, CheckpointError,
           OSError)
ROUNDING = 1
"""How many epochs an equal number may be off: a third of 20 is no whole number."""
GUESSED_TOKENS, GUESSED_WORDS = 192, 30522
"""Of a window of text, and of BERT's vocabulary."""


class Planner:
    """Plans the jobs of a grid and those of other grids that they name.

    `seeds`: instead of the grid's.  `is_guessing`: data that are not there are no error, as for a list of what would be
    done.  Everything raises GridError in one line.
    """

    def __init__(self, grid: Grid, out: Path, seeds: tuple[int, ...] | None = None, is_guessing: bool = False) -> None:
        self.grid, self.out, self.seeds, self.is_guessing = grid, out, seeds or grid.seeds, is_guessing
        self.plans: dict[tuple[str, str], Plan] = {}
        self.grids: dict[str, Grid] = {grid.name: grid}
        self._data: dict[tuple[str, str, str], Data] = {}
        self._open: list[tuple[str, str]] = []
        self._read: set[str] = set()
        for name in grid.jobs:
            self.plan(grid, name)
        if unread := [name for name in grid.settings if name not in self._read]:
            grid.refuse(f"settings: {OPTIONS[unread[0]].text}: it would change nothing in any job")
        self._check_equal_compute()

    def plan(self, grid: Grid, name: str) -> Plan:
        """The plan of a job, after those of its teachers."""
        key = (grid.name, name)
        if key in self._open:
            circle = " -> ".join(job for _, job in [*self._open[self._open.index(key):], key])
            grid.refuse(f"its teachers go in a circle, {circle}", name)
        if key not in self.plans:
            self._open.append(key)
            job = grid.jobs[name]
            try:
                plan = self._planned(grid, job, {})
                if base := ladder_to_share(plan, self.plans, self.seeds):
                    plan = dataclasses.replace(self._planned(grid, job, {"teacher": base}), told=plan.told)
            except GridError:
                raise
            except REFUSED as error:
                grid.refuse(_text(error), name)
            finally:
                self._open.pop()
            self.plans[key] = plan
        return self.plans[key]

    def _planned(self, grid: Grid, job: Job, more: Mapping[str, Reference]) -> Plan:
        own = dict(job.options)
        hidden = {"bits", "path"} if own.keys() & {"bits", "path"} else set()
        shared = {name: value for name, value in grid.settings.items() if name not in own and name not in hidden}
        given = {**shared, **own}
        if "scheme" not in given:
            raise ConfigError(f"scheme: none is given, choose one of {', '.join(SCHEMES)}, or your own, file.py:NAME")
        named = read_options({name: given[name] for name in TABLES if name in given})
        for name, value in named.items():
            TABLES[name].find(value, OPTIONS[name].text)
        uses = SCHEMES[named["scheme"]].uses
        of_schemes = {field.name for field in dataclasses.fields(SchemeOptions)}
        shared = {name: value for name, value in shared.items() if name not in of_schemes or name in uses}
        references: dict[str, Reference] = {}
        for name in FILES:
            # weights of others are no result of a job; whether they are there is asked by the run that takes them
            value = own.get(name, shared.get(name))
            if name != "float_weights" and not str(value).endswith(OF_OTHERS) and name in (*shared, *own, *more):
                found = more.get(name) or self._reference(grid, job, name, value)
                if isinstance(found, Reference):
                    references[name] = found
        plan = self._built(grid, job, {**shared, **own}, references)
        without_effect = [name for name in shared if _is_unread(name, plan.run)]
        if without_effect:
            shared = {name: value for name, value in shared.items() if name not in without_effect}
            references = {name: found for name, found in references.items() if name not in without_effect}
            plan = self._built(grid, job, {**shared, **own}, references)
        if grid is self.grid:
            self._read |= shared.keys()
        refuse_unread(list(read_options(own)), plan.run)
        return plan

    def _built(self, grid: Grid, job: Job, given: Mapping[str, Any], references: Mapping[str, Reference]) -> Plan:
        seed = (job.seeds or self.seeds)[0]
        options = read_options(given)
        for name in options.get("load", ()):
            QUANTIZERS.find(name, "load")
        files = {name: str(self.file(grid, job, found, seed)) for name, found in references.items()}
        config, _ = resolve({**options, **files, "seed": seed})
        data = self._data_of(config)
        config = dataclasses.replace(config, augment=config.augment or data.augment, size=data.size)
        graphs = graphs_of(config, data.first, data.classes)
        steps = config.plan()
        adopted, before = self._adopted(config, graphs, references.get("teacher"))
        wanted = wanted_steps(config, steps, adopted)
        run = Run(config, graphs["student"], steps, wanted)
        own = sum(config.epochs_of(step) for step in run.trained)
        plain = {name: value for name, value in options.items() if name not in references}
        along = None if before is None else before + own
        return Plan(grid, job, plain, dict(references), config, run, graphs, data, along, dict(references))

    def _adopted(self, config: RunConfig, graphs: Mapping[str, Graph], teacher: Reference | None) -> tuple[str, int | None]:
        """The step that the teacher stands in for, and the epochs behind it."""
        steps = config.plan()
        if config.float_weights:
            return published_step(config, steps[:-1]).name, 0
        if not config.teacher:
            return "", 0
        check_takes_teacher(config, steps)
        if teacher is None:
            spec = load_checkpoint(Path(config.teacher)).spec
            return adopted_step(config, steps, graphs, spec.precision.inner, spec.graph), None
        plan = self.plans[teacher.grid, teacher.job]
        found = plan.checkpoint(teacher.step)
        assert found is not None
        return adopted_step(config, steps, graphs, *found), plan.epochs_until(teacher.step)

    def _reference(self, grid: Grid, job: Job, option: str, value: Any) -> Reference | None:
        """The job that the value of an option names, planned; None if it is a file that is there."""
        text = OPTIONS[option].text
        if not isinstance(value, str):
            raise ConfigError(f"{text}: {value!r} is not allowed, give the name of a job or a file")
        name, _, step = value.partition(":")
        other, _, rest = name.rpartition("/")
        home = self._grid_beside(grid, other) if other else grid
        if home is not None and rest in home.jobs:
            if rest == job.name and home is grid:
                raise ConfigError(f"{text}: {value!r} is the job itself")
            plan = self.plan(home, rest)
            if plan.checkpoint(step) is None:
                steps = ", ".join(each.name for each in plan.run.plan)
                raise ConfigError(f"{text}: job {name} has no step {step!r}, choose one of {steps}")
            return Reference(home.name, rest, step)
        if Path(value).is_file():
            return None
        raise ConfigError(f"{text}: {value!r} is neither a job of this grid nor a file that is there" +
                          near(rest, (home or grid).jobs))

    def _grid_beside(self, grid: Grid, name: str) -> Grid | None:
        """The grid of that name: in the folder of this one, or built in."""
        if name not in self.grids:
            beside = grid.file.parent / f"{name}{ENDING}"
            if not beside.is_file() and name in built_in():
                beside = BUILT_IN / f"{name}{ENDING}"
            if not beside.is_file() or "/" in name:
                return None
            self.grids[name] = with_settings(read_grid(beside), self.grid.changes)
        return self.grids[name]

    def _data_of(self, config: RunConfig) -> Data:
        key = (config.dataset, config.data, config.size)
        if key not in self._data:
            self._data[key] = self._loaded(*key)
        return self._data[key]

    def _loaded(self, name: str, path: str, size: str) -> Data:
        source = DATASETS.get(name)
        if self.is_guessing and source is not None and source.reads:
            if not source.needs:
                return _guessed(name, f"the data of {name} are read, and downloaded if need be, when the sweep begins")
            if not Path(path).exists():
                return _guessed(name, f"the data of {name} are not in {path or 'data'}", size)
        found = load_dataset(name, Path(path) if path else None, size=size)
        return Data(found.first_row(), found.classes, len(found.train), found.augment, found.size)

    def folder(self, grid: Grid, job: str, seed: int) -> Path:
        """Where a run's files lie."""
        return self.out / grid.name / f"{job}-seed{seed}"

    def file(self, grid: Grid, job: Job, found: Reference, seed: int) -> Path:
        """The checkpoint that a job takes from another one."""
        teacher = self.grids[found.grid]
        return self.folder(teacher, found.job, self.seed_of(grid, job, teacher.jobs[found.job], seed)) / found.file

    def seed_of(self, grid: Grid, job: Job, teacher: Job, seed: int) -> int:
        """The seed of the teacher of a seed: the same, or the only one that there is."""
        if teacher.seeds is None or seed in teacher.seeds:
            return seed
        if len(teacher.seeds) > 1:
            grid.refuse(f"seeds: {seed} has no teacher, job {teacher.name} has seeds {', '.join(map(str, teacher.seeds))}",
                        job.name)
        return teacher.seeds[0]

    def _check_equal_compute(self) -> None:
        """Raise GridError for a quantized student of other epochs than the grid promises, unless it says why."""
        promised = self.grid.equal_compute.epochs
        for (home, name), plan in self.plans.items():
            if not promised or home != self.grid.name or plan.job.unequal or not plan.is_quantized:
                continue
            if plan.path_epochs is None or abs(plan.path_epochs - promised) > ROUNDING:
                found = "an unknown number of" if plan.path_epochs is None else plan.path_epochs
                self.grid.refuse(f"epochs: it has {found} along its path and equal-compute promises {promised}: change it, "
                                 "or say why in unequal", name)


def _guessed(name: str, missing: str, wanted: str = "") -> Data:
    """What a data set that is not here will most likely look like: networks can be checked, costs are unknown."""
    if DATASETS[name].is_text:
        tokens = int(wanted) if wanted.isdecimal() else GUESSED_TOKENS
        return Data(TokenInput("ids", tokens, GUESSED_WORDS), 2, augment=DATASETS[name].augment, missing=missing)
    size, channels = (28, 1) if name.endswith("mnist") else (32, 3)
    image = Input("image", "", size, size, channels, (0.5,) * channels, (0.25,) * channels)
    return Data(image, 100 if name == "cifar100" else 10, augment=DATASETS[name].augment, missing=missing)


def _is_unread(name: str, run: Run) -> bool:
    try:
        refuse_unread([name], run)
    except ConfigError:
        return True
    return False


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
