"""Panels as pictures in files, with matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.plots import folded, legend, pyplot, save, style_of
from training.report.panels import Bars, Line, Panel

REFERENCE_STYLE = {"color": "gray", "linestyle": ":", "marker": ""}
LETTERS = 120
"""Of a title across the whole figure."""
BAR_COLOR, SHADE_COLOR = "#0072B2", "#E69F00"


def draw_panels(panels: Sequence[Panel], file: Path, columns: int = 1) -> None:
    """One below the other, or several beside each other where there are no lines to name."""
    plt = pyplot()
    rows = -(-len(panels) // columns)
    heights = [3.6 if columns == 1 else 2.6] * rows
    for number, panel in enumerate(panels):
        heights[number // columns] = max(heights[number // columns], 0.9 + 0.19 * len(panel.lines))
    figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained", figsize=(11, sum(heights)),
                                height_ratios=heights)
    for axis in axes.flat[len(panels):]:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw(axis, panel, LETTERS // columns, 7 if columns > 1 else 10)
    save(plt, figure, file)


def _draw(axis: Any, panel: Panel, length: int, size: int) -> None:
    """`length` is that of a title's lines in letters, `size` that of the axes' words."""
    for number, line in enumerate(panel.lines):
        _line(axis, line, str(number), panel.shows_ranges)
    if panel.bars is not None:
        _bars(axis, panel.bars)
    if panel.shade is not None:
        axis.axvspan(*panel.shade, color=SHADE_COLOR, alpha=0.25, linewidth=0)
    for mark in panel.marks:
        axis.axvline(mark, color="black", linewidth=0.8, linestyle="--")
    if panel.is_log:
        axis.set_xscale("log", base=2 if panel.ticks else 10)
    if panel.ticks:
        axis.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])
        axis.minorticks_off()
    axis.set_title(folded(panel.title, length), fontsize=min(size, 9), loc="left")
    axis.set_xlabel(panel.x, fontsize=size)
    axis.set_ylabel(panel.y, fontsize=size)
    axis.tick_params(labelsize=size)
    if panel.lines:
        legend(axis, axis.get_legend_handles_labels()[0], [line.name for line in panel.lines])


def _line(axis: Any, line: Line, label: str, shows_range: bool) -> None:
    style = REFERENCE_STYLE if line.style < 0 else style_of(line.style)
    axis.plot(line.x, line.y, label=label, markersize=5, **style)
    if shows_range and line.low != line.high:
        axis.fill_between(line.x, line.low, line.high, color=style["color"], alpha=0.08, linewidth=0)


def _bars(axis: Any, bars: Bars) -> None:
    widths = [high - low for low, high in zip(bars.edges, bars.edges[1:], strict=False)]
    axis.bar(bars.edges[:-1], bars.heights, widths, align="edge", color=BAR_COLOR, linewidth=0)
    axis.set_yscale("symlog", linthresh=0.1)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_ylim(bottom=0)
