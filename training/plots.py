"""Plots of the tables: the same rows give the same file; what users name is text, and no legend covers a point."""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sim.files import write_text_atomically

OURS = "bittrue"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colors, told apart by the color-blind; yellow is left out, it is faint on white."""
DASHES = ("-", "--", ":")
MARKERS = "os^DvP*X<>ph"
MOST_SERIES = len(COLORS) * len(DASHES) - 1
"""In one panel; more make another."""
_LINE_LENGTH = 60


def style_of(number: int) -> dict[str, str]:
    """Color, dash and marker of the series of that number: no two of the first 21 are alike."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": DASHES[number // len(COLORS) % len(DASHES)],
            "marker": MARKERS[number % len(MARKERS)]}


def plot_accumulators(rows: pd.DataFrame, file: Path) -> None:
    """Accuracy and overflowed outputs against the width of the register: a row of both per network, a line per kind."""
    plt = pyplot()
    networks = list(rows.groupby(["dataset", "network", "options", "bits", "images"], sort=True, dropna=False))
    kinds = [_registers(group) for _, group in networks]
    heights = [max(3.8, 0.9 + 0.19 * sum(len(folded(name).splitlines()) for name, _ in series)) for series in kinds]
    figure, axes = plt.subplots(len(networks), 2, squeeze=False, layout="constrained", figsize=(12, sum(heights)),
                                height_ratios=heights)
    for (accuracy, overflows), (values, _), series in zip(axes, networks, kinds, strict=True):
        for number, (_, line) in enumerate(series):
            if (line["accumulator"] > 0).any():
                accuracy.plot(line["accumulator"], line["bit-true"], label=str(number), markersize=5, **style_of(number))
                overflows.plot(line["accumulator"], line["overflowed outputs %"], markersize=5, **style_of(number))
            else:
                accuracy.axhline(line["bit-true"].iloc[0], label=str(number), color="gray",
                                 linestyle=DASHES[(number + 2) % len(DASHES)])
        dataset, network, options, bits, images = map(str, values)
        title = ", ".join(part for part in (dataset, network, options, f"W{bits}A{bits}", f"{int(images):,} images") if part)
        accuracy.set_title(folded(title, 75), fontsize=9, loc="left")
        accuracy.set(xlabel="accumulator bits", ylim=(-3, 103), ylabel="bit-true accuracy %")
        overflows.set(xlabel="accumulator bits", ylabel="overflowed outputs %")
        overflows.set_yscale("symlog", linthresh=0.01)
        overflows.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        overflows.set_ylim(bottom=-0.002)
        for axis in (accuracy, overflows):
            axis.xaxis.get_major_locator().set_params(integer=True)
        legend(overflows, accuracy.get_legend_handles_labels()[0], [name for name, _ in series])
    save(plt, figure, file)


