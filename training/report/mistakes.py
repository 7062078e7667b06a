"""Rows of mistakes that networks share with their teachers: one row per pair of a chain."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from sim.command import printable
from training.report.markup import Section
from training.report.records import Record
from training.report.rows import origin_of
from training.report.summaries import by_dataset, mean_text


def mistake_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One row per pair; `taught` tells a network that the one before it in the chain taught from others."""
    for record in records:
        networks = record["networks"]
        for pair in record["pairs"]:
            one, other = networks[pair["teacher"]], networks[pair["student"]]
            wrong = pair["teacher_wrong"]
            yield {"dataset": printable(record["dataset"]), "teacher": printable(one["name"]),
                   "student": printable(other["name"]), "seed": other["training"].get("seed"),
                   "steps": pair["student"] - pair["teacher"], "images": pair["images"], "teacher wrong": wrong,
                   "student wrong": pair["student_wrong"], "both wrong": pair["both_wrong"],
                   "repeated %": _percent(pair["both_wrong"], wrong), "by chance %": _percent(pair["both_expected"], wrong),
                   "same answer": pair["same_answer"], "same answer %": _percent(pair["same_answer"], wrong),
                   "same by chance %": _percent(pair["same_expected"], wrong), **origin_of(record)}


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else math.nan


def summarize_mistakes(rows: pd.DataFrame) -> list[Section]:
    """A row for each pair of networks, over seeds."""
    shown = []
    for (dataset, teacher, student), group in rows.groupby(["dataset", "teacher", "student"], sort=False):
        shown.append({
            "dataset": dataset, "teacher": teacher, "student": student, "n": str(len(group)),
            "teacher wrong": f"{group['teacher wrong'].mean():.0f}", "student wrong": f"{group['student wrong'].mean():.0f}",
            "both": f"{group['both wrong'].mean():.0f}", "repeated %": mean_text(group["repeated %"]),
            "by chance %": mean_text(group["by chance %"]), "same answer %": mean_text(group["same answer %"]),
            "by chance": mean_text(group["same by chance %"])})
    return by_dataset(pd.DataFrame(shown).astype(str), ("n",))
