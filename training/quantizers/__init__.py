"""Quantizers by name.  A new one is a file beside this and a row here (and its numpy twin in sim/quantizers)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from training.quantizers.dorefa import DoReFa

Scale = float | Tensor
"""What one code step stands for: a plain number where it is fixed, a 0-d float64 tensor where it depends on weights."""


class Quantizer(Protocol):
    """How real values become integer codes, with gradients that pass straight through the rounding."""

    def weight(self, weight: Tensor, bits: int) -> tuple[Tensor, Scale]:
        """Float weights -> (float32 tensor of integer codes, scale)."""

    def weight_bound(self, bits: int) -> int:
        """Largest absolute weight code."""

    def activation(self, steps: Tensor, bits: int) -> Tensor:
        """Real values, measured in code steps -> codes 0 .. 2^bits - 1."""

    def activation_scale(self, bits: int, limit: float) -> float:
        """What one activation code step stands for."""


QUANTIZERS: Mapping[str, Quantizer] = MappingProxyType({"dorefa": DoReFa()})
