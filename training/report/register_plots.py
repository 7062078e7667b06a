"""Pictures of sweeps of registers: accuracy against width, and which layers overflow at which width."""

from pathlib import Path
from typing import Any

import pandas as pd

from training.plots import folded, legend, pyplot, save, style_of
from training.report.registers import KIND, networks

_FAINTEST = 0.001
"""Percent of outputs: where the scale of colors begins."""
_ACROSS = 3
"""Heat maps beside each other."""


def plot_sweeps(rows: pd.DataFrame, file: Path) -> None:
    """A panel for each network, a line for each rule and tile, accuracy without limits as a level."""
    plt, parts = pyplot(), list(networks(rows))
    figure, axes = plt.subplots(len(parts), 1, squeeze=False, layout="constrained", figsize=(9, 3.6 * len(parts)))
    for axis, (title, part) in zip(axes[:, 0], parts, strict=True):
        names = []
        for number, (kind, line) in enumerate(part[part["accumulator"] > 0].groupby(KIND, sort=False)):
            points = line.sort_values("accumulator")
            axis.plot(points["accumulator"], points["bit-true"], label=str(number), markersize=4, **style_of(number))
            names.append(str(kind))
        for accuracy in part[part["accumulator"] == 0]["bit-true"][:1]:
            axis.axhline(accuracy, color="gray", linewidth=1, label="free")
            names.append("without limits")
        axis.set_title(folded(title, 90), fontsize=9, loc="left")
        axis.set(xlabel="accumulator bits", ylabel="bit-true accuracy %", ylim=(-3, 103))
        axis.xaxis.get_major_locator().set_params(integer=True)
        legend(axis, axis.get_legend_handles_labels()[0], names)
    save(plt, figure, file)


def plot_layers(rows: pd.DataFrame, file: Path) -> None:
    """A heat map for each network, rule and tile: layers down, widths across, overflowed outputs as colors."""
    from matplotlib.colors import LogNorm

    plt = pyplot()
    maps = [(f"{title}, {kind}", few) for title, part in networks(rows) for kind, few in part.groupby(KIND, sort=False)]
    down = -(-len(maps) // _ACROSS)
    tallest = max(few["layer"].nunique() for _, few in maps)
    figure, axes = plt.subplots(down, min(_ACROSS, len(maps)), squeeze=False, layout="constrained",
                                figsize=(4.6 * min(_ACROSS, len(maps)), down * (1.3 + 0.16 * tallest)))
    drawn = None
    for axis, (title, few) in zip(axes.flat, maps, strict=False):
        table = few.sort_values("number").pivot_table(index="layer", columns="accumulator", values="overflowed outputs %",
                                                      sort=False).sort_index(axis="columns")
        drawn = axis.imshow(table.where(table > 0), aspect="auto", cmap="viridis", norm=LogNorm(_FAINTEST, 100.0, clip=True),
                            interpolation="nearest")
        _label(axis, table, title)
    for axis in axes.flat[len(maps):]:
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes, label="overflowed outputs % (white: none)", shrink=0.6)
    save(plt, figure, file)


def _label(axis: Any, table: pd.DataFrame, title: str) -> None:
    axis.set_title(folded(title, 48), fontsize=8, loc="left")
    axis.set_xticks(range(len(table.columns)), [str(width) for width in table.columns], fontsize=7)
    axis.set_yticks(range(len(table)), [str(name) for name in table.index], fontsize=6)
    axis.set_xlabel("accumulator bits", fontsize=8)
