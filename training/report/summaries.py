"""What a reader sees of the rows: sections of text cells, means and deviations over seeds."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from training.report.markup import Section, markdown_text

ORIGIN = ("commit", "date", "hardware")
_OF_NETWORK = ("options", "images")
_TOLD = ("model", "width", "preset", "epochs", "augment")
_SETTINGS = ("model", "width", "preset", "epochs", "along path", "augment", "options")


def mean_text(values: Iterable[float | None]) -> str:
    """Mean and standard deviation over seeds, "-" of none; says of how many where some have no value."""
    everything = list(values)
    known = [float(value) for value in everything if value is not None and not pd.isna(value)]
    if not known:
        return "-"
    text = f"{statistics.fmean(known):.2f}" + (f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else "")
    return text if len(known) == len(everything) else f"{text} ({len(known)} of {len(everything)})"


def differing_text(differing: Iterable[int | None], compared: Iterable[int | None]) -> str:
    """Codes that differ, of those compared."""
    pairs = list(zip(differing, compared, strict=True))
    known = [(int(part), int(whole)) for part, whole in pairs if not (pd.isna(part) or pd.isna(whole))]
    if not known:
        return "-"
    text = f"{sum(part for part, _ in known):,} of {sum(whole for _, whole in known):,}"
    return text if len(known) == len(pairs) else f"{text} ({len(known)} of {len(pairs)} runs)"


def short_commits(commits: Iterable[str]) -> str:
    """Ten digits of every commit, and whether its code was changed."""
    return ", ".join(sorted({commit[:10] + ("-dirty" if commit.endswith("-dirty") else "") for commit in commits}))


def names(values: Iterable[str]) -> str:
    """All different ones."""
    return "; ".join(dict.fromkeys(values))


def origin_cells(rows: pd.DataFrame) -> dict[str, Sequence[str]]:
    """Provenance of single records; their commands are in the CSV file."""
    return {"commit": [short_commits([commit]) for commit in rows["commit"]], "date": list(rows["date"].str[:10]),
            "hardware": list(rows["hardware"])}


_KEYS = ("bits", "scheme", "path", "options")
"""What every part of a table has that is too wide for one."""


def by_dataset(table: pd.DataFrame, common: tuple[str, ...], text: str = "") -> list[Section]:
    """A table for each data set, under its name if there are several: figures of two never stand in one column."""
    keys = tuple(key for key in _KEYS if key in table)
    if table["dataset"].nunique() < 2:
        return [Section(table, text=text, common=("dataset", *common), keys=keys)]
    parts = list(table.groupby("dataset", sort=True))
    return [Section(part.drop(columns="dataset"), markdown_text(name), text if number == 0 else "", common, keys)
            for number, (name, part) in enumerate(parts)]


def summarize_schemes(rows: pd.DataFrame) -> list[Section]:
    """One row per group of runs that are equal in everything but the seed."""
    shown = []
    for _, group in rows.groupby("group", sort=False):
        first = group.iloc[0]
        shown.append({
            **{key: str(first[key]) for key in ("dataset", "bits", "scheme", "path", *_TOLD)}, "options": _options(first),
            "along path": " or ".join(sorted({"-" if pd.isna(count) else str(count) for count in
                                                     group["epochs along path"]}, key=lambda text: (len(text), text))),
            "n": str(group["seed"].nunique()), "seeds": ", ".join(map(str, sorted(group["seed"]))),
            "FQ %": mean_text(group["FQ"]), "bit-true %": mean_text(group["bit-true"]),
            "codes that differ": differing_text(group["codes differing"], group["codes compared"]),
            "commit": short_commits(group["commit"]),
            "date": group["date"].max()[:10], "hardware": names(group["hardware"]),
            "_order": (first["dataset"], -int(first["bits"]), first["scheme"], first["path"], first["group"])})
    shown.sort(key=lambda row: row.pop("_order"))
    text = "Data: " + "; ".join(
        f"{markdown_text(label)}, {' or '.join(f'{int(images):,}' for images in sorted(part['test images'].unique()))} test "
        f"images, augmentation {markdown_text(_augmentations(part))}" for label, part in rows.groupby("dataset")) + "."
    if (rows["codes differing"].dropna() == 0).all() and rows["codes compared"].notna().any():
        text += f" No code differs between model and simulator, of {int(rows['codes compared'].sum()):,} that were compared."
        shown = [{key: value for key, value in row.items() if key != "codes that differ"} for row in shown]
    return by_dataset(pd.DataFrame(shown), (*_SETTINGS, *ORIGIN), text)


def _options(run: "pd.Series[Any]") -> str:
    """What deviates from the defaults, another quantizer than the scheme's included."""
    quantizer = [part for part in str(run["changes"]).split(", ") if part.startswith("quantizer ")]
    return ", ".join(part for part in (*quantizer, run["options"]) if part)


