"""What a grid would do: its jobs as a table with epochs, cost, and what is there already."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean

from rich.console import Console
from rich.table import Table

from sim.command import fits, new_table, show_table
from sim.records import RecordError, read_record
from sim.text import printable
from training.cost import BACKWARD, forward
from training.folder import KIND, RECORD_FILE
from training.sweeps.overview import duration
from training.sweeps.plan import Plan
from training.sweeps.tasks import Schedule
from training.sweeps.work import Task

COLUMNS = ("job", "seeds", "scheme", "path", "teacher", "epochs", "in all", "T macs", "hours", "there")
"""Epochs of each step, and of all on the way to the student; 10^12 multiply-accumulates and hours of one seed."""
TEXTS = COLUMNS[:5]
SPARED = ("scheme", "T macs", "path", "teacher")
"""What a narrow terminal does without, the first first: names of jobs tell most of it."""


def show_list(console: Console, schedule: Schedule) -> None:
    """Title and words of the grid, its jobs, and what was left out."""
    grid = schedule.grid
    for line in filter(None, (grid.title, grid.why)):
        console.print(printable(line), soft_wrap=True)
    if grid.equal_compute.words:
        console.print(printable(f"equal compute: {grid.equal_compute.words}"), soft_wrap=True)
    paces = _paces(schedule)
    rows, total = [], 0.0
    for (home, name), plan in schedule.plans.items():
        tasks = [task for task in schedule.chosen.values() if (task.grid, task.job) == (home, name) and _is_run(task)]
        if not tasks:
            continue
        cost, pace = macs(plan), paces.get(_network(plan))
        hours = None if pace is None else pace * plan.epochs / 3600
        total += (hours or 0.0) * sum(not task.is_done for task in tasks)
        rows.append((
            printable(name if home == grid.name else f"{home}/{name}"), _listed([task.seed for task in tasks]),
            printable(plan.config.scheme), "-".join(map(str, plan.config.path)), printable(_teacher(plan)), str(plan.epochs),
            "?" if plan.path_epochs is None else str(plan.path_epochs), "?" if cost is None else f"{cost / 1e12:.1f}",
            "?" if hours is None else f"{hours:.2f}", _there(tasks)))
    if rows:
        show_jobs(console, rows)
    evaluations = [task for task in schedule.chosen.values() if not _is_run(task)]
    if evaluations:
        console.print(f"and {len(evaluations)} more evaluations, {_there(evaluations)} there")
    for data in {plan.data.missing for plan in schedule.plans.values()} - {""}:
        console.print(printable(f"cost unknown: {data}"), soft_wrap=True)
    if total:
        console.print(f"by the pace of what is there: {duration(total * 3600)} of one worker left")
    if grid.hours is not None:
        console.print(f"expected: {grid.hours:g} hours")
    for line in grid.left_out:
        console.print(printable(f"left out: {line}"), soft_wrap=True)


def show_jobs(console: Console, rows: Sequence[Sequence[str]]) -> None:
    """A row for each job; below it what all have in common, and the names of columns that a terminal has no room for."""
    cells = dict(zip(COLUMNS, zip(*rows, strict=True), strict=False))
    shared = {name: column[0] for name, column in cells.items() if len(rows) > 1 and len(set(column)) == 1}
    left_out: list[str] = []
    while not fits(console, table := _table(cells, {*shared, *left_out})) and len(left_out) < len(SPARED):
        left_out.append(SPARED[len(left_out)])
    show_table(console, table)
    if shared:
        console.print(printable("all jobs: " + "; ".join(f"{name} {cell}" for name, cell in shared.items())), soft_wrap=True)
    if named := [name for name in left_out if name not in shared]:
        console.print(f"a wider terminal shows {', '.join(named)}, too", soft_wrap=True)


def _table(cells: Mapping[str, Sequence[str]], hidden: Collection[str]) -> Table:
    shown = {name: column for name, column in cells.items() if name not in hidden}
    table = new_table(*shown, left=TEXTS)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    return table


def macs(plan: Plan) -> int | None:
    """Multiply-adds of training one seed: passes of students, partners and teachers; None if the data are not there.

    What an objective asks of its own, as speq's teacher pass, is not seen and not counted.
    """
    if not plan.data.images:
        return None
    images = min(plan.data.images, plan.config.train_limit or plan.data.images)
    total = 0
    for step in plan.run.trained:
        passes = BACKWARD * forward(plan.graphs[step.network])
        passes += BACKWARD * forward(plan.graphs["teacher"]) if step.partner is not None else 0
        if step.teacher and plan.run.asks(step):
            found = plan.checkpoint(step.teacher)
            passes += forward(found[1]) if found else 0
        total += passes * images * plan.config.epochs_of(step)
    return total


def _paces(schedule: Schedule) -> dict[tuple[object, ...], float]:
    """Seconds of an epoch by what is trained, as far as records of this sweep tell."""
    found: dict[tuple[object, ...], list[float]] = {}
    for task in schedule.chosen.values():
        if _is_run(task) and task.epochs:
            found.setdefault(_network(schedule.plans[task.grid, task.job]), []).extend(_seconds(task))
    return {key: fmean(seconds) for key, seconds in found.items() if seconds}


def _seconds(task: Task) -> Iterator[float]:
    try:
        steps = read_record(task.folder / RECORD_FILE, KIND)["steps"].values()
    except (OSError, RecordError):
        return
    yield from (float(entry["seconds"]) for step in steps for entry in step["epochs"])


def _network(plan: Plan) -> tuple[object, ...]:
    config = plan.config
    return config.dataset, config.data, config.model, config.width, config.train_limit


def _teacher(plan: Plan) -> str:
    named = [f"{'' if option == 'teacher' else option.replace('_', '-') + ' '}{found.text(plan.grid.name)}"
             for option, found in plan.references.items()]
    return ", ".join(named) or ("a file" if plan.config.teacher else "-")


def _is_run(task: Task) -> bool:
    return task.commands[0].module == "training.run"


def _there(tasks: list[Task]) -> str:
    done = sum(task.is_done for task in tasks)
    started = sum(not task.is_done and (task.folder / RECORD_FILE).exists() for task in tasks if _is_run(task))
    return f"{done} of {len(tasks)}" + (f", {started} begun" if started else "")


def _listed(seeds: list[int]) -> str:
    is_range = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if is_range else ", ".join(map(str, seeds))
