"""What a reader sees of the main table: for each network on each data set accuracy, cost, differences, others' figures."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from sim.network import FLOAT_BITS
from training.report import published
from training.report.accuracy import FINISHED, OVERFLOWS, REFERENCE, WIDTHS, register
from training.report.corrections import both_verdicts, interval_text, p_text
from training.report.markup import Section, markdown_text
from training.report.summaries import mean_text

EXACT = (
    "Accuracy on the test images; `integer`: under an integer requantizer; `16 bit` and so on: registers of inner layers "
    "that saturate after every product, under `fp32`.")
WRAPPING = "The same on registers that wrap."
COST = (
    "`epochs` along the path; `best`: the epoch that validation images chose of the student's own, its validation accuracy "
    "and that of the last; multiply-accumulates of all training on the path; of one image the bit operations (BOPs: "
    "products by the bits of both factors); and the bits of all weights.")
PAIRED = (
    f"Difference to `{REFERENCE}` at the same width, paired over seeds, with its 95 % interval, as it is and corrected "
    "(Bonferroni) for the comparisons at that width; with a star what exceeds noise only uncorrected.")
OTHERS = (
    "What others published, beside our bit-true mean. Their epoch is mostly the best on test images, ours was chosen on "
    "validation images.")
Cells = dict[str, Any]


def summarize_accuracy(rows: pd.DataFrame) -> list[Section]:
    """Sections of every data set and network; figures of two data sets never stand in one column."""
    sections: list[Section] = []
    presets = {key: part["preset"].nunique() for key, part in rows.groupby(["dataset", "model"])}
    for (dataset, model, preset), part in rows.groupby(["dataset", "model", "preset"], sort=True):
        found = [Section(table, text=text, common=("options", "n")) for text, make in PARTS
                 if not (table := pd.DataFrame(list(make(part)))).empty]
        for number, section in enumerate(found):
            told = [dataset, model] + ([f"preset {preset}"] if presets[dataset, model] > 1 else [])
            heading = ", ".join(map(markdown_text, told)) if number == 0 else ""
            sections.append(Section(_used(section.table), heading, section.text, section.common))
    return sections


def _used(table: pd.DataFrame) -> pd.DataFrame:
    """Without columns in which nothing stands."""
    empty = [column for column in table if column not in ("scheme", "path") and set(table[column]) <= {"-", ""}]
    return table.drop(columns=empty).astype(str)


def students(part: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The runs of each scheme, wide networks first."""
    groups = [group for _, group in part.groupby(
        ["bits", "scheme", "path", "options", part["group"].where(part["status"] == FINISHED, -1)], sort=True)]
    yield from sorted(groups, key=lambda group: -int(group["bits"].iloc[0]))


def compact(values: Iterable[Any], scale: float = 1.0, digits: int = 2) -> str:
    """Mean and standard deviation in few characters."""
    known = [None if value is None or pd.isna(value) else float(value) / scale for value in values]
    if digits == 2:
        return mean_text(known).replace(" ± ", "±").replace(" of ", "/")
    some = [value for value in known if value is not None]
    return f"{statistics.fmean(some):.{digits}f}" if some else "-"


def _name(group: pd.DataFrame) -> Cells:
    first = group.iloc[0]
    return {"scheme": first["scheme"], "path": first["path"], "options": first["options"]}


def _exact(part: pd.DataFrame) -> Iterator[Cells]:
    for group in students(part):
        done = group[group["status"] == FINISHED]
        missing = group[group["status"] != FINISHED]
        name = _name(group)
        if not done.empty:
            yield {**name, "n": str(done["seed"].nunique()), "FQ %": compact(done["FQ"]),
                   "bit-true %": compact(done["bit-true"]), "integer %": compact(done["integer"]),
                   **_registers(done, OVERFLOWS[0])}
        for status, jobs in missing.groupby("status"):
            yield {**name, "n": str(jobs["seed"].nunique()), "FQ %": status, "bit-true %": "-", "integer %": "-",
                   **{f"{bits} bit": "-" for bits in WIDTHS}}


def _registers(group: pd.DataFrame, overflow: str) -> Cells:
    return {f"{bits} bit": compact(group[register(overflow, bits)]) for bits in WIDTHS}


def _done(part: pd.DataFrame) -> Iterator[pd.DataFrame]:
    return students(part[part["status"] == FINISHED])


def _wrapping(part: pd.DataFrame) -> Iterator[Cells]:
    for group in _done(part):
        cells = _registers(group, OVERFLOWS[1])
        if set(cells.values()) != {"-"}:
            yield {**_name(group), "n": str(group["seed"].nunique()), **cells}


def _cost(part: pd.DataFrame) -> Iterator[Cells]:
    for group in _done(part):
        best, last = group["best epoch"], int(group["last epoch"].max())
        epochs = f"{best.mean():.0f} of {last}" if last else "-"
        yield {**_name(group), "epochs": compact(group["epochs along path"], digits=0), "best": epochs,
               "val. %": compact(group["best validation"]), "last %": compact(group["last validation"]),
               "10^12 macs": compact(group["training macs"], 1e12, 1),
               "10^6 BOPs": compact(group["bit operations"], 1e6, 0),
               "kbits": compact(group["weight bits"], 1e3, 0)}


def _paired(part: pd.DataFrame) -> Iterator[Cells]:
    for group in _done(part):
        first = group.iloc[0]
        told = {key: first[f"{REFERENCE}: {key}"] for key in
                ("difference", "low", "high", "corrected low", "corrected high", "corrected p")}
        if pd.isna(told["difference"]):
            continue
        verdicts = first[f"{REFERENCE}: verdict"], first[f"{REFERENCE}: corrected verdict"]
        yield {**_name(group), "pairs": str(int(first["pairs"])), "difference": f"{told['difference']:+.2f}",
               "95 % interval": interval_text(told["low"], told["high"]),
               "corrected": interval_text(told["corrected low"], told["corrected high"]),
               "p, Holm": p_text(told["corrected p"]),
               "beyond noise": both_verdicts(*verdicts)}


def _others(part: pd.DataFrame) -> Iterator[Cells]:
    first = part.iloc[0]
    for bits in sorted(part["bits"].unique(), reverse=True):
        here = part[(part["bits"] == bits) & (part["status"] == FINISHED)]
        for figure in published.of(first["dataset"], first["model"], int(bits)):
            same = here[here["scheme"] == figure.scheme]
            ours = same["FQ"] if bits == FLOAT_BITS else same["bit-true"]
            yield {"bits": str(bits), "scheme": figure.scheme or "another", "ours %": compact(ours) if len(same) else "-",
                   "published %": f"{figure.value:.2f}", "by": figure.by, "read in": figure.source,
                   "protocol": figure.protocol}


PARTS: Sequence[tuple[str, Callable[[pd.DataFrame], Iterator[Cells]]]] = (
    (EXACT, _exact), (WRAPPING, _wrapping), (COST, _cost), (PAIRED, _paired), (OTHERS, _others))
