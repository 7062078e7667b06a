"""Pictures of sweeps of registers: accuracy against width, and which layers overflow at which width."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from training.plots import folded, legend, pyplot, save, style_of
from training.report.registers import COUNTED, KIND, networks, shares

_FAINTEST = 0.001
"""Percent of outputs: where the scale of colors begins."""
_ACROSS = 4
"""Heat maps beside each other."""


def plot_sweeps(rows: pd.DataFrame, file: Path) -> None:
    """A row for each network: accuracy against width, a line for each rule and tile; what overflowed beside it."""
    plt, parts = pyplot(), list(networks(rows))
    figure, axes = plt.subplots(len(parts), 2, squeeze=False, layout="constrained", figsize=(13, 3.8 * len(parts)))
    for (left, right), (title, part) in zip(axes, parts, strict=True):
        names = []
        for number, (kind, line) in enumerate(part[part["accumulator"] > 0].groupby(KIND, sort=False)):
            points = line.sort_values("accumulator")
            left.plot(points["accumulator"], points["bit-true"], label=str(number), markersize=4, **style_of(number))
            _plot_overflows(right, points, number)
            names.append(str(kind))
        for accuracy in part[part["accumulator"] == 0]["bit-true"][:1]:
            left.axhline(accuracy, color="gray", linewidth=1, label="free")
            names.append("without limits")
        left.set_title(folded(title, 70), fontsize=9, loc="left")
        left.set(xlabel="accumulator bits", ylabel="bit-true accuracy %", ylim=(-3, 103))
        _finish_overflows(right, left, part)
        for axis in (left, right):
            axis.xaxis.get_major_locator().set_params(integer=True)
        legend(right, left.get_legend_handles_labels()[0], names)
    save(plt, figure, file)


def _plot_overflows(axis: Any, points: pd.DataFrame, number: int) -> None:
    """Persistent outputs as a line, transient ones dotted, where they were counted; else those that overflowed."""
    found, widths, style = shares(points), points["accumulator"], {"markersize": 4, **style_of(number)}
    if found.notna().all(axis=None):
        persistent, transient = (found[name].where(found[name] > 0) for name in found)
        axis.plot(widths, persistent, **style)
        axis.plot(widths, transient, **{**style, "linestyle": ":", "alpha": 0.7})
    else:
        overflowed = points["overflowed outputs %"]
        axis.plot(widths, overflowed.where(overflowed > 0), **style)


def _finish_overflows(axis: Any, left: Any, part: pd.DataFrame) -> None:
    """As wide as its neighbor."""
    is_counted = part[part["accumulator"] > 0][COUNTED[0]].notna().all()
    axis.set_title("persistent (line), transient (dotted)" if is_counted else "overflowed: wrong (wrap), clipped (saturate)",
                   fontsize=9, loc="left")
    axis.set(xlabel="accumulator bits", ylabel="outputs %", yscale="log", xlim=left.get_xlim())
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # that of log scales writes TeX, which nothing here reads


def plot_layers(rows: pd.DataFrame, file: Path) -> None:
    """Heat maps of each network, one for each rule and tile: layers down, widths across, overflowed outputs as colors."""
    plt = pyplot()
    parts = [(title, list(part[part["accumulator"] > 0].groupby(KIND, sort=False))) for title, part in networks(rows)]
    heights = [-(-len(maps) // _ACROSS) * (1.0 + 0.15 * max(few["layer"].nunique() for _, few in maps)) + 0.4
               for _, maps in parts]
    figure = plt.figure(layout="constrained", figsize=(13, sum(heights)))
    subfigures = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for subfigure, (title, maps) in zip(subfigures, parts, strict=True):
        subfigure.suptitle(folded(title, 150), fontsize=9, x=0.01, ha="left")
        _draw_maps(subfigure, maps)
    save(plt, figure, file)


def _draw_maps(figure: Any, maps: Sequence[tuple[Any, pd.DataFrame]]) -> None:
    """Those of one network, with their colors beside them."""
    from matplotlib.colors import LogNorm

    down, across = -(-len(maps) // _ACROSS), min(_ACROSS, len(maps))
    axes = figure.subplots(down, across, squeeze=False)
    drawn = None
    for number, (axis, (kind, few)) in enumerate(zip(axes.flat, maps, strict=False)):
        table = few.sort_values("number").pivot_table(index="layer", columns="accumulator", values="overflowed outputs %",
                                                      sort=False).sort_index(axis="columns")
        drawn = axis.imshow(table.where(table > 0), aspect="auto", cmap="viridis", norm=LogNorm(_FAINTEST, 100.0, clip=True),
                            interpolation="nearest", clip_on=False)  # matplotlib names clips after addresses in memory
        _label(axis, table, str(kind), number % across == 0)
    for axis in axes.flat[len(maps):]:
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes, label="overflowed outputs % (white: none)", aspect=12 * down, fraction=0.02,
                    format=lambda value, _: f"{value:g}")


def _label(axis: Any, table: pd.DataFrame, title: str, is_first: bool) -> None:
    """Every second width; names of layers at the left, as those beside have the same."""
    axis.set_title(folded(title, 40), fontsize=8, loc="left")
    places = range(0, len(table.columns), 2)
    axis.set_xticks(places, [str(table.columns[place]) for place in places], fontsize=7)
    axis.set_yticks(range(len(table)), [str(name) for name in table.index] if is_first else [""] * len(table), fontsize=6)
    axis.set_xlabel("accumulator bits", fontsize=8)
