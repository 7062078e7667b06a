"""Requantizers by name: from accumulators to codes.  A new one is a file beside this and a row here."""

from collections.abc import Mapping
from types import MappingProxyType

from sim.requantizers.fp32 import Fp32
from sim.requantizers.requantizer import Affine, Requantizer
from sim.requantizers.tflite_single import TfliteSingle

__all__ = ["REQUANTIZERS", "Affine", "Requantizer"]

REQUANTIZERS: Mapping[str, type[Requantizer]] = MappingProxyType({"fp32": Fp32, "tflite_single": TfliteSingle})
