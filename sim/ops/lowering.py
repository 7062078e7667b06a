"""What the rows of a network find when they are lowered: everything that was lowered before, and the hardware."""

from collections.abc import Mapping

import numpy as np

from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.network import NetworkSpec
from sim.ops.op import Op, format_of
from sim.ops.row import Activation, Row
from sim.quantizers import QUANTIZERS, Parameters, Quantizer
from sim.requantizers import REQUANTIZERS, Affine, Requantizer


class Lowering:
    """One pass over the rows; remembers every operation, and what one of its codes stands for.

    Rows call it from their `lower`; scales are float64 throughout (contract C3).
    """

    def __init__(self, spec: NetworkSpec, hardware: HardwareSpec) -> None:
        self.spec, self.hardware = spec, hardware
        self.quantizer: Quantizer = QUANTIZERS[spec.quantizer]
        self.requantizer = REQUANTIZERS[hardware.requant]
        self.shapes = spec.graph.shapes()
        self.ops: dict[str, Op] = {}
        self.scales: dict[str, float] = {}

    def add(self, row: Row) -> None:
        """Lower one row."""
        self.requantizer = REQUANTIZERS[self.hardware.requant_of(row.kind)]
        self.ops[row.name], self.scales[row.name] = row.lower(self)

    def array(self, row: Row, name: str) -> np.ndarray:
        """One float array of a row."""
        return self.spec.array(row, name)

    def weight_codes(self, row: Row, name: str = "weight") -> tuple[np.ndarray, np.ndarray | float, IntFormat, int]:
        """The quantized weights of a row: codes int32 in the shape of the float array, their scale, format and bits."""
        assert row.weight_role is not None
        bits = self.spec.precision.weight_bits(row.weight_role, row.name)
        self.quantizer.check(bits)
        learned = self.learned(row, self.quantizer.weight_parameters(row.weight_channels))
        weights = self.array(row, name)
        is_table = len(weights) != row.weight_channels  # whose rows are no channels, whatever a quantizer does for these
        codes, scale = self.quantizer.weight_codes(weights[None] if is_table else weights, bits, learned)
        codes = codes[0] if is_table else codes
        return codes, scale, self.quantizer.weight_format(bits), bits

    def learned(self, row: Row, names: Parameters, prefix: str = "") -> Mapping[str, np.ndarray]:
        """What the quantizer learned about a row."""
        return self.spec.learned(row, names, prefix)

    def activation(self, row: Row, activation: Activation) -> tuple[IntFormat, float]:
        """Format and scale of a row's output."""
        bits = self.spec.precision.activation_bits(activation.role, row.name)
        learned = self.learned(row, self.quantizer.activation_parameters(), "activate.")
        scale = self.quantizer.activation_scale(activation.magnitude_bits(bits), activation.limit, learned)
        return activation.format(bits), scale

    def format_of(self, name: str) -> IntFormat:
        """Format of an earlier operation's codes."""
        return format_of(self.ops[name])

    def accumulator_of(self, row: Row, role: str) -> Accumulator:
        """The registers of a row of that role."""
        return self.hardware.accumulator_of(role, row.name)

    def requantizer_of(self, target: IntFormat | None, gain: np.ndarray, offset: np.ndarray, bounds: tuple[int, int],
                       skip: tuple[float, IntFormat] | None = None) -> tuple[Requantizer, float]:
        """The hardware's own for an affine of sums within `bounds`, and what one unit of its results stands for.

        `skip` is the gain and the format of a residual.  Codes are counted in their own scale, so their unit is 1.
        """
        affine = Affine(gain, offset, None, bounds) if skip is None else Affine(gain, offset, skip[0], bounds, skip[1].reach)
        return self.requantizer.build_logits(affine) if target is None else (self.requantizer.build(affine, target), 1.0)
