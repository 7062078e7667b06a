"""Cycles and utilization of an array of multipliers: systolic ones as SCALE-Sim v2 counts them, PE x SIMD ones as FINN does.

    os:32x32  ws:32x32  is:32x32     a systolic array of 32 rows and 32 columns, output, weight or input stationary
    pe:8x16                          8 processing elements of 16 multipliers each, for every layer
    FILE.toml                        dataflow = "os" | "ws" | "is" with rows, columns; or dataflow = "pe" with pe, simd, and
                                     [layers.NAME] pe, simd for layers that have an array of their own

Source: Samajdar et al. 2020, SCALE-Sim (arXiv:1811.02883) and the release v2 of it; Blott et al. 2018, FINN-R
(arXiv:1809.04570), its folding of a matrix-vector unit.  Nothing waits for a memory here: stalls are 0.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sim.cost.errors import CostError
from sim.cost.static import Gemm
from sim.formats import is_whole
from sim.text import printable
from sim.toml import TomlError, read_toml

MOST = 1 << 16
"""Of rows, columns, elements: more are not believed."""
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Timing:
    """Cycles of a layer on an array, in SCALE-Sim's words (COMPUTE_REPORT.csv)."""

    total_cycles: int
    overall_util: float
    mapping_efficiency: float
    compute_util: float

    def to_json(self) -> dict[str, float]:
        """Under the names of the columns of COMPUTE_REPORT.csv."""
        return {"Total Cycles": self.total_cycles, "Stall Cycles": 0, "Overall Util %": self.overall_util,
                "Mapping Efficiency %": self.mapping_efficiency, "Compute Util %": self.compute_util}


class Array:
    """An array of multipliers."""

    @property
    def text(self) -> str:
        """It in a word or two."""
        raise NotImplementedError

    def timing(self, layer: str, gemm: Gemm) -> Timing:
        """Of the matrix products of a layer."""
        raise NotImplementedError


@dataclass(frozen=True)
class Systolic(Array):
    """`rows` x `columns` multipliers.  The dataflow says what lies across both: see `_mapped`.

    A product of matrices is cut into folds, each of which fills the array and drains it before the next one begins.

    >>> Systolic("os", 4, 4).timing("a", Gemm(rows=9, depth=18, columns=4, count=1)).total_cycles
    71
    """

    dataflow: str
    rows: int
    columns: int
    FLOWS: ClassVar[Mapping[str, str]] = {"os": "output stationary", "ws": "weight stationary", "is": "input stationary"}

    @property
    def text(self) -> str:
        """Its sides and its dataflow."""
        return f"systolic array {self.rows}x{self.columns}, {self.FLOWS[self.dataflow]}"

    def _mapped(self, gemm: Gemm) -> tuple[int, int, int]:
        """What lies across rows, across columns, and how many steps one fold takes in time."""
        return {"os": (gemm.rows, gemm.columns, gemm.depth), "ws": (gemm.depth, gemm.columns, gemm.rows),
                "is": (gemm.depth, gemm.rows, gemm.columns)}[self.dataflow]

    def timing(self, layer: str, gemm: Gemm) -> Timing:
        """Of SCALE-Sim: groups are layers of their own, one after the other; the first cycle is its number 0.

        A fold of T steps takes T + R + C - 2 cycles where outputs stay, and R more where a stationary operand is loaded
        first; "Compute Util %" is of the mean fold, whose length SCALE-Sim takes as C - 1 cycles more for these two.
        """
        across, along, steps = self._mapped(gemm)
        folds = math.ceil(across / self.rows) * math.ceil(along / self.columns)
        loading = 0 if self.dataflow == "os" else self.rows
        fold = steps + self.rows + self.columns - 2 + loading
        total = max(1, folds * fold - 1)
        units = self.rows * self.columns
        mapped = across * along / (folds * units)
        whole = fold if self.dataflow == "os" else fold + self.columns - 1
        return Timing(total * gemm.count, 100.0 * gemm.macs / (total * gemm.count * units), 100.0 * mapped,
                      100.0 * mapped * steps / whole)


