"""Which differences between runs exceed noise: paired over seeds, because runs of one seed share data order and teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from training.schemes import SCHEMES, SchemeOptions

LEVEL = 0.95
REFERENCES = ("individual", "skip-level")
"""Every scheme is compared with training alone, and with the plainest way of distilling from a float network."""
DIGITS = "digits"


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


def changes_of(config: Mapping[str, Any]) -> str:
    """What a run's configuration says otherwise than its scheme's defaults; empty if nothing."""
    defaults = {"quantizer": "dorefa", "calibration": "minmax", **(
        SCHEMES[config["scheme"]].defaults if config["scheme"] in SCHEMES else {})}
    plain = {field.name: field.default for field in fields(SchemeOptions)}
    plain |= {key: defaults[key] for key in ("quantizer", "calibration")}
    found = []
    for key, default in {**plain, "layer_bits": "", "gradients": "float32"}.items():
        value = config.get(key, default)
        value = tuple(value) if isinstance(value, list) else value
        if value != default:
            text = ",".join(value) if isinstance(value, tuple) else "a checkpoint" if key == "individual" else str(value)
            found.append(f"{key.replace('_', '-')} {text}")
    return ", ".join(found)


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
    half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * deviation / np.sqrt(n) if n > 1 else float("nan")
    return {"n": n, "difference": mean, "deviation": deviation, "low": mean - half, "high": mean + half}


def verdict(row: Mapping[str, Any]) -> str:
    """Whether the interval excludes 0."""
    if row["n"] < 2:
        return "one seed"
    return "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "within noise"


def comparison_rows(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Each scheme on digits against the references at its width."""
    runs = runs[(runs["dataset"] == DIGITS) & (runs["changes"] == "") & (runs["bits"] <= 4)]
    for bits, group in runs.groupby("bits"):
        series = {scheme: rows.set_index("seed")["bit-true"] for scheme, rows in group.groupby("scheme")}
        for reference in REFERENCES:
            for scheme, accuracies in series.items():
                if scheme != reference and reference in series:
                    row = paired(accuracies, series[reference])
                    yield {"bits": bits, "scheme": scheme, "against": reference, **row, "verdict": verdict(row)}


def ablation_rows(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Each change of a scheme on digits against the same scheme unchanged."""
    runs = runs[runs["dataset"] == DIGITS]
    unchanged = runs[runs["changes"] == ""]
    for (scheme, bits, change), group in runs[runs["changes"] != ""].groupby(["scheme", "bits", "changes"]):
        base = unchanged[(unchanged["scheme"] == scheme) & (unchanged["path"] == group["path"].iloc[0])]
        mine, theirs = group.set_index("seed")["bit-true"], base.set_index("seed")["bit-true"]
        row = paired(mine, theirs)
        yield {"scheme": scheme, "bits": bits, "change": change, "accuracy": mine.mean(), "accuracy deviation": mine.std(),
               "unchanged": theirs[theirs.index.intersection(mine.index)].mean(), **row, "verdict": verdict(row),
               "commit": ", ".join(sorted({commit[:10] for commit in group["commit"]})),
               "date": group["date"].max()[:10], "hardware": group["hardware"].iloc[0],
               "command": group["command"].iloc[0]}


def sentence(rows: pd.DataFrame, ablation: Ablation) -> str:
    """What one ablation shows, beside what its source says."""
    told = rows[rows["verdict"].isin(["better", "worse"])]
    found = [f"{change} is {word} by {abs(difference):.2f} points" for change, word, difference in
             zip(told["change"], told["verdict"], told["difference"], strict=True)]
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


def comparison_table(rows: pd.DataFrame) -> str:
    """Markdown."""
    shown = pd.DataFrame({
        "bits": rows["bits"], "scheme": rows["scheme"], "against": rows["against"], "n": rows["n"],
        "difference, points": _with_deviation(rows), "95 % interval": _interval(rows), "beyond noise": rows["verdict"]})
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"


def ablation_table(rows: pd.DataFrame) -> str:
    """Markdown: a table and a sentence for each option of each scheme."""
    parts = []
    for (scheme, option), group in rows.groupby(["scheme", rows["change"].str.split(" ").str[0]], sort=False):
        ablation = ABLATIONS.get((str(scheme), str(option)), Ablation(str(option), "A change of ours"))
        shown = pd.DataFrame({
            "change": group["change"], "bits": group["bits"], "n": group["n"],
            "bit-true %": [f"{a:.2f}" + ("" if pd.isna(d) else f" ± {d:.2f}")
                           for a, d in zip(group["accuracy"], group["accuracy deviation"], strict=True)],
            "unchanged %": group["unchanged"].map("{:.2f}".format), "difference, points": _with_deviation(group),
            "95 % interval": _interval(group), "beyond noise": group["verdict"], "commit": group["commit"],
            "date": group["date"], "hardware": group["hardware"], "command (first seed)": "`" + group["command"] + "`"})
        table = shown.to_markdown(index=False, disable_numparse=True)
        parts.append(f"## {scheme}: {ablation.title}\n\n{sentence(group, ablation)}\n\n{table}\n")
    return "\n".join(parts)


def _with_deviation(rows: pd.DataFrame) -> list[str]:
    return [f"{mean:+.2f}" + ("" if pd.isna(deviation) else f" ± {deviation:.2f}")
            for mean, deviation in zip(rows["difference"], rows["deviation"], strict=True)]


def _interval(rows: pd.DataFrame) -> list[str]:
    return ["-" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}"
            for low, high in zip(rows["low"], rows["high"], strict=True)]
