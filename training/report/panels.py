"""What the pictures of the report show, as numbers: panels of lines or bars, drawn by draw.py and svg.py."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sim.network import FLOAT_BITS
from training.report.accuracy import FINISHED
from training.report.profiles import network_name
from training.report.record import Record
from training.schemes import SCHEMES

LADDER = ("individual", "single-level", "skip-level", "takd")
"""The four ways of the teacher-assistant report."""
REFERENCE = "float"
MOST_RANGES = 5


@dataclass(frozen=True)
class Line:
    """Points with the lowest and highest of what each is the mean of; `style` tells lines apart, -1 is a reference."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    style: int = -1


@dataclass(frozen=True)
class Bars:
    """A histogram: one edge more than heights."""

    edges: tuple[float, ...]
    heights: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One picture.  `ticks`: places on the x axis; `shade`: a range of x; `marks`: places of thin lines."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...] = ()
    bars: Bars | None = None
    ticks: tuple[float, ...] = ()
    is_log: bool = False
    shade: tuple[float, float] | None = None
    marks: tuple[float, ...] = ()

    @property
    def shows_ranges(self) -> bool:
        """Whether the lowest and highest are shaded: not where so many shades would lie on each other."""
        return len(self.lines) <= MOST_RANGES


def style_number(scheme: str) -> int:
    """The same for a scheme in every picture."""
    known = list(SCHEMES)
    return known.index(scheme) if scheme in known else len(known)


def line_of(name: str, style: int, points: pd.DataFrame, x: str, y: str) -> Line:
    """Means over what shares a place."""
    found = points.dropna(subset=[y]).groupby(x)[y].agg(["mean", "min", "max"])
    at, mean, low, high = (tuple(map(float, values)) for values in (found.index, found["mean"], found["min"], found["max"]))
    return Line(name, at, mean, low, high, style)


def bits_text(bits: object) -> str:
    """"1 bit", "2 bits"."""
    return f"{bits} bit" if str(bits) == "1" else f"{bits} bits"


