"""Plots of the tables: the same rows give the same file."""

import io
import math
from pathlib import Path
from typing import Any

import pandas as pd

from sim.files import write_text_atomically

OURS = "bittrue"


def plot_accumulators(rows: pd.DataFrame, file: Path) -> None:
    """Accuracy above, overflowed outputs below, against the width of the register, one column per network."""
    plt = _pyplot()
    networks = rows.groupby(["dataset", "network"], sort=True)
    figure, axes = plt.subplots(2, len(networks), sharex=True, squeeze=False, figsize=(5 * len(networks), 5.5))
    for (accuracy, overflows), ((dataset, network), group) in zip(axes.T, networks, strict=True):
        for name, line in group[group["accumulator"] > 0].sort_values("accumulator").groupby("overflow"):
            accuracy.plot(line["accumulator"], line["bit-true"], marker="o", label=name)
            overflows.plot(line["accumulator"], line["overflowed outputs %"], marker="o", label=name)
        unlimited = group.loc[group["accumulator"] == 0, "bit-true"]
        accuracy.axhline(unlimited.iloc[0], color="gray", linestyle=":", label="unlimited")
        accuracy.set(title=f"{dataset}\n{network}", ylim=(0, 100), ylabel="bit-true accuracy %")
        overflows.set(xlabel="accumulator bits", ylabel="overflowed outputs %")
        overflows.set_yscale("symlog", linthresh=0.01)
        overflows.set_ylim(bottom=0)
        accuracy.legend()
    _save(plt, figure, file)


def plot_performance(rows: pd.DataFrame, file: Path) -> None:
    """One panel per measure with a rate: a bar per implementation, the geometric mean over cases, ours in another color."""
    plt = _pyplot()
    rates = rows[rows["unit"].isin(["GMAC/s", "images/s"]) & rows["value"].notna()]
    panels = list(rates.groupby("what", sort=False)) or [("nothing was measured", rows)]
    counts = [_means(group) for _, group in panels]
    figure, axes = plt.subplots(len(panels), 1, squeeze=False,
                                figsize=(9, sum(0.8 + 0.28 * len(means) for means in counts)),
                                height_ratios=[1 + len(means) for means in counts])
    for axis, (what, group), means in zip(axes[:, 0], panels, counts, strict=True):
        colors = ["tab:orange" if name.startswith(OURS) else "tab:blue" for name in means.index]
        bars = axis.barh(means.index, means, color=colors)
        labels = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in means]
        axis.bar_label(bars, labels=labels, padding=3, fontsize=8)
        axis.margins(x=0.12)
        axis.tick_params(labelsize=8)
        axis.set_title(f"{what}, {group['unit'].iloc[0]}", fontsize=9, loc="left")
    _save(plt, figure, file)


def _means(group: pd.DataFrame) -> "pd.Series[float]":
    """Geometric mean of each implementation over the cases that at least half of them did, fastest last."""
    names = group["impl"].where(~group["impl"].str.startswith(OURS), group["impl"] + " [" + group["isa"] + "]")
    table = group.assign(name=names).pivot_table(index="name", columns="case", values="value")
    table = table.loc[:, 2 * table.count() >= len(table)].dropna(how="all")
    counts = table.count(axis="columns")
    means = table.map(math.log).mean(axis="columns").map(math.exp)
    means.index = pd.Index([name if count == table.shape[1] else f"{name} ({count} of {table.shape[1]} cases)"
                            for name, count in counts.items()])
    return means.sort_values()


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "bittrue"  # the same picture gives the same file
    import matplotlib.pyplot as plt

    return plt


def _save(plt: Any, figure: Any, file: Path) -> None:
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    write_text_atomically(file, buffer.getvalue().decode())
