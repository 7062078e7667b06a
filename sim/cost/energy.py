"""Energy of an image from a table that can be replaced: picojoules of additions, multiplications and bits of memory.

The file (TOML), each list with rising first numbers:

    source = "what was read or measured"
    add = [[8, 0.03], [32, 0.1]]            # [bits of the sum, pJ of one addition]
    multiply = [[8, 0.2], [32, 3.1]]        # [bits of both factors, pJ of one multiplication]
    memory = [[8192, 0.15625], ...]         # [bytes that a memory holds at most, pJ of one bit that is read or written]
    beyond = 20.3125                        # pJ of one bit of what no such memory holds: DRAM

Between two entries energy is a straight line over the bits of an addition, and over the product of both factors' bits of a
multiplication; below the first it goes on to 0, beyond the last it goes on as before.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.cost.errors import CostError
from sim.cost.static import Layer
from sim.text import printable
from sim.toml import TomlError, read_toml

DEFAULT = "horowitz_45nm"
FOLDER = Path(__file__).parent
_KEYS = ("source", "add", "multiply", "memory", "beyond")
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class EnergyTable:
    """Points of each kind of work; `name` as it was asked for, `source` what the file says.

    >>> table = energy_table()
    >>> table.add_pj(8), table.multiply_pj(8, 8), table.multiply_pj(32, 32)
    (0.03, 0.2, 3.1)
    >>> round(table.multiply_pj(2, 2), 6), table.bit_pj(8192), table.bit_pj(8193), table.bit_pj(1 << 30)
    (0.0125, 0.15625, 0.3125, 20.3125)
    """

    name: str
    source: str
    add: Points
    multiply: Points
    memory: Points
    beyond: float

    def add_pj(self, bits: int) -> float:
        """One addition to a register of so many bits."""
        return _line(self.add, bits)

    def multiply_pj(self, a: int, b: int) -> float:
        """One product of factors of so many bits."""
        return _line(tuple((bits * bits, energy) for bits, energy in self.multiply), a * b)

    def bit_pj(self, size: int) -> float:
        """One bit read or written in a memory that has to hold `size` bytes."""
        return next((energy for most, energy in self.memory if size <= most), self.beyond)

    def compute_pj(self, layer: Layer) -> float:
        """All products of a layer, and all additions to its registers."""
        products = layer.macs * self.multiply_pj(*layer.operands) if layer.macs else 0.0
        return products + sum(count * self.add_pj(bits) for bits, count in layer.registers)

    def memory_pj(self, moved: int, held: int) -> float:
        """So many bits moved, in a memory that holds so many bits."""
        return moved * self.bit_pj(math.ceil(held / 8))


def _line(points: Points, at: float) -> float:
    """Straight lines from (0, 0) through all points, the last one going on."""
    ends = ((0.0, 0.0), *points)
    for (x, y), (after, above) in itertools.pairwise(ends):
        if at <= after or (after, above) == ends[-1]:
            return above if at == after else y + (above - y) * (at - x) / (after - x)
    raise AssertionError("a table has a point")


def energy_table(name: str | Path = DEFAULT) -> EnergyTable:
    """The table of that name, or in the .toml file of that path.  Raises CostError, OSError."""
    known = sorted(path.stem for path in FOLDER.glob("*.toml"))
    path = FOLDER / f"{name}.toml" if str(name) in known else Path(name)
    if path.suffix != ".toml":
        raise CostError(f"energy: {printable(name)} is unknown, choose one of {', '.join(known)}, or give the path of a "
                        ".toml file")
    try:
        return _table(str(name), read_toml(path, "table of energies"))
    except (CostError, TomlError) as error:
        raise CostError(f"energy: {printable(path)}: {error}") from None


def _table(name: str, content: dict[str, Any]) -> EnergyTable:
    for key in content:
        if key not in _KEYS:
            raise CostError(f"{printable(key)} is no key of it, which has {', '.join(_KEYS)}")
    if not isinstance(content.get("source"), str) or not content["source"].strip():
        raise CostError("source is missing: a text is wanted that says what was read or measured")
    beyond: Any = content.get("beyond")
    if not _is_energy(beyond):
        raise CostError(f"beyond must be a number of picojoules from 0 on, not {printable(repr(beyond))}")
    add, multiply, memory = (_points(key, content.get(key)) for key in ("add", "multiply", "memory"))
    return EnergyTable(name, content["source"], add, multiply, memory, float(beyond))


def _is_energy(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value < math.inf


def _points(key: str, value: Any) -> Points:
    wanted = f"{key} must be a list of pairs [number above 0, picojoules], the first numbers rising"
    if not isinstance(value, list) or not value:
        raise CostError(f"{wanted}, not {printable(repr(value))}")
    pairs: list[Sequence[Any]] = value
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_energy, pair)) or not pair[0] > 0:
            raise CostError(f"{wanted}; one is {printable(repr(pair))}")
    if any(a[0] >= b[0] for a, b in itertools.pairwise(pairs)):
        raise CostError(f"{wanted}, not {printable(repr(value))}")
    return tuple((float(x), float(y)) for x, y in pairs)
