"""python -m training.tables: run records -> tables as CSV, Markdown and LaTeX, and plots.

Tables hold nothing that is not in a record; a test makes them again and compares.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import pandas as pd
import typer

from sim.command import new_app, printable, run_app
from sim.files import write_text_atomically
from sim.records import RecordError, read_record
from training.comparisons import (
    ComparisonError,
    ablation_rows,
    comparison_rows,
    summarize_ablations,
    summarize_comparisons,
)
from training.conformance import NOTE as CONFORMANCE_NOTE
from training.conformance import TITLE as CONFORMANCE_TITLE
from training.conformance import conformance_rows, conformance_table
from training.folder import CURVES_FILE, RECORD_FILE
from training.performance import NOTE, TITLE, performance_rows, performance_table
from training.plots import plot_accumulators, plot_curves, plot_performance
from training.report.evaluations import accumulator_rows, agreement_rows, left_out, other_rows
from training.report.identity import Group, group_runs
from training.report.markup import Section, csv, latex, markdown, markdown_text
from training.report.records import Record, Records, TableError, find_records
from training.report.rows import curve_rows, hardware_of, job_rows, scheme_rows
from training.report.summaries import (
    scheme_notes,
    summarize_accumulators,
    summarize_agreement,
    summarize_jobs,
    summarize_others,
    summarize_schemes,
)

RESULTS = Path("results")
"""Of the working directory: where sweeps put records and tables are made unless told otherwise."""
WHOLE = ("codes compared", "codes differing", "bits", "epochs along path", "tensors", "plain", "plain differing")
"""Columns of whole numbers, some of which may be missing."""
FORMATS = {"md": ".md", "csv": ".csv", "latex": ".tex"}

app = new_app()


@dataclass(frozen=True)
class Report:
    """What was found, grouped."""

    records: Records
    groups: list[Group]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, folders: list[Path], skip_damaged: bool = False) -> "Report":
        """The records below the folders; raises TableError if there are none, or one is damaged."""
        records = find_records(folders, skip_damaged)
        if not (records.runs or records.evaluations or records.performance or records.conformance or records.grids):
            left = f" ({len(records.notes)} left out: {records.notes[0]})" if records.notes else ""
            where = ", ".join(map(str, folders))
            raise TableError(f"{where}: no records of finished runs or evaluations{left}; "
                             "name the folder of your runs, such as runs")
        groups, notes = group_runs(records.runs)
        return cls(records, groups, (*records.notes, *left_out(records), *notes))


@app.command()
def main(
    folders: Annotated[list[Path] | None, typer.Argument(
        help="folders (or files) of your runs and evaluations  [default: results/records]")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the tables  [default: that of the records]")] = None,
    results: Annotated[Path | None, typer.Option(help="folder of records/ and of the tables  [default: results]")] = None,
    formats: Annotated[str, typer.Option("--format", help="any of " + ",".join(FORMATS))] = "md,csv",
    skip_damaged: Annotated[bool, typer.Option("--skip-damaged", help="leave damaged records out, do not stop")] = False,
) -> None:
    """Write every table that the records allow, and the plots.

    Example: python -m training.tables runs --out my-results
    """
    wanted = list(dict.fromkeys(formats.split(",")))
    if not set(wanted) <= FORMATS.keys():
        raise TableError(f"format: {formats!r} is not allowed, choose from {','.join(FORMATS)}")
    sources, target = _places(folders or [], out, results)
    if (target / RECORD_FILE).exists():
        raise TableError(f"out: {target} is the folder of a run, whose own {CURVES_FILE} tables would replace; "
                         "choose another folder, such as --out my-results")
    report = Report.of(sources, skip_damaged)
    written = set()
    for name, text in _files(report, wanted).items():
        write_text_atomically(target / name, text)
        written.add(name)
    for name, (rows_of, plot) in PLOTS.items():
        rows = pd.DataFrame(list(rows_of(report)))
        if not rows.empty:
            plot(rows, target / name)
            written.add(name)
    possible = [*(name + FORMATS[key] for name in TABLES for key in wanted), *PLOTS]
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


def _places(folders: list[Path], out: Path | None, results: Path | None) -> tuple[list[Path], Path]:
    """Where records are read and tables go."""
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


RowsOf = Callable[[Report], Iterator[dict[str, Any]]]


@dataclass(frozen=True)
class Table:
    """One table: its rows from a report, title and note (Markdown), the order of rows, and what a reader sees of them."""

    rows: RowsOf
    title: str
    note: str
    sort: tuple[str, ...]
    summarize: Callable[[pd.DataFrame], list[Section]]
    more: Callable[[pd.DataFrame], str] = lambda rows: ""

    def texts(self, rows: pd.DataFrame, notes: tuple[str, ...] = ()) -> dict[str, str]:
        """By suffix: everything as CSV, the summary as Markdown and LaTeX."""
        rows = rows.sort_values(list(self.sort), kind="stable").reset_index(drop=True)
        for column in WHOLE:
            if column in rows:
                rows[column] = rows[column].astype("Int64")
        sections = self.summarize(rows)
        left = "".join(f"\n- {markdown_text(printable(note))}" for note in notes)
        text = f"# {self.title}\n\n{self.note}{self.more(rows)}\n\n{markdown(sections)}"
        text += f"\nNotes:\n{left}\n" if left else ""
        return {".csv": csv(rows), ".md": text, ".tex": latex(self.title, sections)}


def performance_files(record: Path) -> list[Path]:
    """Where `write_performance` puts tables and plot of a record."""
    folder = record.parent.parent if record.parent.name == "records" else record.parent
    return [folder / name for name in (f"{record.stem}.csv", f"{record.stem}.md", f"{record.stem}.svg")]


def write_performance(record: Path) -> list[Path]:
    """Tables and plot of a run of bench.peers, beside its record or, from results/records, in results; the files."""
    run = Record(record, read_record(record))
    rows = pd.DataFrame(list(performance_rows(run.content, hardware_of(run))))
    files = performance_files(record)
    texts = TABLES["performance"].texts(rows)
    for file in files[:2]:
        write_text_atomically(file, texts[file.suffix])
    plot_performance(rows, files[2])
    return files


def conformance_files(record: Path) -> list[Path]:
    """Where `write_conformance` puts the tables of a record."""
    return performance_files(record)[:2]


def write_conformance(record: Path) -> list[Path]:
    """Tables of a run of sim.conformance, beside its record or, from results/records, in results; the files."""
    run = Record(record, read_record(record, "conformance"))
    texts = TABLES["conformance"].texts(pd.DataFrame(list(conformance_rows(run.content, hardware_of(run)))))
    files = conformance_files(record)
    for file in files:
        write_text_atomically(file, texts[file.suffix])
    return files


def _rows_of_golden_data(report: Report) -> Iterator[dict[str, Any]]:
    run = report.records.conformance
    if run is not None:
        yield from conformance_rows(run.content, hardware_of(run))


def _rows_of_benchmarks(report: Report) -> Iterator[dict[str, Any]]:
    run = report.records.performance
    if run is not None:
        yield from performance_rows(run.content, hardware_of(run))


TABLES: Mapping[str, Table] = MappingProxyType({
    "schemes": Table(
        lambda report: scheme_rows(report.groups),
        "Training schemes",
        "Test accuracy in percent, mean ± standard deviation over n seeds: of the fake-quantized model (FQ) and of "
        "the integer simulator (bit-true, `fp32` requantizer, unlimited accumulator; \"-\" where no evaluation is "
        "recorded). Runs share a row only if they are equal in everything but the seed; `options` is what deviates "
        "from the defaults of preset and scheme. The epoch was chosen on validation images; the test set was used "
        "once, unless `options` say otherwise. `epochs` is per step (\"-\" where none is trained); `epochs along path` adds "
        "those of the student's ancestors (\"-\" where the record of a teacher is not here): rows in which it differs had "
        "different budgets. A run that was given a teacher counts the seconds of its own steps only. One "
        "row per seed, with its command: `schemes.csv`.",
        ("dataset", "scheme", "path", "preset", "group", "seed"), summarize_schemes, scheme_notes),
    "accumulators": Table(
        lambda report: accumulator_rows(report.records),
        "Accuracy against the width of the accumulator",
        "One trained checkpoint, not retrained, on integer hardware with an accumulator of that width in every inner "
        "layer (`boundary accumulator`: that of the first and last layer). Overflowed outputs: of all sums of layers "
        "with a limited one, those that the register got wrong (wrap) or clipped at least once (saturate); contract "
        "C6 in sim/ARITHMETIC.md. Commands: `accumulators.csv`.",
        ("dataset", "network", "options", "requantizer", "boundary accumulator", "overflow", "tile", "accumulator"),
        summarize_accumulators),
    "agreement": Table(
        lambda report: agreement_rows(report.records),
        "Agreement of simulator and model",
        "One trained checkpoint at several widths (its float weights requantized, not retrained, so accuracies away "
        "from the trained width mean little): every code of every layer and every logit, on the test images, compared"
        " between the fake-quantized torch model and the integer simulator under `fp32`. Commands: `agreement.csv`.",
        ("dataset", "network", "options", "bits"), summarize_agreement),
    "evaluations": Table(
        lambda report: other_rows(report.records),
        "Other evaluations",
        "Evaluations that are in no other table: under other requantizers, at widths that were not compared with the model, "
        "or of networks whose run is not here. Commands: `evaluations.csv`.",
        ("dataset", "network", "options", "requantizer", "bits"), summarize_others),
    "comparisons": Table(
        lambda report: comparison_rows(report.groups),
        "Which differences exceed noise",
        "Test accuracy, the difference of each scheme to others at the same width on the same data under equal "
        "settings, paired over seeds: mean ± standard deviation, and the 95 % t interval of the mean. Beyond noise is"
        " what excludes 0; no correction for many comparisons is made, one in twenty of equal schemes would pass. "
        "Runs, commands, commits, hardware and dates: `schemes.csv`.",
        ("dataset", "bits", "against", "against path", "difference"), summarize_comparisons),
    "ablations": Table(
        lambda report: ablation_rows(report.groups),
        "Ablations",
        "One change of a scheme at a time, against the same runs without it and paired over seeds as in "
        "`comparisons.md`; with few seeds only large differences can exceed noise, and of so many changes one or two "
        "that change nothing would. Commands: `ablations.csv`.",
        ("dataset", "scheme", "bits", "change"), summarize_ablations),
    "jobs": Table(
        lambda report: job_rows(report.records.grids),
        "Jobs that are missing",
        "Jobs of sweeps that failed or were not run; `python -m training.sweep` with the grid's name goes on with them. "
        "Commands: `jobs.csv`.",
        ("grid", "status"), summarize_jobs),
    "conformance": Table(_rows_of_golden_data, CONFORMANCE_TITLE, CONFORMANCE_NOTE, ("number",), conformance_table),
    "performance": Table(_rows_of_benchmarks, TITLE, NOTE, ("number",), performance_table),
})
PLOTS: Mapping[str, tuple[RowsOf, Callable[[pd.DataFrame, Path], None]]] = MappingProxyType({
    "curves.svg": (lambda report: curve_rows(report.groups), plot_curves),
    "accumulators.svg": (lambda report: accumulator_rows(report.records), plot_accumulators),
    "performance.svg": (_rows_of_benchmarks, plot_performance)})


if __name__ == "__main__":
    run_app(app, TableError, ComparisonError, RecordError)
