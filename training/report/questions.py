"""Rows of networks that answer questions: F1 and exact match, on integers too, with intervals from the questions themselves.

A record of an evaluation holds the scores of each question, from which `sim.tasks.task.interval` draws anew.  Differences of
two networks are of the same questions, so that their interval is narrower than those of each.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sim.command import printable
from sim.tasks.task import interval
from training.report.evaluations import network_of
from training.report.identity import Group, changes_of
from training.report.markup import Section
from training.report.record import Record
from training.report.records import Run
from training.report.rows import origin_of
from training.report.summaries import by_dataset, differing_text, mean_text, names, short_commits

MAIN, EXACT = "f1", "em"
STUDENTS, ARITHMETIC = "students", "arithmetic"
DEFINITIONS = ("softmax", "gelu", "norm")
UNLIMITED = "unlimited"


def scores_of(run: Run, measure: str = MAIN) -> np.ndarray | None:
    """Of each question, 0 to 1; None without an evaluation, or where its record has none."""
    scores = {} if run.evaluation is None else dict(run.evaluation["result"].get("scores") or {})
    return np.asarray(scores[measure], float) if measure in scores else None


def mean_scores(runs: Iterable[Run]) -> np.ndarray:
    """Of each question over the runs; empty unless all were asked the same number of questions."""
    found = [scores_of(run) for run in runs]
    known = [scores for scores in found if scores is not None]
    if not known or len(known) < len(found) or len({len(scores) for scores in known}) > 1:
        return np.empty(0)
    return np.asarray(np.mean(known, 0))


def question_rows(groups: Sequence[Group], evaluations: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One row per student, then one per evaluation of a checkpoint under definitions and registers."""
    for number, group in enumerate(groups):
        scores = mean_scores(group.runs)
        low, high = interval(scores) if len(scores) else (math.nan, math.nan)
        for run in group.runs:
            test, result = run.training["test"], {} if run.evaluation is None else run.evaluation["result"]
            yield {
                "part": STUDENTS, "dataset": printable(group.label), "model": printable(group.config["model"]),
                "bits": group.config["path"][-1], "scheme": printable(group.config["scheme"]),
                "path": "-".join(map(str, group.config["path"])), "options": group.options, "group": number,
                "seed": run.seed,
                "questions": test["images"], "FQ F1": test[MAIN], "FQ EM": test[EXACT],
                "bit-true F1": result.get(MAIN), "bit-true EM": result.get(EXACT), "F1 low": low, "F1 high": high,
                "codes compared": result.get("compared"), "codes differing": result.get("differing"),
                **origin_of(run.training)}
    for record in _on_other_arithmetic(evaluations):
        register, result = record.hardware_spec["accumulator"], record["result"]
        defined = dict(record.get("definitions") or {})
        yield {
            "part": ARITHMETIC, "dataset": printable(record["dataset"]), "network": network_of(record),
            "bits": record.precision.get("inner"), "group": -1, "seed": record.training.get("seed"),
            **{name: printable(defined.get(name, "exact")) for name in DEFINITIONS},
            "accumulator": UNLIMITED if register["bits"] is None else f"{register['bits']} bit {register['overflow']}",
            "questions": result["images"], "bit-true F1": result[MAIN], "bit-true EM": result[EXACT],
            "codes compared": result.get("compared"), "codes differing": result.get("differing"), **origin_of(record)}


def _on_other_arithmetic(evaluations: Iterable[Record]) -> list[Record]:
    """Those of networks that were also run by other definitions or on limited registers; of the rest students say all."""
    found = list(evaluations)
    looked_at = {_network(record) for record in found if record.get("redefined") or not record.unlimited}
    return [record for record in found if _network(record) in looked_at]


def _network(record: Record) -> str:
    return record.model_digest or str(record["model"])


def summarize_questions(rows: pd.DataFrame) -> list[Section]:
    """Students, a row for each group of seeds; then networks by definitions, a column for each register."""
    sections = []
    students, arithmetic = rows[rows["part"] == STUDENTS], rows[rows["part"] == ARITHMETIC]
    if not students.empty:
        sections += by_dataset(pd.DataFrame(list(map(_student, [part for _, part in students.groupby("group")]))),
                               ("model", "questions", "commit", "date", "hardware"))
    if not arithmetic.empty:
        sections += by_dataset(pd.DataFrame(list(_by_register(arithmetic))), ("questions", "commit", "date", "hardware"),
                               "F1 on integers, by integer definitions of softmax, GELU and norm and by the register of the "
                               "inner layers.")
    return sections


