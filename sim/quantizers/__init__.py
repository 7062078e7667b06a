"""Numpy twins of training/quantizers, written from ARITHMETIC.md and not from them: float weights -> integer codes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from sim.formats import IntFormat
from sim.quantizers.dorefa import DoReFa


class Quantizer(Protocol):
    """The rule by which a trained network's floats become the integers of the hardware."""

    def weight_codes(self, weight: np.ndarray, bits: int) -> tuple[np.ndarray, float]:
        """float32 weights of any shape -> (int32 codes of that shape, what one step stands for)."""

    def weight_format(self, bits: int) -> IntFormat:
        """The signed operand that holds every weight code."""

    def activation_scale(self, bits: int, limit: float) -> float:
        """What one activation code step stands for."""


QUANTIZERS: Mapping[str, Quantizer] = MappingProxyType({"dorefa": DoReFa()})
