"""Which differences between runs exceed noise: paired over seeds, because runs of one seed share data order and teacher.

Only runs of equal configuration are paired: a comparison changes the scheme (its path, teacher and own options with it), an
ablation what its row names, and nothing else.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from sim.command import printable
from training.report.ancestry import Ancestry
from training.report.corrections import half_width, with_corrections
from training.report.identity import CHANGES, DISTILLATION, Group, changes_of, default_config, text_of
from training.report.markup import markdown_text
from training.report.rows import hardware_of
from training.report.summaries import names, short_commits

REFERENCES = ("individual", "skip-level")
"""Every scheme is compared with training alone, and with the plainest way of distilling from a float network."""
DATA = ("data", "data digest", "label")
OF_METHOD: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "qad": ("teacher_model", "teacher_width", "init_from", "init_from digest"),
    "individual": ("init_from", "init_from digest")})
"""Options without which a scheme is another one: its larger teacher, and where its float weights come from, which others
take from their teacher."""
ROUNDING = 1
"""How many epochs an equal budget may be off: a third of 20 is no whole number."""
_OF_BUDGET = ("epochs", "milestones")
_OF_SCHEME = ("scheme", "path", "teacher", "teacher digest", "seed of teacher", "own code of scheme")
_OF_CHANGE = (*CHANGES, "individual digest", "own code of quantizer", "own code of teacher_model", "evaluated images", *DATA)


class ComparisonError(ValueError):
    """Runs that cannot be compared, and why."""


@dataclass(frozen=True)
class Ablation:
    """What changing an option asks; what its source says, and how it expects the changed runs: "worse", "better" or ""."""

    title: str
    source: str
    expects: str = ""


ABLATIONS: Mapping[tuple[str, str], Ablation] = MappingProxyType({
    ("qkd", "phases"): Ablation("phases left out", "QKD trains in all three phases", "worse"),
    ("qkd", "fixed-teacher"): Ablation("a teacher that does not learn", "QKD's teacher learns while co-studying", "worse"),
    ("qkd", "teacher-width"): Ablation("a teacher of twice the channels", "QKD takes larger teachers", "better"),
    ("speq", "u"): Ablation("how often the teacher's layers are precise", "SPEQ's good range is 0.4 to 0.6", "worse"),
    ("speq", "high-bits"): Ablation("the teacher's high precision", "SPEQ takes 8 bits", "worse"),
    ("speq", "candidates"): Ablation("any width instead of two", "SPEQ finds two widths better by 0.2 points", "worse"),
    ("speq", "self-distillation"): Ablation("KL instead of the cosine", "SPEQ prefers the cosine", "worse"),
    ("speq", "teacher-statistics"): Ablation(
        "whose statistics normalize the teacher", "No source says; the default is ours"),
    ("skip-level", "drop-kd-after"): Ablation(
        "soft labels dropped late", "An open question of the teacher-assistant report"),
    ("skip-level", "hard-example-weight"): Ablation(
        "hard examples count more", "An open question of the teacher-assistant report"),
    ("skip-level", "quantizer"): Ablation("other quantizers than DoReFa", "No source compares them in this scheme"),
})
"""By scheme and the first option changed.  One that is not here has a table all the same."""


def paired(mine: pd.Series, theirs: pd.Series) -> dict[str, Any]:
    """Difference of two series of accuracies with seeds as index: n, mean, deviation and the t interval of the mean.

    Raises ComparisonError if a series has a seed twice.
    """
    if not (mine.index.is_unique and theirs.index.is_unique):
        raise ComparisonError("two runs of one seed cannot be paired: keep the records of one path, preset and model")
    common = mine.index.intersection(theirs.index)
    difference = (mine[common] - theirs[common]).to_numpy()
    n, mean = len(difference), float(np.mean(difference)) if len(difference) else float("nan")
    deviation = float(np.std(difference, ddof=1)) if n > 1 else float("nan")
    half = half_width(deviation, n)
    return {"n": n, "difference": mean, "deviation": deviation, "low": mean - half, "high": mean + half}


def verdict(row: Mapping[str, Any]) -> str:
    """Whether the interval excludes 0."""
    if row["n"] < 2:
        return "one seed"
    return "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "within noise"


def comparison_rows(groups: list[Group]) -> Iterator[dict[str, Any]]:
    """Each scheme against the references at its width on its data; against the first scheme where there is no reference.

    A family of comparisons is one reference at one width.
    """
    yield from with_corrections(_comparisons(groups), lambda row: tuple(
        str(row[key]) for key in ("dataset", "bits", "against", "against path", "options")))


def _comparisons(groups: list[Group]) -> Iterator[dict[str, Any]]:
    ancestry = Ancestry(run for group in groups for run in group.runs)
    for cell in _cells(groups):
        references = [group for scheme in REFERENCES for group in cell if group.config["scheme"] == scheme] or cell[:1]
        for reference in references:
            for group in cell:
                yield from _comparison(group, reference, ancestry)


def between(groups: list[Group], scheme: str, other: str, ancestry: Ancestry) -> Iterator[dict[str, Any]]:
    """One scheme against another wherever both ran under equal settings, not corrected for how many these are."""
    for cell in _cells(groups):
        mine, theirs = ([group for group in cell if group.config["scheme"] == which] for which in (scheme, other))
        for group, reference in itertools.product(mine, theirs):
            yield from _comparison(group, reference, ancestry)


def _cells(groups: list[Group]) -> Iterable[list[Group]]:
    """Groups that have in common what schemes must have."""
    cells: dict[str, list[Group]] = {}
    for group in groups:
        cells.setdefault(_condition(group), []).append(group)
    return cells.values()


def _comparison(group: Group, reference: Group, ancestry: Ancestry) -> Iterator[dict[str, Any]]:
    """Their row; none where they may not be compared."""
    if group is reference or not (_same_data(group, reference) and _same_distillation(group, reference)
                                  and _same_budget(group, reference, ancestry)):
        return
    measure, mine, theirs = accuracies(group, reference)
    row = paired(mine, theirs)
    if row["n"]:
        yield {"dataset": printable(group.label), "bits": group.config["path"][-1], **_named(group, "scheme", "path"),
               **_named(reference, "against", "against path"), "options": group.settings, "accuracy": measure, **row,
               "epochs along path": ancestry.epochs(group.runs[0]), "against epochs": ancestry.epochs(reference.runs[0]),
               "verdict": verdict(row)}


def ablation_rows(groups: list[Group]) -> Iterator[dict[str, Any]]:
    """Each change of a scheme against the same configuration without it; those on one data set are a family."""
    yield from with_corrections(_ablations(groups), lambda row: str(row["dataset"]))


def _ablations(groups: list[Group]) -> Iterator[dict[str, Any]]:
    unchanged: dict[str, list[Group]] = {}
    for group in groups:
        if not changes_of(group.config):
            unchanged.setdefault(_without(group.identity, _OF_CHANGE), []).append(group)
    for group in groups:
        # what is trained for a register has a table of its own
        change = "" if group.config["accumulator_bits"] else changes_of(group.config)
        for base in unchanged.get(_without(group.identity, _OF_CHANGE), []) if change else []:
            measure, mine, theirs = accuracies(group, base)
            row = paired(mine, theirs)
            if row["n"] and _same_data(group, base):
                runs = [run.training for run in group.runs]
                yield {"dataset": printable(group.label), **_named(group, "scheme", "path"),
                       "bits": group.config["path"][-1], "change": printable(change), "options": group.settings,
                       "accuracy of": measure, "accuracy": mine.mean(), "accuracy deviation": mine.std(),
                       "unchanged": theirs[theirs.index.intersection(mine.index)].mean(), **row, "verdict": verdict(row),
                       "commit": short_commits(run["commit"] for run in runs),
                       "date": max(run["date"] for run in runs)[:10], "hardware": names(map(hardware_of, runs)),
                       "command": printable(runs[0]["command"])}


def accuracies(one: Group, other: Group) -> tuple[str, "pd.Series[float]", "pd.Series[float]"]:
    """The same measure of both by seed: bit-true, or that of the fake-quantized model where a run has no full evaluation."""
    has_all = all(run.evaluation is not None and run.evaluation["result"]["images"] == run.training["test"]["images"]
                  for group in (one, other) for run in group.runs)
    series = [pd.Series({run.seed: (run.bit_true if has_all else run.fq) for run in group.runs}, dtype=float)
              for group in (one, other)]
    return "bit-true" if has_all else "FQ", series[0], series[1]


def _named(group: Group, scheme: str, path: str) -> dict[str, str]:
    return {scheme: printable(group.config["scheme"]), path: "-".join(map(str, group.config["path"]))}


def _without(identity: Mapping[str, str], keys: tuple[str, ...]) -> str:
    return json.dumps({key: value for key, value in identity.items() if key not in keys}, sort_keys=True)


def _condition(group: Group) -> str:
    """What runs of different schemes must have in common; of what schemes set themselves, what was told otherwise."""
    own, defaults = OF_METHOD.get(group.config["scheme"], ()), default_config(group.config)
    identity = {**group.identity, **{key: text_of(defaults.get(key)) for key in own}}  # as of a scheme without them
    plain = _without(identity, (*_OF_SCHEME, *_OF_CHANGE, *DISTILLATION, *_OF_BUDGET))
    told = {key: value for key, value in group.config.items() if key not in own} | {
        key: defaults[key] for key in own if key in defaults}
    return json.dumps([group.label, group.config["path"][-1], changes_of(told), plain])


def _same_budget(one: Group, other: Group, ancestry: Ancestry) -> bool:
    """The same epochs for each step, or along the path; what trains nothing compares with all."""
    if not (one.runs[0].trains and other.runs[0].trains) or one.config["epochs"] == other.config["epochs"]:
        return True
    mine, theirs = (ancestry.epochs(group.runs[0]) for group in (one, other))
    return mine is not None and theirs is not None and abs(mine - theirs) <= ROUNDING


def _same_data(one: Group, other: Group) -> bool:
    """By digest; where one of them recorded none, by name and path.  And as many images, if both are evaluated."""
    mine, theirs = one.identity, other.identity
    images = {group.get("evaluated images") for group in (mine, theirs)} - {None}
    digests = {mine["data digest"], theirs["data digest"]}
    if len(digests) == 2 and "" in digests:
        same = text_of(one.config["data"]) == text_of(other.config["data"])
    else:
        same = len(digests) == 1 and mine["data"] == theirs["data"]
    return same and one.label == other.label and len(images) < 2


def _same_distillation(one: Group, other: Group) -> bool:
    """Whether the weight and temperature of distillation were told alike; training alone knows neither."""
    def told(group: Group) -> list[str]:
        defaults = default_config(group.config)
        return [text_of(group.config.get(key)) if text_of(group.config.get(key)) != text_of(defaults.get(key)) else ""
                for key in DISTILLATION]

    return "individual" in (one.config["scheme"], other.config["scheme"]) or told(one) == told(other)


def sentence(rows: pd.DataFrame, ablation: Ablation) -> str:
    """What one ablation shows, beside what its source says."""
    told = rows[rows["verdict"].isin(["better", "worse"])]
    corrected = told.get("corrected verdict", told["verdict"])
    found = [f"{markdown_text(change)} is {word} by {abs(difference):.2f} points" + ("" if word == after else
             " (within noise after correction)") for change, word, difference, after in
             zip(told["change"], told["verdict"], told["difference"], corrected, strict=True)]
    if len(told) < len(rows):
        found.append("nothing differs beyond noise" if told.empty else "the rest stays within noise")
    if not ablation.expects:
        judged = ""
    elif told.empty:
        judged = ", which these runs neither confirm nor contradict"
    elif told["verdict"].nunique() > 1:
        judged = ", which these runs confirm here and contradict there"
    elif (told["verdict"] != ablation.expects).any():
        judged = ", which these runs contradict"
    else:
        judged = f", which these runs confirm{' in part' if len(told) < len(rows) else ''}"
    return f"{ablation.source}{judged}: {'; '.join(found)}."