def _registers(group: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """A name and the points of every kind of register; what all have in common is not in the names."""
    kinds = ["requantizer", "boundary accumulator", "overflow", "tile"]
    limited = group[group["accumulator"] > 0]
    told = [key for key in kinds if key == "overflow" or (limited if key == "tile" else group)[key].nunique() > 1]
    series = []
    for values, line in group.sort_values("accumulator").groupby(kinds, sort=True):
        named = dict(zip(kinds, values, strict=True))
        is_limited = named["overflow"] != "none"
        words = {"requantizer": str(named["requantizer"]), "tile": f"tile {named['tile']}" if is_limited else "",
                 "boundary accumulator": f"boundary {named['boundary accumulator']}"}
        parts = [str(named["overflow"]) if is_limited else "unlimited", *(words[key] for key in told if key in words)]
        series.append((", ".join(filter(None, parts)), line))
    return series


def plot_curves(rows: pd.DataFrame, file: Path) -> None:
    """Validation accuracy of the student against its epoch: mean over seeds, lowest to highest shaded."""
    plt = pyplot()
    panels = list(_panels(rows))
    lines = [sum(len(folded(_series(group)).splitlines()) for _, group in groups) for _, groups in panels]
    heights = [max(3.2, 0.9 + 0.19 * count) for count in lines]
    figure, axes = plt.subplots(len(panels), 1, squeeze=False, layout="constrained", figsize=(11, sum(heights)),
                                height_ratios=heights)
    for axis, (title, groups) in zip(axes[:, 0], panels, strict=True):
        for number, (_, group) in enumerate(groups):
            epochs = group.groupby("epoch")["validation accuracy"].agg(["mean", "min", "max"])
            style = style_of(number)
            axis.plot(epochs.index, epochs["mean"], markersize=4, label=str(number), **style)
            if group["seed"].nunique() > 1:
                axis.fill_between(epochs.index, epochs["min"], epochs["max"], color=style["color"], alpha=0.08, linewidth=0)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set(xlabel="epoch of the student's step", ylabel="validation accuracy %")
        axis.xaxis.get_major_locator().set_params(integer=True)
        legend(axis, axis.get_legend_handles_labels()[0], [_series(group) for _, group in groups])
    save(plt, figure, file)


def _panels(rows: pd.DataFrame) -> Iterator[tuple[str, list[tuple[Any, pd.DataFrame]]]]:
    """Title and groups: schemes as they are, then those of which something was changed, scheme by scheme."""
    kind = rows["scheme"].where(rows["changed"], "")
    for (dataset, bits, scheme), found in rows.groupby(["dataset", "bits", kind], sort=True):
        groups = list(found.groupby("group", sort=True))
        title = f"{dataset}, {bits} bits" + (f", changes of {scheme}" if scheme else "")
        parts = -(-len(groups) // MOST_SERIES)
        for part in range(parts):
            yield (title + (f" ({part + 1} of {parts})" if parts > 1 else ""),
                   groups[part * MOST_SERIES:(part + 1) * MOST_SERIES])


def _series(group: pd.DataFrame) -> str:
    first = group.iloc[0]
    seeds = group["seed"].nunique()
    named = f"{first['scheme']} {first['path']}" + (f", {first['options']}" if first["options"] else "")
    return f"{named} ({seeds} seed{'s' * (seeds > 1)})"


def plot_performance(rows: pd.DataFrame, file: Path) -> None:
    """One panel per processor and measure with a rate: a bar per implementation, the geometric mean over cases, ours in
    another color."""
    plt = pyplot()
    rates = rows[rows["unit"].isin(["GMAC/s", "images/s"]) & rows["value"].notna()]
    several = rows["hardware"].nunique() > 1
    panels = [(f"{what}, {part['unit'].iloc[0]}" + (f", on {processor}" if several else ""), part)
              for (processor, what), part in rates.groupby(["hardware", "what"], sort=False)]
    panels = panels or [("nothing was measured", rows)]
    counts = [_means(group) for _, group in panels]
    figure, axes = plt.subplots(len(panels), 1, squeeze=False, layout="constrained",
                                figsize=(9, sum(0.8 + 0.28 * len(means) for means in counts)),
                                height_ratios=[1 + len(means) for means in counts])
    for axis, (title, _), means in zip(axes[:, 0], panels, counts, strict=True):
        colors = [COLORS[1] if name.startswith(OURS) else COLORS[0] for name in means.index]
        bars = axis.barh(means.index, means, color=colors)
        labels = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in means]
        axis.bar_label(bars, labels=labels, padding=3, fontsize=8)
        axis.margins(x=0.12)
        axis.tick_params(labelsize=8)
        axis.set_title(title, fontsize=9, loc="left")
    save(plt, figure, file)


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


def legend(axis: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Beside the panel, where no point is.  Names are set afterwards: matplotlib hides those that begin with "_"."""
    legend = axis.legend(handles, [str(number) for number in range(len(handles))], loc="upper left", handlelength=3.5,
                         bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, fontsize=8, frameon=False)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(folded(name))


def folded(text: str, length: int = _LINE_LENGTH) -> str:
    """Lines of at most `length` characters, broken at spaces where there are any."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > length:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "\n".join(line[at:at + length] for line in lines for at in range(0, max(len(line), 1), length))


def pyplot() -> Any:
    """matplotlib's, without a screen; the same picture gives the same file."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "bittrue"  # the same picture gives the same file
    matplotlib.rcParams["text.parse_math"] = False  # a "$" that a user named is a "$"
    import matplotlib.pyplot as plt

    return plt


def save(plt: Any, figure: Any, file: Path) -> None:
    """Write the figure as SVG, completely or not at all."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the tables have what no font here can draw
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    write_text_atomically(file, buffer.getvalue().decode())
