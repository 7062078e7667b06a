"""Panels as SVG inside a page: small, without scripts, every text escaped; a legend is HTML below, which folds by itself.

Colors are Okabe and Ito's, and lines differ in dashes and markers, too, so that no color has to be seen.
"""

import html
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from training.plots import COLORS, MARKERS
from training.report.panels import Bars, Line, Panel

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 44
DASHES = ("", "7 4", "2 3")
GRAY = "#666666"
_SYMBOLS = {
    "o": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0", "s": "M-3-3h6v6h-6z", "^": "M0-4L4 3H-4z", "D": "M0-4L4 0L0 4L-4 0z",
    "v": "M0 4L4-3H-4z", "P": "M-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
    "*": "M0-4.5L1.2-1.4L4.3-1.4L1.8.6L2.7 3.7L0 1.9L-2.7 3.7L-1.8.6L-4.3-1.4L-1.2-1.4z",
    "X": "M-3.5-2L-2-3.5L0-1.5L2-3.5L3.5-2L1.5 0L3.5 2L2 3.5L0 1.5L-2 3.5L-3.5 2L-1.5 0z",
    "<": "M-4 0L3-4V4z", ">": "M4 0L-3-4V4z", "p": "M0-4L3.8-1.2L2.4 3.2H-2.4L-3.8-1.2z",
    "h": "M-2-3.5h4l2 3.5l-2 3.5h-4l-2-3.5z"}
Place = Callable[[float], float]


def escape(text: object) -> str:
    """Text that HTML shows as it is, in attributes, too."""
    return html.escape(" ".join(str(text).split()), quote=True)


def figure(panel: Panel) -> str:
    """A panel with its title and legend, as a figure of HTML."""
    legend = "".join(f"<li>{_sample(line)} {escape(line.name)}</li>" for line in panel.lines)
    below = f'<ul class="legend">{legend}</ul>' if legend else ""
    return f"<figure><figcaption>{escape(panel.title)}</figcaption>{svg(panel)}{below}</figure>"


