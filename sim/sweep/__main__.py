"""python -m sim.sweep: the accuracy of a network on many registers, every number that of sim.eval, in one process."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from sim.accumulator import MAX_BITS, MIN_BITS
from sim.arithmetic import Arithmetic
from sim.checkpoint import CheckpointError
from sim.command import INTERRUPTED, fail, new_app, new_console, new_table, printable, run_app, show_table
from sim.evaluation import Source
from sim.importers import ImporterError
from sim.lowering import LowerError
from sim.network import NetworkError
from sim.outputs import EvalError
from sim.profiles import ProfileError, profiles
from sim.program import ProgramError
from sim.registry import RegistryError
from sim.sweep.configurations import RULES, SAME, configurations
from sim.sweep.job import MEMORY, Job, prepare
from sim.sweep.outcome import Sweep
from training.data import DATASETS, DataError
from training.record import command_line
from training.tables import write_tables

RECORD = "sweep.json"
_NARROW, _FIRST = 78, 6
"""Columns of a narrow terminal, and those that the widths need."""
TABLES = {"register-sweeps": "sweep", "register-layers": "layers"}
"""Tables and plots of a sweep, and what their files are called."""

app = new_app()


@app.command()
def main(  # noqa: PLR0913 - one parameter per option
    model: Annotated[Path, typer.Option(
        help="checkpoint of training.run, a program that --save-program wrote, or a model of another's (.tflite, .onnx)")],
    out: Annotated[Path, typer.Option(
        help="folder of tables, plots, record, and of what is done, from which the same command goes on")],
    accumulator: Annotated[str, typer.Option(
        help=f"widths of the accumulator of inner layers, {MIN_BITS} to {MAX_BITS}: 8:24, 8:24:2 or 8,12,16")] = "8:24",
    overflow: Annotated[str, typer.Option(help=f"any of {','.join(RULES)}")] = "wrap",
    tile: Annotated[str, typer.Option(help="products summed before they reach the accumulator: any of 1, N, end")] = "1",
    stages: Annotated[list[str] | None, typer.Option(
        help="several registers instead of one, as in sim.eval, with B for the width swept, R and T for rules and tiles: "
             "16:B:R,end:32:wrap; once or more often, single is the one  [default: single]")] = None,
    order: Annotated[str | None, typer.Option(help="of products, as that of sim.eval")] = None,
    boundary_accumulator: Annotated[str | None, typer.Option(
        help=f"bits of the accumulator of the first and last layer, or {SAME}  [default: unlimited, or the profile's]")
        ] = None,
    requant: Annotated[str | None, typer.Option(
        help="requantizers with commas, as those of sim.eval  [default: fp32]")] = None,
    bits: Annotated[int | None, typer.Option(help="as that of sim.eval")] = None,
    boundary_bits: Annotated[int | None, typer.Option(help="as that of sim.eval")] = None,
    activation_bits: Annotated[int | None, typer.Option(help="as that of sim.eval")] = None,
    hardware: Annotated[str | None, typer.Option(
        help=f"a profile, whose registers these replace: {', '.join(profiles())}, or your own .toml file",
        metavar="NAME|FILE")] = None,
    pixels_as: Annotated[str | None, typer.Option(help="as that of sim.eval")] = None,
    quantizer: Annotated[str | None, typer.Option(help="as that of sim.eval")] = None,
    dataset: Annotated[str | None, typer.Option(help=f"{', '.join(DATASETS)}  [default: the checkpoint's]")] = None,
    data: Annotated[Path | None, typer.Option(help="where the data are  [default: the checkpoint's]")] = None,
    limit: Annotated[int | None, typer.Option(help="the first N test images only")] = None,
    counters: Annotated[bool, typer.Option(
        "--counters", help="tell which outputs are persistent (the exact sum does not fit) and transient (only a sum on the "
                           "way); takes longer")] = False,
    memory: Annotated[int, typer.Option(help="MiB for the tensors of a batch of images")] = MEMORY,
) -> None:
    """Run a network on every combination of widths, rules and tiles; each number is that of sim.eval.

    Exit status: 0; 2 if refused; 130 if interrupted: the same command goes on.
    """
    options = dict(locals())
    console = new_console()
    wanted = configurations(accumulator, overflow, tile, requant, boundary_accumulator, stages or ())
    common = Arithmetic(bits=bits, boundary_bits=boundary_bits, activation_bits=activation_bits, quantizer=quantizer,
                        hardware=hardware, pixels_as=pixels_as, order=order)
    job = prepare(model, wanted, common, Source(dataset=dataset, data=data, limit=limit), out, memory, counters)
    for note in job.notes:
        console.print(note)
    _say(console, job)
    try:
        with _Live(console, job) as live:
            found = job.run(live)
    except KeyboardInterrupt:
        done, work = job.work
        fail(f"interrupted; {100 * done // work} % is done and kept in {out}, the same command goes on", INTERRUPTED)
    _show(console, found)
    found.save(out / RECORD, command_line("sim.sweep", options))
    for table, stem in TABLES.items():
        for path in write_tables(table, out / RECORD, stem):
            console.print(printable(path))


def _say(console: Console, job: Job) -> None:
    asked, runs = (sum(len(each) for each in lists) for lists in zip(
        *((group.runs, group.different) for group in job.groups), strict=True))
    done, work = job.work
    kept = f"; {100 * done // work} % is done already" if done else ""
    console.print(f"{asked} configurations, {runs} different runs on {len(job.examples.labels):,} test images of "
                  f"{job.examples.label}{kept}")


class _Live:
    """A bar with the time that is left, drawn between runs and not by a thread that would take turns with them."""

    def __init__(self, console: Console, job: Job) -> None:
        columns = (TextColumn("images on registers"), BarColumn(30), TaskProgressColumn(), TimeRemainingColumn(compact=True))
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True,
                                 auto_refresh=False)
        done, work = job.work
        self.task = self.progress.add_task("", total=work, completed=done)

    def __enter__(self) -> "_Live":
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def __call__(self, done: int, work: int) -> None:
        self.progress.update(self.task, completed=done, refresh=True)


def _show(console: Console, found: Sweep) -> None:
    """A row for each width, columns for rules and tiles: accuracy, and overflowed outputs in brackets."""
    free = [row for row in found.rows if row["bits"] is None]
    for base in free:
        rows = [row for row in found.rows if row["requant"] == base["requant"] and row["bits"] is not None]
        cells = {(row["bits"], _kind(row)): _cell(row) for row in rows}
        for kinds in _side_by_side(cells):
            table = new_table("bits", *kinds, left=(), title=f"accuracy % (overflowed outputs %), {base['requant']}")
            for width in sorted({row["bits"] for row in rows}):
                table.add_row(str(width), *(cells[width, kind] for kind in kinds))
            show_table(console, table)
        console.print(f"without limits {base['accuracy']:.2f} % on {base['images']:,} images")
    console.print(f"{found.seconds:.1f} s ({found.isa} kernels)")


def _side_by_side(cells: Mapping[tuple[int, str], str]) -> list[list[str]]:
    """Kinds of registers, as many in a table as a narrow terminal has room for."""
    widths: dict[str, int] = {}
    for (_, kind), cell in cells.items():
        widths[kind] = max(widths.get(kind, len(kind) + 1), len(cell) + 1)
    parts: list[list[str]] = [[]]
    for kind in widths:
        if parts[-1] and _FIRST + sum(widths[other] for other in (*parts[-1], kind)) > _NARROW:
            parts.append([])
        parts[-1].append(kind)
    return parts


def _kind(row: Any) -> str:
    return row["stages"] or f"{row['overflow']} {row['tile']}"


def _cell(row: Any) -> str:
    share = row["overflowed_percent"]
    return f"{row['accuracy']:.2f} ({share:.2g})" if row["overflows"] else f"{row['accuracy']:.2f} (0)"


if __name__ == "__main__":
    run_app(app, EvalError, ImporterError, ProfileError, CheckpointError, ProgramError, NetworkError, DataError, LowerError,
            RegistryError, go_on="the same command goes on")
