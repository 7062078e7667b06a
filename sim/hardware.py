"""The hardware a network is lowered for."""

from dataclasses import dataclass, field

from sim.accumulator import Accumulator
from sim.requantizers import REQUANTIZERS


@dataclass(frozen=True)
class HardwareSpec:
    """Accumulators of the inner and of the boundary (first and last) layers, and the requantizer by name.

    Boundary layers multiply 8-bit codes and usually get an adder of their own, hence the second accumulator.
    """

    accumulator: Accumulator = field(default_factory=Accumulator)
    boundary_accumulator: Accumulator = field(default_factory=Accumulator)
    requant: str = "fp32"

    def __post_init__(self) -> None:
        REQUANTIZERS.known(self.requant)

    def accumulator_of(self, role: str) -> Accumulator:
        """The accumulator of a layer of that role."""
        return self.boundary_accumulator if role == "boundary" else self.accumulator
