"""python -m training.tables: run records -> tables as CSV, Markdown and LaTeX, and plots.

Tables hold nothing that is not in a record; a test makes them again and compares.  Which there are says
training/report/catalog.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from sim.command import new_app, printable, run_app
from sim.files import write_text_atomically
from sim.records import RecordError
from training.comparisons import ComparisonError
from training.folder import CURVES_FILE, RECORD_FILE, RESULTS
from training.report.catalog import PANELS, PLOTS, TABLES, Report, draw
from training.report.records import TableError

FORMATS = {"md": ".md", "csv": ".csv", "latex": ".tex"}
Folders = Annotated[list[Path] | None, typer.Argument(
    help="folders (or files) of your runs and evaluations  [default: results/records]")]
SkipDamaged = Annotated[bool, typer.Option("--skip-damaged", help="leave damaged records out, do not stop")]

app = new_app()


@app.command()
def main(
    folders: Folders = None,
    out: Annotated[Path | None, typer.Option(help="folder of the tables  [default: that of the records]")] = None,
    results: Annotated[Path | None, typer.Option(help="folder of records/ and of the tables  [default: results]")] = None,
    formats: Annotated[str, typer.Option("--format", help="any of " + ",".join(FORMATS))] = "md,csv",
    skip_damaged: SkipDamaged = False,
) -> None:
    """Write every table that the records allow, and the plots.

    Example: python -m training.tables runs --out my-results
    """
    wanted = list(dict.fromkeys(formats.split(",")))
    if not set(wanted) <= FORMATS.keys():
        raise TableError(f"format: {formats!r} is not allowed, choose from {','.join(FORMATS)}")
    sources, target = places(folders or [], out, results)
    if (target / RECORD_FILE).exists():
        raise TableError(f"out: {target} is the folder of a run, whose own {CURVES_FILE} tables would replace; "
                         "choose another folder, such as --out my-results")
    report = Report.of(sources, skip_damaged)
    written = set()
    for name, text in _files(report, wanted).items():
        write_text_atomically(target / name, text)
        written.add(name)
    pictures = [*PLOTS, *PANELS]
    written |= {name for name in pictures if draw(report, name, target / name)}
    possible = [*(name + FORMATS[key] for name in TABLES for key in wanted), *pictures]
    for name in possible:
        if name in written:
            print(printable(target / name))
    stale = [f"{target / name}: of an earlier call, there are no such records now"
             for name in possible if name not in written and (target / name).exists()]
    count = report.records.undigested
    undigested = [f"{count} record{'s' * (count > 1)} without a digest, from before 0.2 or changed since: nothing tells "
                  "whether the content is what a run wrote"] if count else []
    for note in (*report.notes, *undigested, *stale):
        print(f"note: {printable(note)}", file=sys.stderr)


def places(folders: list[Path], out: Path | None, results: Path | None) -> tuple[list[Path], Path]:
    """Where records are read and tables go.  Raises TableError."""
    if results is not None and folders:
        raise TableError("results: it names the folder of the records, too, so name no other, or use --out")
    if not folders:
        home = RESULTS if results is None else results
        below = home / "records"
        if results is None and not below.is_dir():
            raise TableError(f"{below}: no such folder; name the folder of your runs, such as python -m training.tables "
                             "runs --out my-results, or make records with python -m training.sweep")
        return [below if below.is_dir() else home], out or home
    if out is None and len(folders) > 1:
        raise TableError("out: say where the tables of several folders go")
    first = folders[0] if folders[0].is_dir() else folders[0].parent
    return folders, out or (first.parent if first.name == "records" else first)


def make_tables(records: Path, formats: Sequence[str] = ("md", "csv")) -> dict[str, str]:
    """File name -> content of every table of the records below a folder."""
    return _files(Report.of([records]), formats)


def _files(report: Report, formats: Sequence[str]) -> dict[str, str]:
    """Rows of every table as the files of these formats."""
    suffixes = [FORMATS[key] for key in formats]
    files: dict[str, str] = {}
    for name, table in TABLES.items():
        rows = pd.DataFrame(list(table.rows(report)))
        if not rows.empty:
            notes = report.notes if name == "schemes" else ()
            files |= {f"{name}{suffix}": text for suffix, text in table.texts(rows, notes).items() if suffix in suffixes}
    return files


def table_files(name: str, record: Path) -> list[Path]:
    """Where `write_tables` puts them: beside the record or, from results/records, in results."""
    folder = record.parent.parent if record.parent.name == "records" else record.parent
    suffixes = (".csv", ".md", *((".svg",) if f"{name}.svg" in PLOTS else ()))
    return [folder / f"{record.stem}{suffix}" for suffix in suffixes]


def write_tables(name: str, record: Path) -> list[Path]:
    """Write one table of a record that was just made, and its plot if it has one; the files."""
    report = Report.of([record])
    texts = TABLES[name].texts(pd.DataFrame(list(TABLES[name].rows(report))))
    files = table_files(name, record)
    for file in files:
        if file.suffix in texts:
            write_text_atomically(file, texts[file.suffix])
        else:
            draw(report, f"{name}{file.suffix}", file)
    return files


if __name__ == "__main__":
    run_app(app, TableError, ComparisonError, RecordError)
