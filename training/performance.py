"""Tables of runs of bench.peers: every row with its provenance, a processor after the other, the summary first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from training.report.markup import Section, markdown_text
from training.report.record import Record
from training.report.records import date_of
from training.report.rows import hardware_of, origin_of
from training.report.summaries import origin_cells

TITLE = "Performance"
NOTE = (
    "This project and others on the same things, on all cores of one machine. Each implementation runs in a process of "
    "its own and takes its turn in every round; values are medians over rounds, with quartiles. Weights, codes and pixels "
    "are random. Convolutions of `bittrue`, oneDNN (torch's quantized convolution) and QLinearConv (channels-last) go from "
    "codes to codes; ConvInteger stops at sums, torch float32 at real numbers. GMAC/s count products with padding, too, "
    "which some implementations skip. `accumulator` is W3A3, a register after every product, and W8A8 in two "
    "stages. Absolute figures are those of one machine: compare ratios of one run, and never those of two processors.")
SUMMARY = "summary"
"""What the rows that hold ratios over many cases measure."""


def performance_rows(runs: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Rows of records, a processor after the other: of each measure the newest run there, then the summaries."""
    number = 0
    by_processor: dict[str, list[Record]] = {}
    for run in sorted(runs, key=date_of):
        by_processor.setdefault(hardware_of(run), []).append(run)
    for mine in reversed(by_processor.values()):
        for row in (*_measured(mine), *_promised(mine)):
            yield {"number": number, **row}
            number += 1


def _measured(runs: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Rows of runs on one processor, the oldest run first."""
    newest = {row["what"]: run for run in runs for row in run["rows"]}
    for what, run in newest.items():
        for row in run["rows"]:
            if row["what"] == what:
                low, high = row["spread"] or (None, None)
                yield {"what": what, "case": row["case"], "impl": row["impl"], "isa": row["isa"], "value": row["value"],
                       "unit": row["unit"], "lower quartile": low, "upper quartile": high, "ratio": row.get("ratio"),
                       "ratio to": row.get("ratio to"), "target": None, "note": row.get("missing") or _details(row),
                       **origin_of(run)}


def _promised(runs: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Ratios over many cases, each of the newest run that has it; those that no run has, of the newest run."""
    newest: dict[str, tuple[Mapping[str, Any], Record]] = {}
    for run in runs:
        for ratio in run["ratios"]:
            if ratio["value"] is not None or newest.get(ratio["measure"], ({"value": None},))[0]["value"] is None:
                newest[ratio["measure"]] = ratio, run
    for measure, (ratio, run) in newest.items():
        yield {"what": SUMMARY, "case": measure, "impl": "bittrue", "isa": ratio["isa"], "value": ratio["value"],
               "unit": ratio["target"].split()[-1], "lower quartile": None, "upper quartile": None, "ratio": None,
               "ratio to": None, "target": ratio["target"],
               "note": f"{ratio['cases']} case" + "s" * (ratio["cases"] != 1), **origin_of(run)}


def _details(row: Mapping[str, Any]) -> str:
    """The register of an accumulator case, and how often it was too small."""
    shares = [f"{100.0 * row[name]:.3g} % {name}" for name in ("overflowed", "flagged") if name in row]
    return "; ".join([row["accumulator"], *shares]) if "accumulator" in row else ""


def performance_table(rows: pd.DataFrame) -> list[Section]:
    """Summary and the rows of each measure, a processor after the other; what all of one part share is named above it."""
    parts = list(rows.groupby("hardware", sort=False))
    if len(parts) == 1:
        return _sections(rows)
    return [section for processor, part in parts for section in _sections(part, f"{markdown_text(processor)}: ")]


def _sections(rows: pd.DataFrame, before: str = "") -> list[Section]:
    """Of one processor, whose name stands before every heading if there are several."""
    origin = {**origin_cells(rows), "command": list(rows["command"])}
    is_summary = rows["what"] == SUMMARY
    summary = pd.DataFrame({"measure": rows["case"], "target": rows["target"], "reached": rows["value"].map(_number),
                            "met": [_is_met(*pair) for pair in zip(rows["value"], rows["target"], strict=True)],
                            "over": rows["note"], **origin})[is_summary]
    shown = pd.DataFrame({
        "what": rows["what"], "case": rows["case"], "implementation": rows["impl"], "kernels": rows["isa"],
        "value": rows["value"].map(_number) + " " + rows["unit"],
        "quartiles": ["" if pd.isna(low) else f"{_number(low)} to {_number(high)}"
                      for low, high in zip(rows["lower quartile"], rows["upper quartile"], strict=True)],
        "ratio": ["" if pd.isna(ratio) else f"{ratio:.2f} x {base}"
                  for ratio, base in zip(rows["ratio"], rows["ratio to"], strict=True)],
        "note": rows["note"], **origin})[~is_summary]
    heading = f"{before}{SUMMARY}" if before else ""
    parts = [Section(summary.astype(str), heading, common=tuple(origin))] if is_summary.any() else []
    return parts + [Section(part.drop(columns="what").astype(str), before + markdown_text(what), common=tuple(origin))
                    for what, part in shown.groupby("what", sort=False)]


def _is_met(value: float | None, target: Any) -> str:
    """A target is "at least 2 x", "at most 2 x", "under 2 s", or names no number; rows that are no summary have none."""
    numbers = [float(word) for word in str(target).split() if word[0].isdigit()]
    if not numbers or value is None or pd.isna(value):
        return "-"
    return "yes" if (value >= numbers[0] if str(target).startswith("at least") else value <= numbers[0]) else "no"


def _number(value: float | None) -> str:
    if value is None or pd.isna(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