def finished(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs, without those of jobs that are missing."""
    return rows[rows["status"] == FINISHED] if not rows.empty else rows


def _series(part: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name, scheme and rows of every line: paths of one scheme that end at one width are lines of their own."""
    for scheme, rows in part.groupby("scheme", sort=True):
        if rows.groupby("bits")["path"].nunique().max() == 1:
            yield str(scheme), str(scheme), rows
            continue
        for begin, few in rows.groupby(rows["path"].str.split("-").str[:-1].str.join("-")):
            yield f"{scheme} from {begin}", str(scheme), few


def bits_panels(rows: pd.DataFrame) -> Iterator[Panel]:
    """Accuracy against bits for every network on every data set, and its float network's."""
    for title, part in networks(finished(rows)):
        quantized, real = part[part["bits"] != FLOAT_BITS], part[part["bits"] == FLOAT_BITS]
        ticks = tuple(sorted({float(bits) for bits in quantized["bits"]}))
        if len(ticks) > 1:
            lines = (line_of(name, style_number(scheme), few, "bits", "bit-true")
                     for name, scheme, few in _series(quantized))
            shown = (*_reference(real, ticks[0], ticks[-1]), *(line for line in lines if line.x))
            yield Panel(title, "bits of weights and activations", "bit-true accuracy %", shown, ticks=ticks, is_log=True)


def _reference(real: pd.DataFrame, first: float, last: float) -> Iterator[Line]:
    """The float network across a picture."""
    if not real.empty:
        mean, low, high = (float(value) for value in real["FQ"].agg(["mean", "min", "max"]))
        yield Line(REFERENCE, (first, last), (mean, mean), (low, low), (high, high))


def pareto_panels(rows: pd.DataFrame) -> Iterator[Panel]:
    """Accuracy against the bit operations of an image."""
    for title, part in networks(finished(rows)):
        known = part.dropna(subset=["bit operations", "bit-true"])
        if known["bit operations"].nunique() > 1:
            lines = [line_of(name, style_number(scheme), few, "bit operations", "bit-true")
                     for name, scheme, few in _series(known)]
            yield Panel(title, "bit operations of an image", "bit-true accuracy %", tuple(lines), is_log=True)


def register_panels(rows: pd.DataFrame) -> Iterator[Panel]:
    """Accuracy against the width of the register, for each way of overflowing."""
    if rows.empty:
        return
    for (dataset, model, bits, overflow), part in rows.groupby(["dataset", "model", "bits", "overflow"], sort=True):
        lines = [line_of(name, style_number(scheme), few, "accumulator", "bit-true") for name, scheme, few in _series(part)]
        yield Panel(f"{dataset}, {model}, {bits_text(bits)}, registers that {overflow}", "bits of the register",
                    "bit-true accuracy %", tuple(lines), ticks=tuple(sorted({float(x) for line in lines for x in line.x})))


def ladder_panels(rows: pd.DataFrame) -> Iterator[Panel]:
    """Learning curves of students that are taught by nobody, from twice the bits, from far above, and down a ladder."""
    if rows.empty:
        return
    plain = rows[~rows["changed"] & rows["scheme"].isin(LADDER) & (rows["bits"] != FLOAT_BITS)]
    for (dataset, bits), part in plain.groupby(["dataset", "bits"], sort=True):
        groups = [few for _, few in part.groupby("group")]
        if len({few["scheme"].iloc[0] for few in groups}) > 1:
            lines = [line_of(f"{few['scheme'].iloc[0]} {few['path'].iloc[0]}", style_number(few["scheme"].iloc[0]), few,
                             "epoch", "validation accuracy") for few in groups]
            yield Panel(f"{dataset}, {bits_text(bits)}", "epoch of the student's step", "validation accuracy %",
                        tuple(lines))


def networks(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Title and rows of each network, data set and preset."""
    if rows.empty:
        return
    for (dataset, model, preset), part in rows.groupby(["dataset", "model", "preset"], sort=True):
        yield f"{dataset}, {model}, preset {preset}", part


def profile_panels(records: Iterable[Record], most: int = 0) -> Iterator[Panel]:
    """Weights with the borders between codes, activations with the range of the codes; `most` layers of each, or all."""
    for record in records:
        name = f"{record['dataset']}, {network_name(record)}"
        for layer in _some(record["weights"], most):
            yield _weights(name, layer)
        for layer in _some(record["activations"], most):
            yield _activations(name, layer)


def _some(layers: list[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """Evenly chosen, without the first and the last: these have another width."""
    inner = layers[1:-1] if most and len(layers) > most + 1 else layers
    return inner if not most or len(inner) <= most else [
        inner[round(number * (len(inner) - 1) / max(1, most - 1))] for number in range(most)]


def _weights(name: str, layer: Mapping[str, Any]) -> Panel:
    largest = float(layer["largest"]) or 1.0
    codes = sorted(layer["codes"], key=lambda code: code["code"])
    borders = tuple((low["most"] + high["least"]) / 2 for low, high in itertools.pairwise(codes))
    return Panel(f"{name}: weights of {layer['name']}, {len(codes)} codes", "float weight, and where its code changes",
                 "% of the weights", bars=_shares(-largest, largest, layer["counts"]), marks=borders)


def _activations(name: str, layer: Mapping[str, Any]) -> Panel:
    most = float(layer["most"])
    return Panel(f"{name}: activations of {layer['name']}, codes {layer['least']:g} to {most:g}",
                 "result in code steps, before rounding", "% of the results",
                 bars=_shares(float(layer["low"]), float(layer["high"]), layer["counts"]),
                 shade=(float(layer["least"]) - 0.5, most + 0.5))


def _shares(low: float, high: float, counts: list[int]) -> Bars:
    whole = sum(counts) or 1
    step = (high - low) / len(counts)
    edges = tuple(low + step * number for number in range(len(counts) + 1))
    return Bars(edges, tuple(100.0 * count / whole for count in counts))


def is_drawable(panel: Panel) -> bool:
    """Whether something is on it."""
    values = [value for line in panel.lines for value in line.y]
    return panel.bars is not None or any(not math.isnan(value) for value in values)