def svg(panel: Panel) -> str:
    """The picture alone."""
    at_x, x_ticks = _x_scale(panel)
    at_y, y_ticks = _y_scale(panel)
    parts = [*_shaded(panel, at_x), *_grid(panel, at_x, at_y, x_ticks, y_ticks)]
    if panel.bars is not None:
        parts += _bars(panel.bars, at_x, at_y)
    parts += [f'<path class="mark" d="M{at_x(mark):.1f} {TOP}V{HEIGHT - BOTTOM}"/>' for mark in panel.marks]
    for line in panel.lines:
        parts += _line(line, at_x, at_y, panel.shows_ranges)
    told = escape(f"{panel.title}: {panel.y} against {panel.x}")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">{"".join(parts)}</svg>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from low to high.

    >>> ticks(71.3, 99.2)
    [80.0, 90.0]
    """
    raw = (high - low) / count or 1.0
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
    return [step * number for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _x_scale(panel: Panel) -> tuple[Place, list[tuple[float, str]]]:
    values = [x for line in panel.lines for x in line.x] + list(panel.bars.edges if panel.bars else ())
    low, high = min(values), max(values)
    places = list(panel.ticks)
    if panel.is_log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        places = places or [value for power in powers for factor in (1, 2, 5)
                            if low <= (value := factor * 10.0**power) <= high]
        scale = _linear(math.log(low), math.log(high), LEFT, WIDTH - RIGHT, 0.04)
        return lambda x: scale(math.log(x)), [(x, _short(x)) for x in places]
    margin = 0.0 if panel.bars else 0.04
    is_whole = not panel.bars and all(float(x).is_integer() for x in values)  # as epochs, of which there are no halves
    places = places or [x for x in ticks(low, high) if not is_whole or float(x).is_integer()]
    return _linear(low, high, LEFT, WIDTH - RIGHT, margin), [(x, _short(x)) for x in places]


def _y_scale(panel: Panel) -> tuple[Place, list[tuple[float, str]]]:
    if panel.bars is not None:  # the largest bar often holds most of all: a root shows the small ones
        high = max(panel.bars.heights) or 1.0
        scale = _linear(0.0, math.sqrt(high), HEIGHT - BOTTOM, TOP, 0.0)
        places = [value for value in (0.0, 0.1, 1.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0) if value <= high]
        return lambda y: scale(math.sqrt(y)), [(y, _short(y)) for y in places]
    sides = [side for line in panel.lines for side in ((line.low, line.high) if panel.shows_ranges else (line.y,))]
    values = [value for side in sides for value in side]
    low, high = min(values), max(values)
    return _linear(low, high, HEIGHT - BOTTOM, TOP, 0.05), [(y, _short(y)) for y in ticks(low, high)]


def _linear(low: float, high: float, start: float, end: float, margin: float) -> Place:
    width = (high - low) or 1.0
    low, width = low - margin * width, width * (1 + 2 * margin)
    return lambda value: start + (end - start) * (value - low) / width


def _short(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return f"{value:.6g}"


def _grid(panel: Panel, at_x: Place, at_y: Place, x_ticks: Sequence[tuple[float, str]],
          y_ticks: Sequence[tuple[float, str]]) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value, text in y_ticks:
        y = at_y(value)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="end">{text}</text>'
    last = -math.inf
    for value, text in sorted(x_ticks):
        x = at_x(value)
        yield f'<path class="tick" d="M{x:.1f} {bottom}v4"/>'
        if x - last > 7 * len(text) + 6:  # else it would touch the one before
            yield f'<text x="{x:.1f}" y="{bottom + 17}" class="middle">{text}</text>'
            last = x
    yield f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
    yield f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" class="middle">{escape(panel.x)}</text>'
    yield f'<text transform="translate(13 {(TOP + bottom) / 2}) rotate(-90)" class="middle">{escape(panel.y)}</text>'


def _shaded(panel: Panel, at_x: Place) -> Iterator[str]:
    if panel.shade is not None:
        low, high = (min(max(at_x(x), LEFT), WIDTH - RIGHT) for x in panel.shade)
        yield f'<rect x="{low:.1f}" y="{TOP}" width="{high - low:.1f}" height="{HEIGHT - BOTTOM - TOP}" class="shade"/>'


def _bars(bars: Bars, at_x: Place, at_y: Place) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    path = "".join(f"M{at_x(low):.1f} {bottom}V{at_y(height):.1f}H{at_x(high):.1f}V{bottom}z"
                   for low, high, height in zip(bars.edges, bars.edges[1:], bars.heights, strict=False) if height)
    yield f'<path class="bar" d="{path}"/>'


def style(line: Line) -> dict[str, Any]:
    """Color, dash and symbol of a line; a reference is gray and has no symbol."""
    if line.style < 0:
        return {"color": GRAY, "dash": DASHES[2], "symbol": ""}
    return {"color": COLORS[line.style % len(COLORS)], "dash": DASHES[line.style // len(COLORS) % len(DASHES)],
            "symbol": _SYMBOLS[MARKERS[line.style % len(MARKERS)]]}


def _line(line: Line, at_x: Place, at_y: Place, shows_range: bool) -> Iterator[str]:
    look = style(line)
    places = [(at_x(x), at_y(y)) for x, y in zip(line.x, line.y, strict=True)]
    if shows_range and line.low != line.high and len(places) > 1:
        up = [f"{at_x(x):.1f} {at_y(y):.1f}" for x, y in zip(line.x, line.high, strict=True)]
        down = [f"{at_x(x):.1f} {at_y(y):.1f}" for x, y in zip(line.x, line.low, strict=True)]
        yield f'<path fill="{look["color"]}" fill-opacity=".08" d="M{"L".join([*up, *reversed(down)])}z"/>'
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dash = f' stroke-dasharray="{look["dash"]}"' if look["dash"] else ""
    yield f'<path class="line" stroke="{look["color"]}"{dash} d="M{path}"/>'
    for (x, y), real_x, real_y in zip(places, line.x, line.y, strict=True):
        told = f"<title>{escape(f'{line.name}: {real_y:.2f} at {real_x:g}')}</title>"
        if look["symbol"]:
            yield f'<path transform="translate({x:.1f} {y:.1f})" fill="{look["color"]}" d="{look["symbol"]}">{told}</path>'


def _sample(line: Line) -> str:
    """A piece of it, for the legend."""
    look = style(line)
    dash = f' stroke-dasharray="{look["dash"]}"' if look["dash"] else ""
    symbol = f'<path transform="translate(16 7)" fill="{look["color"]}" d="{look["symbol"]}"/>' if look["symbol"] else ""
    return (f'<svg viewBox="0 0 32 14" class="sample" aria-hidden="true"><path class="line" stroke="{look["color"]}"{dash} '
            f'd="M1 7H31"/>{symbol}</svg>')
