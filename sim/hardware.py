"""The hardware a network is lowered for."""

from dataclasses import dataclass, field

from sim.accumulator import Accumulator
from sim.registry import RegistryError
from sim.requantizers import REQUANTIZERS


class HardwareError(ValueError):
    """A piece of hardware that there is not: which part, what was given, what is allowed."""


@dataclass(frozen=True)
class HardwareSpec:
    """Accumulators of the inner and of the boundary (first and last) layers, and the requantizer by name.

    Boundary layers multiply 8-bit codes and usually get an adder of their own, hence the second accumulator.

    >>> HardwareSpec(Accumulator(10, "saturate"), requant="tflite_single").accumulator_of("inner")
    Accumulator(bits=10, overflow='saturate', tile=1)

    Raises HardwareError.
    """

    accumulator: Accumulator = field(default_factory=Accumulator)
    boundary_accumulator: Accumulator = field(default_factory=Accumulator)
    requant: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("accumulator", "boundary_accumulator"):
            if not isinstance(given := getattr(self, name), Accumulator):
                raise HardwareError(f"{name}: an Accumulator is wanted, such as Accumulator(16), not {given!r}")
        if not isinstance(self.requant, str):
            raise HardwareError(f"requant: {self.requant!r} is no name, choose one of {', '.join(REQUANTIZERS)}")
        try:
            REQUANTIZERS.known(self.requant, "requant")
        except RegistryError as error:
            raise HardwareError(str(error)) from None

    def accumulator_of(self, role: str) -> Accumulator:
        """The accumulator of a layer of that role."""
        return self.boundary_accumulator if role == "boundary" else self.accumulator
