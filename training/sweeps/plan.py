"""What follows from a grid: every run is checked before anything runs, and becomes tasks in which teachers come first.

A setting of the grid counts for the jobs that it has an effect in; an option of a job's own that changes nothing is refused,
as on the command line.  Where a checkpoint is wanted, a job's name stands for that job's student of the same seed,
"job:8bit" for a step of it, and "grid/job" for a job of another grid, which then is a task as well.  Of ladders of one
scheme with equal options only the first trains the steps that they have in common.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.accumulator import Accumulator, AccumulatorError
from sim.checkpoint import CheckpointError, load_checkpoint
from sim.network import FLOAT_BITS, Graph, Input, NetworkError, QuantizerError
from sim.records import RecordError, read_record
from sim.registry import RegistryError
from sim.requantizers import REQUANTIZERS
from training.api import TABLES
from training.config import ConfigError, RunConfig, resolve
from training.data import DATASETS, DataError, load_dataset
from training.effects import Run, refuse_unread
from training.folder import FILES, FINAL_FILE, KIND, RECORD_FILE, unlike
from training.options import OPTIONS, read_options, shown_options
from training.quantizers import QUANTIZERS
from training.runner import adopted_step, check_takes_teacher, graphs_of, image_of, wanted_steps
from training.schemes import SCHEMES, SchemeError, SchemeOptions
from training.sweeps.grid import BUILT_IN, ENDING, EVERY, NAME, Evaluation, Grid, GridError, Job, built_in, read_grid
from training.sweeps.work import Command, Task

REFUSED = (ConfigError, SchemeError, QuantizerError, RegistryError, RecordError, DataError, NetworkError, CheckpointError,
           AccumulatorError, OSError)
DEPLOYED_BITS = 8
"""What a float first and last layer is evaluated at: an integer program has none."""
ROUNDING = 1
"""How many epochs an equal number may be off: a third of 20 is no whole number."""
_LADDER_KEYS = ("path", "teacher")


@dataclass(frozen=True)
class Reference:
    """The checkpoint of a job: of its student, or of a step that it trains on the way."""

    grid: str
    job: str
    step: str = ""

    @property
    def file(self) -> str:
        """In the folder of its run."""
        return f"{self.step}.pt" if self.step else FINAL_FILE

    def text(self, home: str) -> str:
        """As a grid of the name `home` writes it."""
        return (f"{self.grid}/" if self.grid != home else "") + self.job + (f":{self.step}" if self.step else "")


@dataclass(frozen=True)
class Data:
    """What of a data set decides the shape of a network, and how many images there are to train on."""

    image: Input
    classes: int
    images: int = 0
    augment: str = ""
    size: str = ""
    missing: str = ""
    """Why the rest is a guess; empty if it is not."""


@dataclass(frozen=True)
class Plan:
    """One job, checked: its options as they are read, without seed and checkpoints, and what its runs will do."""

    grid: Grid
    job: Job
    options: Mapping[str, Any]
    references: Mapping[str, Reference]
    config: RunConfig
    run: Run
    graphs: Mapping[str, Graph]
    data: Data
    path_epochs: int | None
    """Along the path, with those of its teachers; None if a teacher comes from elsewhere."""
    told: Mapping[str, Reference]
    """The references as the grid has them, where a ladder goes on from another one's step."""

    @property
    def epochs(self) -> int:
        """Of its own runs."""
        return sum(self.config.epochs_of(step) for step in self.run.trained)

    @property
    def is_quantized(self) -> bool:
        """Whether its student is evaluated on integers."""
        return self.config.bits != FLOAT_BITS

    def checkpoint(self, step: str) -> tuple[int, Graph] | None:
        """Width and network of its student ("") or of a step; None if there is no such step."""
        if not step:
            last = self.run.plan[-1]
            return last.bits, self.graphs[last.network]
        for each in self.run.plan:
            if each.name == step:
                return each.bits, self.graphs[each.network]
            if each.partner is not None and each.partner_name == step:
                return FLOAT_BITS, self.graphs["teacher"]
        return None

    def epochs_until(self, step: str) -> int | None:
        """Along the path to its student or a step."""
        if not step or self.path_epochs is None:
            return self.path_epochs
        later = 0
        for each in reversed(self.run.plan):
            if step in (each.name, each.partner_name):
                break
            later += self.config.epochs_of(each) if each in self.run.trained else 0
        return self.path_epochs - later