@dataclass(frozen=True)
class Folded(Array):
    """`pe` elements of `simd` multipliers: every cycle so many outputs take so many products (FINN's folding).

    A product of a vector takes ceil(columns / pe) * ceil(depth / simd) cycles; a depthwise convolution shares its elements
    out to channels.  `layers` have an array of their own.

    >>> Folded(2, 6).timing("a", Gemm(rows=9, depth=18, columns=4, count=1)).total_cycles
    54
    """

    pe: int
    simd: int
    layers: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Its sides."""
        own = f", {len(self.layers)} layers with their own" if self.layers else ""
        return f"PE x SIMD array {self.pe}x{self.simd}{own}"

    def __hash__(self) -> int:
        return hash((self.pe, self.simd, *sorted(self.layers.items())))

    def timing(self, layer: str, gemm: Gemm) -> Timing:
        """Cycles of one image; what is not folded evenly leaves multipliers idle."""
        pe, simd = self.layers.get(layer, (self.pe, self.simd))
        is_depthwise = gemm.columns == 1 and gemm.count > 1
        outputs, parts = (gemm.count, 1) if is_depthwise else (gemm.columns, gemm.count)
        total = gemm.rows * parts * math.ceil(outputs / pe) * math.ceil(gemm.depth / simd)
        share = 100.0 * gemm.macs / (total * pe * simd)
        return Timing(total, share, share, share)


def array_named(text: str | Path) -> Array:
    """The array that such a text, or the .toml file of that path, describes.  Raises CostError, OSError."""
    flows = "|".join((*Systolic.FLOWS, "pe"))
    if found := re.fullmatch(rf"({flows}):(\d+)x(\d+)", str(text)):
        keys = ("pe", "simd") if found[1] == "pe" else ("rows", "columns")
        return _array({"dataflow": found[1], keys[0]: int(found[2]), keys[1]: int(found[3])}, "array")
    path = Path(text)
    if path.suffix != ".toml":
        raise CostError(f"array: {printable(text)} is not allowed, choose os:ROWSxCOLUMNS, ws:ROWSxCOLUMNS, "
                        "is:ROWSxCOLUMNS, pe:PExSIMD, or the path of a .toml file")
    try:
        described = read_toml(path, "array", MOST_BYTES)
    except TomlError as error:
        raise CostError(f"array: {printable(path)}: {error}") from None
    return _array(described, f"array: {printable(path)}")


def _array(content: Mapping[str, Any], where: str) -> Array:
    flow = content.get("dataflow")
    if flow == "pe":
        _check_keys(content, ("dataflow", "pe", "simd", "layers", "source"), where)
        layers = content.get("layers", {})
        if not isinstance(layers, dict):
            raise CostError(f"{where}: layers is a table of layers, not {printable(repr(layers))}")
        own = {}
        for name, entry in layers.items():
            place = f"{where}: layers.{printable(name)}"
            if not isinstance(entry, dict):
                raise CostError(f"{place} is a table of pe and simd, not {printable(repr(entry))}")
            _check_keys(entry, ("pe", "simd"), place)
            own[name] = (_side(entry, "pe", place), _side(entry, "simd", place))
        return Folded(_side(content, "pe", where), _side(content, "simd", where), own)
    if flow in Systolic.FLOWS:
        _check_keys(content, ("dataflow", "rows", "columns", "source"), where)
        return Systolic(str(flow), _side(content, "rows", where), _side(content, "columns", where))
    raise CostError(f"{where}: dataflow {printable(repr(flow))} is unknown, choose one of {', '.join(Systolic.FLOWS)}, pe")


def _check_keys(content: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in content:
        if key not in keys:
            raise CostError(f"{where}: {printable(key)} is no key, there are {', '.join(keys)}")


def _side(content: Mapping[str, Any], key: str, where: str) -> int:
    value: Any = content.get(key)
    if not is_whole(value) or not 1 <= value <= MOST:
        raise CostError(f"{where}: {key} must be a whole number from 1 to {MOST}, not {printable(repr(value))}")
    return int(value)