def _augmentations(rows: pd.DataFrame) -> str:
    """Of runs that train."""
    return names(rows.loc[rows["augment"] != "-", "augment"]) or "none"


def scheme_notes(rows: pd.DataFrame) -> str:
    """What holds for some data sets only, of those that are there."""
    found = ""
    for label, part in rows[rows["dataset"].str.startswith("CIFAR")].groupby("dataset"):
        known = part["epochs along path"].dropna()
        low, high = known.min(), known.max()
        if not known.empty and high < 100:
            epochs = f"{low} epochs" if low == high else f"{low} to {high} epochs"
            found += (f" On {markdown_text(label)} the schedule is short, {epochs} along a path: these accuracies do not "
                      "compare with published ones.")
    return found


def summarize_accumulators(rows: pd.DataFrame) -> list[Section]:
    """One row per evaluation."""
    return by_dataset(pd.DataFrame({
        **_common_cells(rows), "requantizer": rows["requantizer"], "boundary accumulator": rows["boundary accumulator"],
        "accumulator": [f"{bits} bit" if bits else "unlimited" for bits in rows["accumulator"]],
        "overflow": rows["overflow"], "tile": rows["tile"], "images": rows["images"],
        "bit-true %": rows["bit-true"].map("{:.2f}".format),
        "overflowed outputs %": rows["overflowed outputs %"].map("{:.3g}".format),
        "worst layer %": rows["worst layer %"].map("{:.3g}".format), "worst layer": rows["worst layer"],
        **origin_cells(rows)}).astype(str), (*_OF_NETWORK, "requantizer", "boundary accumulator", "tile", *ORIGIN))


def summarize_agreement(rows: pd.DataFrame) -> list[Section]:
    """One row per evaluation."""
    return by_dataset(pd.DataFrame({
        **_common_cells(rows), "trained bits": rows["trained bits"], "bits": rows["bits"], "images": rows["images"],
        "bit-true %": rows["bit-true"].map("{:.2f}".format), "codes that differ": _differing(rows), **origin_cells(rows)
    }).astype(str), (*_OF_NETWORK, *ORIGIN))


def summarize_others(rows: pd.DataFrame) -> list[Section]:
    """One row per evaluation."""
    return by_dataset(pd.DataFrame({
        **_common_cells(rows), "requantizer": rows["requantizer"], "images": rows["images"],
        "bit-true %": rows["bit-true"].map("{:.2f}".format), "codes that differ": _differing(rows), **origin_cells(rows)
    }).astype(str), (*_OF_NETWORK, "requantizer", *ORIGIN))


def _common_cells(rows: pd.DataFrame) -> dict[str, "pd.Series[str]"]:
    return {key: rows[key] for key in ("dataset", "network", "options")} | {
        "bits": rows["bits"].map(lambda bits: "-" if pd.isna(bits) else f"{bits:.0f}")}


def _differing(rows: pd.DataFrame) -> list[str]:
    return [differing_text([part], [whole]) for part, whole in
            zip(rows["codes differing"], rows["codes compared"], strict=True)]


def summarize_jobs(rows: pd.DataFrame) -> list[Section]:
    """A table for each grid: trainings by job, then how many evaluations wait for them."""
    sections = []
    for grid, part in rows.groupby("grid", sort=True):
        shown = [{"job": job, "scheme": group["scheme"].iloc[0], "path": group["path"].iloc[0],
                  "seeds": ", ".join(map(str, sorted(group["seed"]))), "epochs": str(group["epochs"].iloc[0]),
                  "status": status, "error": error}
                 for (job, status, error), group in part[part["kind"] == "training"].groupby(
                     ["of", "status", "error"], sort=False)]
        waiting = part[part["kind"] == "evaluation"]
        for (status, error), group in waiting.groupby(["status", "error"], sort=False):
            shown.append({"job": f"{len(group)} evaluations", "scheme": "-", "path": "-", "seeds": "-", "epochs": "-",
                          "status": status, "error": error})
        sections.append(Section(pd.DataFrame(shown), markdown_text(grid), common=("error",)))
    return sections