class Planner:
    """Plans the jobs of a grid and those of other grids that they name.

    `seeds`: instead of the grid's.  `only`: names of jobs; `chosen` are their tasks and what these need.  `is_guessing`:
    data that are not there are no error, as for a list of what would be done.  Everything raises GridError in one line.
    """

    def __init__(self, grid: Grid, out: Path, *, seeds: tuple[int, ...] | None = None, only: tuple[str, ...] = (),
                 is_guessing: bool = False) -> None:
        self.grid, self.out, self.seeds, self.is_guessing = grid, out, seeds or grid.seeds, is_guessing
        self.plans: dict[tuple[str, str], Plan] = {}
        self.tasks: dict[str, Task] = {}
        self._grids: dict[str, Grid] = {grid.name: grid}
        self._data: dict[tuple[str, str, str], Data] = {}
        self._open: list[tuple[str, str]] = []
        self._read: set[str] = set()
        for name in only:
            if name not in grid.jobs:
                grid.refuse(f"only: there is no job {name!r}{_near(name, grid.jobs)}")
        for name in grid.jobs:
            self.plan(grid, name)
        if unread := [name for name in grid.settings if name not in self._read]:
            grid.refuse(f"settings: {OPTIONS[unread[0]].text}: it would change nothing in any job")
        self._check_equal_compute()
        for seed in dict.fromkeys([*self.seeds, *(seed for job in grid.jobs.values() for seed in job.seeds or ())]):
            for job in grid.jobs.values():
                if seed in (job.seeds or self.seeds):
                    self.task(grid, job.name, seed)
        for evaluation in grid.evaluations:
            self._evaluations(evaluation)
        self._check_names()
        self.chosen = self._with_needs(only) if only else self.tasks

    # --- jobs

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
                if base := self._ladder_to_share(plan):
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
        for name, table in TABLES.items():
            if isinstance(given.get(name), str):
                table.find(given[name], OPTIONS[name].text)
        uses = SCHEMES[str(given["scheme"])].uses
        of_schemes = {field.name for field in dataclasses.fields(SchemeOptions)}
        shared = {name: value for name, value in shared.items() if name not in of_schemes or name in uses}
        references: dict[str, Reference] = {}
        for name in FILES:
            if name in (*shared, *own, *more):
                found = more.get(name) or self._reference(grid, job, name, own.get(name, shared.get(name)))
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
        files = {name: str(self._file(grid, job, found, seed)) for name, found in references.items()}
        config, _ = resolve({**options, **files, "seed": seed})
        data = self._data_of(config)
        config = dataclasses.replace(config, augment=config.augment or data.augment, size=data.size)
        graphs = graphs_of(config, data.image, data.classes)
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
        if not config.teacher:
            return "", 0
        steps = config.plan()
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
                          _near(rest, (home or grid).jobs))

    def _grid_beside(self, grid: Grid, name: str) -> Grid | None:
        """The grid of that name: in the folder of this one, or built in."""
        if name not in self._grids:
            beside = grid.file.parent / f"{name}{ENDING}"
            if not beside.is_file() and name in built_in():
                beside = BUILT_IN / f"{name}{ENDING}"
            if not beside.is_file() or "/" in name:
                return None
            self._grids[name] = read_grid(beside)
        return self._grids[name]

    def _data_of(self, config: RunConfig) -> Data:
        key = (config.dataset, config.data, config.size)
        if key not in self._data:
            self._data[key] = self._loaded(*key)
        return self._data[key]

    def _loaded(self, name: str, path: str, size: str) -> Data:
        source = DATASETS.get(name)
        is_there = source is None or not source.reads or Path(path or "data").exists()
        if is_there or not self.is_guessing:  # a list downloads nothing
            try:
                found = load_dataset(name, Path(path) if path else None, size=size)
                return Data(image_of(found), found.classes, len(found.train), found.augment, found.size)
            except DataError as error:
                if not self.is_guessing or source is None:
                    raise
                return _guessed(name, str(error))
        return _guessed(name, f"the data of {name} are not in {path or 'data'}")

    def _ladder_to_share(self, plan: Plan) -> Reference | None:
        """The last step that an earlier ladder of the same options has in common with this one, if it would be trained."""
        grid, config = plan.grid, plan.config
        if not _is_ladder(plan):
            return None
        own, best = _given_steps(plan), None
        for name in grid.jobs:
            if name == plan.job.name:
                break
            other = self.plans.get((grid.name, name))
            if other is None or not _is_ladder(other) or other.told != plan.told or \
                    not _same_but(_LADDER_KEYS, other, plan) or not self._covers(other.job, plan.job):
                continue
            common = _common(other.config.path, config.path)
            if common > own and common >= _given_steps(other) and (best is None or common > best[0]):
                whole = common == len(other.config.path)
                best = common, Reference(grid.name, name, "" if whole else plan.run.plan[common - 1].name)
        return best[1] if best else None

    def _covers(self, teacher: Job, student: Job) -> bool:
        return set(student.seeds or self.seeds) <= set(teacher.seeds or self.seeds)

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

    # --- tasks

    def task(self, grid: Grid, name: str, seed: int) -> Task:
        """The task of a job for a seed, after those that it needs."""
        key = f"{grid.name}/{name}-seed{seed}"
        if key in self.tasks:
            return self.tasks[key]
        plan = self.plans[grid.name, name]
        needs, files = [], {}
        for option, found in plan.references.items():
            teacher = self._grids[found.grid]
            needs.append(self.task(teacher, found.job, self._seed_of(grid, plan.job, teacher.jobs[found.job], seed)).name)
            files[option] = str(self._file(grid, plan.job, found, seed))
        out, record = self.folder(grid, name, seed), f"{name}-seed{seed}"
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

    def folder(self, grid: Grid, job: str, seed: int) -> Path:
        """Where a run's files lie."""
        return self.out / grid.name / f"{job}-seed{seed}"

    def _file(self, grid: Grid, job: Job, found: Reference, seed: int) -> Path:
        teacher = self._grids[found.grid]
        return self.folder(teacher, found.job, self._seed_of(grid, job, teacher.jobs[found.job], seed)) / found.file

    def _seed_of(self, grid: Grid, job: Job, teacher: Job, seed: int) -> int:
        """The seed of the teacher of a seed: the same, or the only one that there is."""
        if teacher.seeds is None or seed in teacher.seeds:
            return seed
        if len(teacher.seeds) > 1:
            grid.refuse(f"seeds: {seed} has no teacher, job {teacher.name} has seeds {', '.join(map(str, teacher.seeds))}",
                        job.name)
        return teacher.seeds[0]

    def _evaluations(self, evaluation: Evaluation) -> None:
        for name in self.grid.jobs if EVERY in evaluation.jobs else evaluation.jobs:
            plan = self.plans[self.grid.name, name]
            if EVERY in evaluation.jobs and not plan.is_quantized:
                continue
            seeds = plan.job.seeds or self.seeds
            for seed in seeds if "{seed" in evaluation.name else seeds[:1]:
                run = self.tasks[f"{self.grid.name}/{name}-seed{seed}"]
                for options in evaluation.combinations():
                    self._one_evaluation(evaluation, plan, run, options)

    def _one_evaluation(self, evaluation: Evaluation, plan: Plan, run: Task, options: Mapping[str, Any]) -> None:
        where = f"evaluation {evaluation.name!r}"
        try:
            name = evaluation.name.format(**{**options, "job": run.job, "seed": run.seed})
            _check_evaluation(options)
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            if isinstance(error, REFUSED):
                self.grid.refuse(f"{where}: {_text(error)}")
            allowed = ", ".join(f"{{{key}}}" for key in ("job", "seed", *options))
            self.grid.refuse(f"{where}: its name can have {allowed}, and not {error}")
        if f"{run.grid}/{name}" in self.tasks or not NAME.fullmatch(name):
            self.grid.refuse(f"{where}: its name is no file's, or that of several: {name!r}; name what tells them apart, as "
                             "{job} and {seed} do")
        file = run.folder / f"{name}.json"
        self.tasks[f"{run.grid}/{name}"] = Task(
            f"{run.grid}/{name}", run.grid, run.job, run.seed, run.folder, (_evaluation(plan, run.folder, options, file),),
            ((file, f"{name}.eval.json"),), (run.name,))

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
    if plan.config.boundary_bits == FLOAT_BITS:
        asked["boundary-bits"] = DEPLOYED_BITS
    if plan.config.quantizer not in list(QUANTIZERS):
        asked["quantizer"] = plan.config.quantizer
    asked |= options
    words = ["--model", str(out / FINAL_FILE)]
    for key, value in asked.items():
        words += [f"--{key}"] if value is True else [] if value is False else [f"--{key}", str(value)]
    return Command("sim.eval", (*words, "--json", str(file)), file)


