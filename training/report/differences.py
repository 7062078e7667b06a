"""What a reader sees of paired differences: with deviation, interval and verdict, as they are and corrected."""

from dataclasses import replace

import pandas as pd

from training.comparisons import ABLATIONS, Ablation, sentence
from training.report.corrections import both_verdicts, interval_text, p_text
from training.report.markup import Section, markdown_text
from training.report.summaries import by_dataset


def summarize_comparisons(rows: pd.DataFrame) -> list[Section]:
    """A table for each reference on each data set."""
    shown = pd.DataFrame({
        **{key: rows[key] for key in ("dataset", "bits", "scheme", "path", "against", "against path", "options")},
        "accuracy": rows["accuracy"], "n": rows["n"], "difference": with_deviation(rows),
        **interval_cells(rows)}).astype(str)
    if shown.groupby(["dataset", "against", "bits"])["against path"].nunique().max() == 1:
        shown = shown.drop(columns="against path")
    sections = []
    for reference, part in shown.groupby("against", sort=False):
        for section in by_dataset(part, ("options", "accuracy", "against")):
            heading = f"Against {markdown_text(reference)}" + (f": {section.heading}" if section.heading else "")
            sections.append(replace(section, heading=heading, table=section.table.drop(columns="against")))
    return sections


def summarize_ablations(rows: pd.DataFrame) -> list[Section]:
    """A table and a sentence for each option of each scheme on each data set."""
    sections = []
    several = rows["dataset"].nunique() > 1
    for (dataset, scheme, option), group in rows.groupby(
            ["dataset", "scheme", rows["change"].str.split(" ").str[0]], sort=False):
        ablation = ABLATIONS.get((str(scheme), str(option)), Ablation(markdown_text(option), "A change of ours"))
        shown = pd.DataFrame({
            "change": group["change"], "bits": group["bits"], "path": group["path"], "options": group["options"],
            "n": group["n"], "accuracy": group["accuracy of"],
            "changed %": [f"{a:.2f}" + ("" if pd.isna(d) else f" ± {d:.2f}")
                          for a, d in zip(group["accuracy"], group["accuracy deviation"], strict=True)],
            "unchanged %": group["unchanged"].map("{:.2f}".format), "difference": with_deviation(group),
            **interval_cells(group)}).astype(str)
        heading = f"{markdown_text(scheme)}: {ablation.title}" + (f", on {markdown_text(dataset)}" if several else "")
        if list(shown["options"]) == list(shown["change"]):
            shown = shown.drop(columns="options")
        sections.append(Section(shown, heading, sentence(group, ablation), ("bits", "path", "accuracy")))
    return sections


def with_deviation(rows: pd.DataFrame) -> list[str]:
    """Mean and standard deviation of the differences."""
    return [f"{mean:+.2f}" + ("" if pd.isna(deviation) else f" ± {deviation:.2f}")
            for mean, deviation in zip(rows["difference"], rows["deviation"], strict=True)]


def interval_cells(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Interval and verdict, as they are and corrected."""
    return {"95 % interval": _interval(rows, ""), "corrected": _interval(rows, "corrected "),
            "p, Holm": list(map(p_text, rows["corrected p"])),
            "beyond noise": list(map(both_verdicts, rows["verdict"], rows["corrected verdict"]))}


def _interval(rows: pd.DataFrame, which: str) -> list[str]:
    return list(map(interval_text, rows[f"{which}low"], rows[f"{which}high"]))