def _student(part: pd.DataFrame) -> dict[str, str]:
    first = part.iloc[0]
    ends = "-" if pd.isna(first["F1 low"]) else f"{first['F1 low']:.2f} to {first['F1 high']:.2f}"
    return {**{key: str(first[key]) for key in ("dataset", "bits", "scheme", "path", "model", "options")},
            "n": str(part["seed"].nunique()), "FQ EM": mean_text(part["FQ EM"]), "FQ F1": mean_text(part["FQ F1"]),
            "bit-true EM": mean_text(part["bit-true EM"]), "bit-true F1": mean_text(part["bit-true F1"]), "interval": ends,
            "codes that differ": differing_text(part["codes differing"], part["codes compared"]),
            "questions": names(f"{count:,}" for count in part["questions"]), "commit": short_commits(part["commit"]),
            "date": part["date"].max()[:10], "hardware": names(part["hardware"])}


def _by_register(rows: pd.DataFrame) -> Iterator[dict[str, str]]:
    registers = sorted(rows["accumulator"].unique(), key=_width)
    key: Any  # what pandas says of it is of no use
    for key, part in rows.groupby(["dataset", "network", "bits", "questions", *DEFINITIONS], sort=False, dropna=False):
        dataset, network, bits, questions, *defined = key
        newest = part.sort_values("date").drop_duplicates("accumulator", keep="last").set_index("accumulator")["bit-true F1"]
        yield {"dataset": dataset, "network": network, "bits": str(bits), **dict(zip(DEFINITIONS, defined, strict=True)),
               **{register: f"{newest[register]:.2f}" if register in newest else "-" for register in registers},
               "questions": f"{questions:,}", "commit": short_commits(part["commit"]),
               "date": part["date"].max()[:10], "hardware": names(part["hardware"])}


def _width(register: str) -> tuple[int, str]:
    """Unlimited first, then from wide to narrow."""
    return (-1000 if register == UNLIMITED else -int(register.split(" ", maxsplit=1)[0])), register


def compared(groups: Iterable[Group], scheme: str, than: str) -> Iterator[dict[str, Any]]:
    """One scheme against another, each from float weights, at equal width, data, network and quantizer, by question.

    n counts seeds that both have; the interval is that of the questions, of the mean over these seeds.
    """
    cells: dict[tuple[Any, ...], dict[str, list[Group]]] = {}
    for group in groups:
        name = group.config["scheme"]
        if name in (scheme, than) and (name != "individual" or group.config["init_from"]):
            cells.setdefault(_condition(group), {}).setdefault(name, []).append(group)
    for (label, *_), found in cells.items():
        for mine, theirs in ((mine, theirs) for mine in found.get(scheme, []) for theirs in found.get(than, [])):
            seeds = {run.seed for run in mine.runs} & {run.seed for run in theirs.runs}
            one, other = (mean_scores([run for run in group.runs if run.seed in seeds]) for group in (mine, theirs))
            if not len(one) or len(one) != len(other):
                continue
            low, high = interval(one - other)
            bits = mine.config["path"][-1]
            yield {"bits": bits, "n": len(seeds), "difference": 100.0 * float((one - other).mean()), "low": low,
                   "high": high, "interval": functools.partial(interval, one - other),
                   "where": printable(f"{label}, {bits} bits, F1 over {len(one):,} questions")}


def _condition(group: Group) -> tuple[Any, ...]:
    config: Mapping[str, Any] = group.config
    same = ("model", "width", "preset", "train_limit", "epochs", "batch", "lr", "optimizer", "test_limit", "boundary_bits",
            "skip_bits", "activation_bits")
    return (group.label, group.identity.get("data digest"), config["path"][-1], *(str(config.get(key)) for key in same),
            config["quantizer"], config.get("calibration"), changes_of({**config, "quantizer": "", "calibration": ""}))
