"""python -m sim.conformance: golden data of other people's arithmetic, run here and compared code by code."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sim.command import CODES_DIFFER, new_app, new_console, new_table, output_file, printable, run_app, show_table
from sim.conformance.case import Case, Outcome
from sim.conformance.check import check
from sim.conformance.families import FAMILIES
from sim.conformance.folder import Folder
from sim.conformance.summary import Row, Summary
from sim.outputs import EvalError, check_outputs, is_stdout
from sim.recognize import CONFORMANCE
from sim.records import write_record

PACKAGES = ("ai-edge-litert", "tflite-micro", "onnx", "onnxruntime", "qonnx", "tflite")
"""Runtimes and readers whose versions matter to some family."""
MOST_NAMES = 3
"""Of cases that are not run, in a line on a terminal; the record names all."""
MOST_REASON = 150
"""Characters of a reason there; the record has the whole of it."""

app = new_app()


class ConformanceError(ValueError):
    """A folder or an option that is not allowed, and what is."""


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="folder of golden data: public clones, archives, models with traces")],
    family: Annotated[str, typer.Option(help=f"some of {','.join(FAMILIES)}  [default: all]")] = "",
    json_file: Annotated[Path | None, typer.Option(
        "--json", help="file of the results; tables are written with it", parser=output_file, metavar="FILE")] = None,
) -> None:
    """Run golden data of other people's runtimes and accelerators, and compare every code.

    Exit status: 0; 1 if codes differ; 2 if refused, or if nothing there can be compared.
    """
    _check_outputs(json_file)
    cases = find(folder, _families(family))
    record = {} if json_file is None else _record(folder, family, json_file)
    console = new_console()
    summary = Summary.of(run(console, cases))
    show(console, summary)
    if not summary.rows:
        raise ConformanceError(f"{folder}: none of its {len(cases)} cases can be run, the table says why")
    if json_file is not None:
        from training.tables import write_tables

        write_record(json_file, {"kind": "conformance", "folder": str(folder), **summary.to_json(), **record})
        for path in write_tables("conformance", json_file):
            console.print(printable(path))
    if summary.differing_codes:
        raise typer.Exit(CODES_DIFFER)


def find(folder: Path, families: Sequence[str]) -> list[tuple[str, Case]]:
    """(family, case) of every golden case below a folder.  Raises ConformanceError where there is none."""
    if not folder.is_dir():
        raise ConformanceError(f"{folder}: no such folder; name one with golden data of {', '.join(families)}")
    below = Folder(folder)
    cases = [(family, case) for family in families for case in FAMILIES[family](below)]
    if not cases:
        raise ConformanceError(f"{folder}: no golden data of {', '.join(families)} in its {len(below.files)} files; see "
                               "python -m sim.conformance --help")
    return cases


def run(console: Console, cases: Sequence[tuple[str, Case]]) -> Iterator[Outcome]:
    """The outcome of each, with a bar meanwhile where somebody watches."""
    with _progress(console, len(cases)) as progress:
        for family, case in cases:
            progress.update(progress.task_ids[0], description=f"{family}: {printable(case.name)}"[:40], refresh=True)
            yield check(family, case)
            progress.update(progress.task_ids[0], advance=1, refresh=True)


@contextmanager
def _progress(console: Console, cases: int) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(12), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    shown = Progress(*columns, console=console, disable=not console.is_terminal, transient=True, auto_refresh=False)
    with shown:
        shown.add_task("", total=cases)
        yield shown


def show(console: Console, summary: Summary) -> None:
    """A table for each family, where codes differ, what was not run and why."""
    for family in dict.fromkeys(row.family for row in summary.rows):
        show_table(console, _table(family, [row for row in summary.rows if row.family == family]))
    plain = sum(row.plain for row in summary.rows)
    console.print(f"{summary.codes:,} codes of {sum(row.cases for row in summary.rows):,} cases compared, "
                  f"{sum(row.differing for row in summary.rows):,} differ")
    console.print(f"in plain Python integers, too: {plain:,} codes, "
                  f"{sum(row.plain_differing for row in summary.rows):,} differ")
    for outcome in summary.differing:
        console.print(f"differs: {outcome.family} {printable(outcome.name)}: {outcome.differing:,} of {outcome.codes:,} "
                      f"codes, {outcome.first}")
    if summary.unsupported:
        console.print("not supported:")
    for (family, operation, reason), names in summary.unsupported.items():
        many = "s" * (len(names) > 1)
        console.print(f"  {family} {operation}, {len(names)} case{many}: {_short(reason)} ({_some(names)})")


def _table(family: str, rows: Sequence[Row]) -> Table:
    table = new_table("operation", "rule", "cases", "tensors", "codes", "differ", left=("operation", "rule"), title=family)
    for row in rows:
        table.add_row(row.operation, row.rule, f"{row.cases:,}", f"{row.tensors:,}", f"{row.codes:,}",
                      f"{row.differing + row.plain_differing:,}")
    return table


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(map(printable, names[:MOST_NAMES])) + more


def _short(reason: str) -> str:
    return reason if len(reason) <= MOST_REASON else reason[: MOST_REASON - 3] + "..."


def _families(option: str) -> list[str]:
    """Those that an option names, or all."""
    names: Iterable[str] = option.split(",") if option else FAMILIES
    for name in names:
        if name not in FAMILIES:
            raise ConformanceError(f"family: {name!r} is unknown, choose some of {','.join(FAMILIES)}")
    return list(dict.fromkeys(names))


def _record(folder: Path, family: str, json_file: Path) -> dict[str, Any]:
    """What ran, as a record holds it; without one, nothing of training (and torch) is loaded."""
    from training.record import command_line, provenance, versions

    record = provenance(command_line("sim.conformance", {"family": family or None, "json": json_file}, [str(folder)]))
    record["versions"] |= versions(PACKAGES)
    return record


def _check_outputs(record: Path | None) -> None:
    """Raise ConformanceError or EvalError unless the record and its tables can be written, and replace nothing else."""
    if record is None:
        return
    from training.tables import table_files

    tables = table_files("conformance", record)
    if record in tables or is_stdout(record) or (record.exists() and not record.is_file() and not record.is_dir()):
        raise ConformanceError(f"json: {record} is no file of its own: tables are made of it and written beside it, name "
                               "one that ends in .json")
    check_outputs({"json": record} | {table.suffix: table for table in tables}, {}, {"json": CONFORMANCE})


if __name__ == "__main__":
    run_app(app, ConformanceError, EvalError)
