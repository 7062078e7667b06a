"""The hardware a network is lowered for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sim.accumulator import Accumulator
from sim.registry import RegistryError
from sim.requantizers import REQUANTIZERS


class HardwareError(ValueError):
    """A piece of hardware that there is not: which part, what was given, what is allowed."""


@dataclass(frozen=True)
class HardwareSpec:
    """Accumulators of the inner and of the boundary (first and last) layers, and the requantizer by name.

    Layers that `layers` names have the accumulator that stands there, whatever their role.

    Boundary layers multiply 8-bit codes and usually get an adder of their own, hence the second accumulator.

    >>> HardwareSpec(Accumulator(10, "saturate"), requant="tflite_single").accumulator_of("inner")
    Accumulator(bits=10, overflow='saturate', tile=1)

    Raises HardwareError.
    """

    accumulator: Accumulator = field(default_factory=Accumulator)
    boundary_accumulator: Accumulator = field(default_factory=Accumulator)
    requant: str = "fp32"
    others: Mapping[str, str] = field(default_factory=dict)
    """Requantizers of rows that have another one, by kind of row: {"add": "tflite_add"}."""
    layers: Mapping[str, Accumulator] = field(default_factory=dict)
    """Accumulators of layers that have one of their own, by name."""

    def __post_init__(self) -> None:
        for name in ("accumulator", "boundary_accumulator"):
            if not isinstance(given := getattr(self, name), Accumulator):
                raise HardwareError(f"{name}: an Accumulator is wanted, such as Accumulator(16), not {given!r}")
        if not isinstance(self.others, Mapping):
            raise HardwareError(f"others: a mapping of kinds of rows to requantizers is wanted, not {self.others!r}")
        if not isinstance(self.layers, Mapping) or not all(
                isinstance(name, str) and isinstance(given, Accumulator) for name, given in self.layers.items()):
            raise HardwareError(f"layers: a mapping of names to Accumulators is wanted, not {self.layers!r}")
        for name in (self.requant, *self.others.values()):
            if not isinstance(name, str):
                raise HardwareError(f"requant: {name!r} is no name, choose one of {', '.join(REQUANTIZERS)}")
            try:
                REQUANTIZERS.known(name, "requant")
            except RegistryError as error:
                raise HardwareError(str(error)) from None

    def __hash__(self) -> int:
        return hash((self.accumulator, self.boundary_accumulator, self.requant, *sorted(self.others.items()),
                     *sorted(self.layers)))

    def requant_of(self, kind: str) -> str:
        """The requantizer of rows of a kind."""
        return self.others.get(kind, self.requant)

    def accumulator_of(self, role: str, name: str = "") -> Accumulator:
        """The accumulator of a layer of that name and role."""
        return self.layers.get(name, self.boundary_accumulator if role == "boundary" else self.accumulator)

    def to_json(self) -> dict[str, Any]:
        """Plain values; layers with registers of their own only where there are any."""
        plain: dict[str, Any] = {
            "accumulator": self.accumulator.to_json(), "boundary_accumulator": self.boundary_accumulator.to_json(),
            "requant": self.requant, "others": dict(self.others)}
        return plain | ({"layers": {name: own.to_json() for name, own in self.layers.items()}} if self.layers else {})
