"""python -m training.sweep GRID: many runs, each trained and evaluated bit-true, their records kept beside the tables.

A grid is a TOML file (training/README.md says what stands in one), of your own or built in.  Every run is the command that a
user would type, in a process of its own, so its record is its provenance.  All of them are checked before the first begins.
What is finished is not done again, so that a sweep that was interrupted, or killed, goes on where it was.  A record that is
there already is replaced only by one of the same configuration and code, unless --replace says otherwise.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sim.command import INTERRUPTED, fail, new_app, new_console, printable, run_app, shell_word
from sim.records import RecordError
from training.folder import RESULTS, held
from training.options import ConfigError
from training.record import command_line
from training.sweeps.cluster import LOCAL, require_ray, run_on_ray
from training.sweeps.grid import GridError, built_in, find_grid, with_settings
from training.sweeps.keeper import Keeper
from training.sweeps.listing import show_list
from training.sweeps.local import run_here
from training.sweeps.overview import Overview
from training.sweeps.report import GridRecord
from training.sweeps.tasks import Schedule, check_folders
from training.sweeps.work import FAILED, FINISHED, LOWEST, Crew, Outcome, SweepError, Task

RUNS = Path("runs")
_GO_ON = "the same command goes on where it was"

app = new_app()


@app.command()
def main(  # noqa: PLR0913 - one parameter per option
    grid: Annotated[str, typer.Argument(help=f"{', '.join(built_in())}; or a file of yours, GRID.toml")],
    seeds: Annotated[int | None, typer.Option(help="how many seeds  [default: the grid's]")] = None,
    first_seed: Annotated[int | None, typer.Option(help="the first of them  [default: the grid's]")] = None,
    change: Annotated[list[str] | None, typer.Option(
        "--set", metavar="OPTION=VALUE", help="another setting of the grid, such as data=FILE; may be given again")] = None,
    only: Annotated[str | None, typer.Option(help="these jobs and what they need, names separated by commas")] = None,
    show: Annotated[bool, typer.Option("--list", "--dry-run", help="show what would be done, and what is there already")
                    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="note every job without a record as not run, for the tables, and stop")
                    ] = False,
    results: Annotated[Path, typer.Option(help="folder whose records/ keeps the records; training.tables --results reads it")
                       ] = RESULTS,
    out: Annotated[Path, typer.Option(help="folder of the runs")] = RUNS,
    replace: Annotated[bool, typer.Option("--replace", help="replace records that other code or another configuration made")
                       ] = False,
    jobs: Annotated[int | None, typer.Option(help="runs at a time  [default: the cores]")] = None,
    threads: Annotated[int | None, typer.Option(
        help="of each run; its last bits depend on them  [default: OMP_NUM_THREADS, or the cores by the jobs]")] = None,
    low_priority: Annotated[bool, typer.Option("--low-priority", help="let all else on this machine go first")] = False,
    ray: Annotated[str | None, typer.Option(help=f"address of a Ray cluster that does the work, or {LOCAL}")] = None,
) -> None:
    """Train and evaluate every job of a grid that is not finished in the folder of runs, and keep their records.

    Example: python -m training.sweep digits --seeds 1 --results my-results
    """
    options: dict[str, Any] = dict(locals())
    if (seeds is not None and seeds < 1) or (first_seed is not None and first_seed < 0):
        raise SweepError("seeds: at least 1 from a first seed of at least 0 is allowed")
    workers = _workers(jobs, threads, ray)
    asked = with_settings(find_grid(grid), change or [])
    chosen = None
    if seeds is not None or first_seed is not None:
        first = asked.seeds[0] if first_seed is None else first_seed
        chosen = tuple(range(first, first + (len(asked.seeds) if seeds is None else seeds)))
    schedule = Schedule(asked, out, seeds=chosen, only=tuple(only.split(",")) if only else (), is_guessing=show or plan)
    if not plan:
        check_folders(schedule)
    if show:
        show_list(new_console(), schedule)
        return
    options |= {"grid": None, "show": None, "change": None, "set": change, "out": None if out == RUNS else out,
                "results": None if results == RESULTS else results}
    if plan:
        print(printable(GridRecord(schedule, results, command_line("training.sweep", options, [grid])).note_missing()))
        return
    crew = Crew(workers.threads, LOWEST if low_priority else 0)
    with held(out / asked.name), crew.suspended_together():
        sweep = Sweep(schedule, results, replace, command_line("training.sweep", options, [grid]))
        try:
            sweep.run(crew, workers, ray)
        except KeyboardInterrupt:
            fail(f"interrupted; {_GO_ON}", INTERRUPTED)
    print(f"Next, make tables of the records:\n    {_tables_command(results)}")
    sweep.fail_if_any_did()


@dataclass(frozen=True)
class Workers:
    """How many runs at a time, and the threads of each."""

    jobs: int
    threads: int


@dataclass
class Sweep:
    """The tasks of a plan, done by somebody, and what becomes of their records."""

    schedule: Schedule
    results: Path
    replace: bool
    command: str

    def __post_init__(self) -> None:
        tasks = self.schedule.chosen
        self.keepers = {task.grid: Keeper(self.results / "records" / task.grid, self.replace) for task in tasks.values()}
        for name, keeper in self.keepers.items():
            keeper.check({record: source for task in tasks.values() if task.grid == name for source, record in task.kept})
        self.record = GridRecord(self.schedule, self.results, self.command)

    def run(self, crew: Crew, workers: Workers, ray: str | None) -> None:
        """Keep what is finished, do the rest."""
        todo: dict[str, Task] = {}
        for name, task in self.schedule.chosen.items():
            if task.is_done:
                self.keep(task, Outcome(name, FINISHED), is_last=False)
            else:
                todo[name] = task
        print(f"{len(todo)} to do, {len(self.schedule.chosen) - len(todo)} finished before; {workers.jobs} at a time, "
              f"{workers.threads} thread{'s' * (workers.threads > 1)} each", flush=True)
        self.record.write()
        if not todo:
            return
        with Overview(todo, new_console(), workers.jobs, self.keep) as overview:
            if ray is None:
                run_here(todo, crew, workers.jobs, overview)
            else:
                finished = {name: task for name, task in self.schedule.chosen.items() if name not in todo}
                run_on_ray(ray, todo, finished, crew, workers.jobs, overview)

    def keep(self, task: Task, outcome: Outcome, is_last: bool = True) -> Outcome:
        """Keep the records of a task that is finished; if one cannot be, it failed."""
        if outcome.status == FINISHED:
            try:
                for source, name in task.kept:
                    self.keepers[task.grid].keep(source, name)
            except (SweepError, RecordError, OSError) as error:
                outcome = Outcome(task.name, FAILED, printable(error), outcome.seconds)
        self.record.outcomes[task.name] = outcome
        if is_last:
            self.record.write()
        return outcome

    def fail_if_any_did(self) -> None:
        """Raise SweepError, which counts what failed and names the first."""
        outcomes = [self.record.outcomes[name] for name in self.schedule.chosen]
        failed = [outcome for outcome in outcomes if outcome.status == FAILED]
        if failed:
            counts = Counter(outcome.status for outcome in outcomes)
            told = ", ".join(f"{count} {status}" for status, count in counts.items())
            raise SweepError(f"{told}; first {failed[0].task.split('/', 1)[1]}: {failed[0].error}; the same command tries "
                             "again")


def _workers(jobs: int | None, threads: int | None, ray: str | None) -> Workers:
    """As asked for, or what this machine has.  Raises SweepError."""
    for name, value in (("jobs", jobs), ("threads", threads)):
        if value is not None and value < 1:
            raise SweepError(f"{name}: {value} is not allowed, choose 1 or more")
    if ray is not None:
        require_ray()
        if ray != LOCAL and jobs is not None:
            raise SweepError("jobs: how many runs go on at a time is for the Ray cluster to decide, leave it out")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = jobs or cores
    told = os.environ.get("OMP_NUM_THREADS", "")
    each = int(told) if told.isdecimal() and int(told) else max(1, cores // count)
    return Workers(count, threads or (each if ray in (None, LOCAL) else 1))


def _tables_command(results: Path) -> str:
    return "python -m training.tables" + ("" if results == RESULTS else f" --results {shell_word(results)}")


if __name__ == "__main__":
    run_app(app, SweepError, GridError, RecordError, ConfigError, go_on=_GO_ON)
