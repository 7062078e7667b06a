"""All of it together, by layer and in total, as plain values."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim.cost.activity import Activity, activity_of
from sim.cost.arrays import Array, Timing, array_named
from sim.cost.energy import EnergyTable, energy_table
from sim.cost.errors import CostError
from sim.cost.qonnx import inference_cost
from sim.cost.static import Layer, gemm_of, layers_of
from sim.formats import is_whole
from sim.machine import Machine
from sim.program import Program

_SUMS = ("macs", "bops", "ebops", "weights", "zero_weights", "weight_bits", "output_bits")
_ACTIVITY = tuple(entry.name for entry in dataclasses.fields(Activity) if entry.name not in ("images", "register_bits"))


@dataclass(frozen=True)
class Energy:
    """Picojoules of one image: of products and additions, and of memory."""

    compute_pj: float
    memory_pj: float

    @property
    def total_pj(self) -> float:
        """Both."""
        return self.compute_pj + self.memory_pj


@dataclass(frozen=True)
class Cost:
    """Of one image: `layers` in order, and by name what only some have; `total` of all of them.

    `activity` is empty without data.  `array` and `timing` say how an array of multipliers fares, if one was named.
    """

    layers: tuple[Layer, ...]
    energy: Mapping[str, Energy]
    table: EnergyTable
    qonnx: Mapping[str, Any]
    array: Array | None = None
    timing: Mapping[str, Timing] = field(default_factory=dict)
    activity: Mapping[str, Activity] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Of the data behind `activity`."""
        return next((each.images for each in self.activity.values()), 0)

    @property
    def total(self) -> dict[str, int | float]:
        """Sums over all layers; of memory that is live at one time and of cycles of layers side by side, the largest."""
        found: dict[str, int | float] = {name: sum(getattr(layer, name) for layer in self.layers) for name in _SUMS}
        found["peak_activation_bits"] = max(layer.live_bits for layer in self.layers)
        found["compute_pj"] = sum(each.compute_pj for each in self.energy.values())
        found["memory_pj"] = sum(each.memory_pj for each in self.energy.values())
        if self.timing:
            found["cycles"] = sum(each.total_cycles for each in self.timing.values())
            found["slowest_cycles"] = max(each.total_cycles for each in self.timing.values())
        for name in _ACTIVITY if self.activity else ():
            found[name] = sum(getattr(each, name) for each in self.activity.values())
        return found

    def to_json(self) -> dict[str, Any]:
        """What a record holds of it: plain values that json writes."""
        return {"total": self.total, "qonnx": dict(self.qonnx), "images": self.images,
                "energy_table": {"name": self.table.name, "source": self.table.source},
                **({"array": self.array.text} if self.array else {}),
                "layers": [self._layer(layer) for layer in self.layers]}

    def _layer(self, layer: Layer) -> dict[str, Any]:
        found = dataclasses.asdict(layer) | dataclasses.asdict(self.energy[layer.name])
        found |= {"operands": list(layer.operands), "registers": [list(register) for register in layer.registers]}
        if layer.name in self.timing:
            found["array"] = self.timing[layer.name].to_json()
        if layer.name in self.activity:
            found |= {key: value for key, value in dataclasses.asdict(self.activity[layer.name]).items() if key != "images"}
        return found


@dataclass(frozen=True)
class Wanted:
    """What is asked for: a table of energies, an array, each by name or file, and how many images activity is counted on."""

    energy: str | Path | EnergyTable | None = None
    array: str | Path | Array | None = None
    images: int = 4

    @classmethod
    def asked(cls, cost: bool, energy: str | Path | None, array: str | Path | None, images: int | None) -> "Wanted | None":
        """What options ask for, read and checked; None if nothing.  Raises CostError, OSError."""
        if not cost and energy is None and array is None and images is None:
            return None
        if images is not None and (not is_whole(images) or images < 1):
            raise CostError(f"cost-images: {images!r} is not allowed, choose 1 or more images")
        wanted = cls(energy, array, cls.images if images is None else images)
        return cls(wanted.table(), wanted.multipliers(), wanted.images)

    def table(self) -> EnergyTable:
        """Raises CostError, OSError."""
        return self.energy if isinstance(self.energy, EnergyTable) else \
            energy_table() if self.energy is None else energy_table(self.energy)

    def multipliers(self) -> Array | None:
        """Raises CostError, OSError."""
        return self.array if isinstance(self.array, Array) or self.array is None else array_named(self.array)


def cost_of(program: Program | Machine, pixels: np.ndarray | None = None, energy: str | Path | EnergyTable | None = None,
            array: str | Path | Array | None = None) -> Cost:
    """The cost of one image, and on `pixels` (as `Machine.run` takes them) zero operands and toggled bits of all of these.

    `energy` is a table by name or file (default: Horowitz's for 45 nm), `array` as sim/cost/arrays.py names one.  Energy of
    memory is that of perfect reuse: every weight and every input of a layer is read once, every result written once, in
    a memory that holds all weights and one that holds the activations that are live at one time.

    >>> import sim
    >>> program = sim.lower(sim.load_checkpoint("tests/data/takd-digits-2bit.pt").spec)
    >>> cost = cost_of(program, array="ws:8x8")
    >>> cost.total["macs"] == program.macs, cost.total["bops"] < 64 * program.macs
    (True, True)

    Raises CostError for a table or an array that there is not, OSError.
    """
    machine = program if isinstance(program, Machine) else None
    plain: Program = program.program if isinstance(program, Machine) else program
    wanted = Wanted(energy, array)
    table, multipliers = wanted.table(), wanted.multipliers()
    layers = layers_of(plain)
    timing = {}
    for op in plain.ops:
        gemm = gemm_of(op)
        if multipliers is not None and gemm is not None:
            timing[op.name] = multipliers.timing(op.name, gemm)
    activity = {} if pixels is None else activity_of(machine or Machine(plain), pixels)
    return Cost(layers, _energies(plain, layers, table), table, inference_cost(plain), multipliers, timing, activity)


def _energies(program: Program, layers: tuple[Layer, ...], table: EnergyTable) -> dict[str, Energy]:
    sizes = {layer.name: layer.output_bits for layer in layers}
    weights, live = sum(layer.weight_bits for layer in layers), max(layer.live_bits for layer in layers)
    found = {}
    for op, layer in zip(program.ops, layers, strict=True):
        moved = layer.output_bits + sum(sizes[name] for name in op.sources())
        found[op.name] = Energy(table.compute_pj(layer), table.memory_pj(layer.weight_bits, weights)
                                + table.memory_pj(moved, live))
    return found