def _check_evaluation(options: Mapping[str, Any]) -> None:
    """Raise ConfigError, AccumulatorError or RegistryError for a combination that sim.eval would refuse after hours."""
    for key in ("overflow", "tile"):
        if key in options and not options.keys() & {"accumulator", "boundary-accumulator"}:
            raise ConfigError(f"{key}: without accumulator it changes nothing")
    tile = options.get("tile", 1)
    for key in options.keys() & {"accumulator", "boundary-accumulator"}:
        Accumulator(options[key], options.get("overflow", "wrap"), 0 if tile == "end" else tile)
    for key in options.keys() & {"bits", "boundary-bits"}:
        RunConfig.check_bits(options[key])
    if "requant" in options:
        REQUANTIZERS.find(options["requant"], "requant")


def _arguments(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Options as read, as words of a command line."""
    words: list[str] = []
    for name, value in shown_options(options).items():
        key, text = f"--{OPTIONS[name].text}", str(value)
        words += [key] if value is True else [f"{key}={text}"] if text.startswith("-") else [key, text]
    return tuple(words)


def _guessed(name: str, missing: str) -> Data:
    """What a data set that is not here will most likely look like: networks can be checked, costs are unknown."""
    return Data(Input("image", "", 32, 32, 3, (0.5,) * 3, (0.25,) * 3), 100 if name == "cifar100" else 10, missing=missing)


def _is_unread(name: str, run: Run) -> bool:
    try:
        refuse_unread([name], run)
    except ConfigError:
        return True
    return False


def _is_ladder(plan: Plan) -> bool:
    """Whether each step begins as and learns from the one before, so that a prefix of the path decides its networks."""
    steps = plan.run.plan
    is_chain = all(step.start == step.teacher == (before.name if before else None)
                   for step, before in zip(steps, [None, *steps], strict=False))
    return len(steps) > 1 and is_chain and not plan.config.layer_bits and all(
        step.network == "student" and step.partner is None and step.share == 1.0 for step in steps)


def _given_steps(plan: Plan) -> int:
    """How many steps of a ladder a given teacher stands in for."""
    return len(plan.config.path) - len(plan.run.wanted)


def _same_but(left: tuple[str, ...], one: Plan, other: Plan) -> bool:
    mine, theirs = ({key: value for key, value in plan.config.to_json().items() if key not in (*left, "seed")}
                    for plan in (one, other))
    return mine == theirs


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    count = 0
    for mine, theirs in zip(one, other[:-1], strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _near(name: str, jobs: Mapping[str, Job]) -> str:
    near = difflib.get_close_matches(name, jobs, 1)
    return f", did you mean {near[0]}?" if near else ""


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def check_folders(planner: Planner) -> None:
    """Raise GridError for a folder whose run is not the one that the grid asks for now; RecordError for a damaged one."""
    for task in planner.chosen.values():
        record = task.folder / RECORD_FILE
        if record.exists():
            plan = planner.plans[task.grid, task.job]
            config = dataclasses.replace(plan.config, seed=task.seed).to_json()
            if changed := unlike(read_record(record, KIND), config):
                plan.grid.refuse(f"{task.folder} holds another run ({'; '.join(changed)}): choose another --out", task.job)


