"""Which tables and plots there are: their rows from a report, their words, and what a reader sees of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from sim.command import printable
from training.comparisons import ablation_rows, comparison_rows
from training.conformance import NOTE as CONFORMANCE_NOTE
from training.conformance import TITLE as CONFORMANCE_TITLE
from training.conformance import conformance_rows, conformance_table
from training.performance import NOTE, TITLE, performance_rows, performance_table
from training.plots import plot_accumulators, plot_curves, plot_performance
from training.report.accuracy import accuracy_rows, register_rows
from training.report.accuracy_tables import summarize_accuracy
from training.report.differences import summarize_ablations, summarize_comparisons
from training.report.draw import draw_panels
from training.report.evaluations import accumulator_rows, agreement_rows, left_out, other_rows
from training.report.identity import Group, group_runs
from training.report.markup import Section, csv, latex, markdown, markdown_text
from training.report.mistakes import mistake_rows, summarize_mistakes
from training.report.panels import (
    Panel,
    bits_panels,
    is_drawable,
    ladder_panels,
    pareto_panels,
    profile_panels,
    register_panels,
)
from training.report.profiles import profile_rows, summarize_profiles
from training.report.questions import question_rows, summarize_questions
from training.report.records import Records, TableError, find_records
from training.report.register_plots import plot_layers, plot_sweeps
from training.report.register_training import registered_rows, summarize_registered
from training.report.registers import layer_rows, summarize_layers, summarize_sweeps, sweep_rows
from training.report.rows import curve_rows, job_rows, scheme_rows
from training.report.runtimes import NOTE as RUNTIMES_NOTE
from training.report.runtimes import TITLE as RUNTIMES_TITLE
from training.report.runtimes import runtime_rows, summarize_runtimes
from training.report.summaries import (
    scheme_notes,
    summarize_accumulators,
    summarize_agreement,
    summarize_jobs,
    summarize_others,
    summarize_schemes,
)

WHOLE = ("codes compared", "codes differing", "bits", "epochs along path", "tensors", "plain", "plain differing")
"""Columns of whole numbers, some of which may be missing."""


@dataclass(frozen=True)
class Report:
    """What was found, grouped."""

    records: Records
    groups: list[Group]
    notes: tuple[str, ...]
    answering: tuple[Group, ...] = ()
    """Groups of runs whose measure is F1: they are in no table of accuracies."""

    @classmethod
    def of(cls, folders: list[Path], skip_damaged: bool = False) -> "Report":
        """The records below the folders; raises TableError if there are none, or one is damaged."""
        records = find_records(folders, skip_damaged)
        if not any((records.runs, records.evaluations, records.answers, records.performance, records.conformance,
                    records.grids, records.mistakes, records.profiles, records.runtimes, records.registers)):
            left = f" ({len(records.notes)} left out: {records.notes[0]})" if records.notes else ""
            where = ", ".join(map(str, folders))
            raise TableError(f"{where}: no records of finished runs or evaluations{left}; "
                             "name the folder of your runs, such as runs")
        groups, notes = group_runs(records.runs)
        answering = tuple(group for group in groups if group.runs[0].training.is_of_texts)
        plain = [group for group in groups if not group.runs[0].training.is_of_texts]
        return cls(records, plain, (*records.notes, *left_out(records), *notes), answering)

    @cached_property
    def accuracy(self) -> list[dict[str, Any]]:
        """Rows of the main table, of which pictures and findings are made, too."""
        return list(accuracy_rows(self.records, self.groups))


RowsOf = Callable[[Report], Iterable[dict[str, Any]]]


@dataclass(frozen=True)
class Table:
    """One table: its rows from a report, title and note (Markdown), the order of rows, and what a reader sees of them."""

    rows: RowsOf
    title: str
    note: str
    sort: tuple[str, ...]
    summarize: Callable[[pd.DataFrame], list[Section]]
    more: Callable[[pd.DataFrame], str] = lambda rows: ""
    elsewhere: tuple[str, ...] = ()
    """Columns that the CSV file of another table holds for the same rows."""

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
        return {".csv": csv(rows.drop(columns=list(self.elsewhere))), ".md": text, ".tex": latex(self.title, sections)}


def _rows_of_golden_data(report: Report) -> Iterator[dict[str, Any]]:
    run = report.records.conformance
    return iter(()) if run is None else conformance_rows(run)


def _rows_of_benchmarks(report: Report) -> Iterator[dict[str, Any]]:
    return performance_rows(report.records.performance)


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
    "accuracy": Table(
        lambda report: report.accuracy,
        "Accuracy of the schemes, on integers too, and what it costs",
        "Test accuracy in percent, mean ± standard deviation over n seeds. Each scheme as it is: changes of one are in "
        "`ablations.md`. The epoch was chosen on validation images. Every run with its registers, cost and command: "
        "`accuracy.csv`; jobs that are missing: `jobs.md`.",
        ("dataset", "model", "preset", "bits", "scheme", "path", "options", "seed"), summarize_accuracy),
    "squad": Table(
        lambda report: question_rows(report.answering, report.records.answers),
        "Questions answered on integers",
        "Exact match (EM) and F1 in percent by the rules of SQuAD 1.1, mean ± standard deviation over n seeds: of "
        "the fake-quantized model (FQ) and of the integer simulator. The interval (95 %) of bit-true F1 is a bootstrap over "
        "questions, of the mean over seeds. The epoch was chosen on articles that are held out. Every run and evaluation "
        "with its command: `squad.csv`.",
        ("part", "dataset", "bits", "scheme", "path", "group", "seed"), summarize_questions),
    "mistakes": Table(
        lambda report: mistake_rows(report.records.mistakes),
        "Mistakes that networks share with their teachers",
        "Of the test images that a teacher gets wrong, those that the student gets wrong, too (repeated), and those to "
        "which both give the same wrong answer; by chance: what two networks would share whose mistakes within each class "
        "had nothing to do with each other. Counts are means over n seeds. Commands: `mistakes.csv`.",
        ("dataset", "seed", "student", "steps"), summarize_mistakes),
    "profiles": Table(
        lambda report: profile_rows(report.records.profiles),
        "Activations beside the range of their codes",
        "Of what each layer computes before it is rounded, over test images: the part that becomes the least code because "
        "it is below the range, and the part that is clipped above it. Pictures of some layers, of weights, too: "
        "`profiles.svg`. Commands: `profiles.csv`.",
        ("dataset", "network", "number"), summarize_profiles),
    "accumulators": Table(
        lambda report: accumulator_rows(report.records),
        "Accuracy against the width of the accumulator",
        "One trained checkpoint, not retrained, on integer hardware with an accumulator of that width in every inner "
        "layer (`boundary accumulator`: that of the first and last layer). Overflowed outputs: of all sums of layers "
        "with a limited one, those that the register got wrong (wrap) or clipped at least once (saturate); contract "
        "C6 in sim/ARITHMETIC.md. Commands: `accumulators.csv`.",
        ("dataset", "network", "options", "requantizer", "boundary accumulator", "overflow", "tile", "accumulator"),
        summarize_accumulators),
    "register_training": Table(
        lambda report: registered_rows(report.records.evaluations, report.records.grids),
        "Accuracy against the width of the accumulator that was trained for",
        "Networks that are equal in all but how they were trained for the registers of their inner layers: not at all, by "
        "A2Q or A2Q+ (weights whose sums cannot leave the register), or with the register's own overflows in the forward "
        "pass (training/README.md). Of one network every run had the same epochs. Commands: `register_training.csv`.",
        ("dataset", "model", "scheme", "path", "trained", "trained bits", "overflow", "accumulator", "seed"),
        summarize_registered),
    "register-sweeps": Table(
        lambda report: sweep_rows(report.records),
        "Accuracy on registers of many widths",
        "One network on accumulators of every width, rule and tile, or of stages (B: the width), in every inner layer (of "
        "models of others: in all but the first and last, which have the `boundary accumulator`), from `python -m "
        "sim.sweep`; every number is that of `sim.eval`. Columns name rule and tile, or the stages. Accuracy in percent, in "
        "brackets the percentage of sums that the "
        "register got wrong (wrap) or clipped at least once (saturate). Sweeps with `--counters` have a second table, of "
        "persistent and transient outputs. Layers: `register-layers.md`. Every row with its "
        "command: `register-sweeps.csv`.",
        ("dataset", "network", "requantizer", "boundary accumulator", "registers", "accumulator"), summarize_sweeps),
    "register-layers": Table(
        lambda report: layer_rows(report.records),
        "Which layers overflow at which width",
        "Of the sweeps of `register-sweeps.md` the percentage of each layer's sums that a register of that many bits got "
        "wrong (wrap) or clipped at least once (saturate); `safe bits` can never overflow, whatever the input. Widths at "
        "which nothing overflowed are left out here; all are in `register-layers.csv`, their hardware and command in "
        "`register-sweeps.csv`.",
        ("dataset", "network", "requantizer", "boundary accumulator", "registers", "accumulator", "number"),
        summarize_layers, elsewhere=("hardware", "command")),
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
        "settings, paired over seeds: mean ± standard deviation, and the 95 % t interval of the mean, as it is "
        "and corrected (Bonferroni; p values after Holm) for all comparisons with that reference at that width. Beyond "
        "noise is what excludes 0; with a star: only without correction, as one in twenty of equal schemes would. "
        "Runs, commands, commits, hardware and dates: `schemes.csv`.",
        ("dataset", "bits", "against", "against path", "difference"), summarize_comparisons),
    "ablations": Table(
        lambda report: ablation_rows(report.groups),
        "Ablations",
        "One change of a scheme at a time, against the same runs without it and paired over seeds as in "
        "`comparisons.md`; with few seeds only large differences can exceed noise. Corrected for all changes on a "
        "data set; with a star what exceeds noise only without correction. Commands: `ablations.csv`.",
        ("dataset", "scheme", "bits", "change"), summarize_ablations),
    "jobs": Table(
        lambda report: job_rows(report.records.grids),
        "Jobs that are missing",
        "Jobs of sweeps that failed or were not run; `python -m training.sweep` with the grid's name goes on with them. "
        "Commands: `jobs.csv`.",
        ("grid", "status"), summarize_jobs),
    "conformance": Table(_rows_of_golden_data, CONFORMANCE_TITLE, CONFORMANCE_NOTE, ("number",), conformance_table),
    "runtimes": Table(lambda report: runtime_rows(report.records.runtimes), RUNTIMES_TITLE, RUNTIMES_NOTE, ("number",),
                      summarize_runtimes),
    "performance": Table(_rows_of_benchmarks, TITLE, NOTE, ("number",), performance_table),
})
PLOTS: Mapping[str, tuple[RowsOf, Callable[[pd.DataFrame, Path], None]]] = MappingProxyType({
    "curves.svg": (lambda report: curve_rows(report.groups), plot_curves),
    "accumulators.svg": (lambda report: accumulator_rows(report.records), plot_accumulators),
    "register-sweeps.svg": (lambda report: sweep_rows(report.records), plot_sweeps),
    "register-layers.svg": (lambda report: layer_rows(report.records), plot_layers),
    "performance.svg": (_rows_of_benchmarks, plot_performance)})
"""Pictures of the rows of one table, each with a legend of all that is in them."""
PANELS: Mapping[str, tuple[Callable[[Report], Iterator[Panel]], int]] = MappingProxyType({
    "bits.svg": (lambda report: bits_panels(pd.DataFrame(report.accuracy)), 1),
    "pareto.svg": (lambda report: pareto_panels(pd.DataFrame(report.accuracy)), 1),
    "ladder.svg": (lambda report: ladder_panels(pd.DataFrame(list(curve_rows(report.groups)))), 1),
    "registers.svg": (lambda report: register_panels(pd.DataFrame(list(register_rows(report.records, report.groups)))), 1),
    "profiles.svg": (lambda report: profile_panels(report.records.profiles, LAYERS), 4)})
"""Pictures of the report: their panels, and how many stand beside each other in a file."""
LAYERS = 4
"""Of each network in profiles.svg, for weights and for activations."""


def draw(report: Report, name: str, file: Path) -> bool:
    """Draw one of PLOTS or PANELS; whether there was anything to draw."""
    if name in PLOTS:
        rows_of, plot = PLOTS[name]
        rows = pd.DataFrame(list(rows_of(report)))
        if not rows.empty:
            plot(rows, file)
        return not rows.empty
    panels = panels_of(report, name)
    if panels:
        draw_panels(panels, file, PANELS[name][1])
    return bool(panels)


def panels_of(report: Report, name: str) -> list[Panel]:
    """Those of PANELS on which there is something."""
    return list(filter(is_drawable, PANELS[name][0](report)))
