"""Numpy twins of training/quantizers, written from ARITHMETIC.md and not from them: float weights -> integer codes."""

from collections.abc import Mapping
from types import MappingProxyType

from sim.quantizers.dorefa import DoReFa
from sim.quantizers.pact import Pact, Sawb
from sim.quantizers.quantizer import Arrays, Parameters, Quantizer, QuantizerError
from sim.quantizers.uniform import Interval, Lsq

__all__ = ["QUANTIZERS", "Arrays", "Parameters", "Quantizer", "QuantizerError", "learns"]

QUANTIZERS: Mapping[str, Quantizer] = MappingProxyType({
    "dorefa": DoReFa(),
    "interval": Interval(),
    "interval_channel": Interval(per_channel=True),
    "lsq": Lsq(),
    "lsq_channel": Lsq(per_channel=True),
    "pact": Pact(),
    "sawb": Sawb(),
})


def learns(name: str) -> bool:
    """Whether the quantizer of that name has learned numbers of its own."""
    quantizer = QUANTIZERS.get(name, Quantizer())
    return bool(quantizer.activation_parameters() or quantizer.weight_parameters(1))
