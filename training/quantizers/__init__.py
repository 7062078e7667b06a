"""Quantizers by name.  A new one is a file beside this and a row here (and its numpy twin in sim/quantizers)."""

from collections.abc import Mapping
from types import MappingProxyType

from training.quantizers.dorefa import DoReFa
from training.quantizers.interval import Interval
from training.quantizers.lsq import Lsq
from training.quantizers.pact import Pact, Sawb
from training.quantizers.quantizer import CALIBRATIONS, Quantizer, Scale

__all__ = ["CALIBRATIONS", "QUANTIZERS", "Quantizer", "Scale"]

QUANTIZERS: Mapping[str, Quantizer] = MappingProxyType({
    "dorefa": DoReFa(),
    "interval": Interval(),
    "interval_channel": Interval(per_channel=True),
    "lsq": Lsq(),
    "lsq_channel": Lsq(per_channel=True),
    "pact": Pact(),
    "sawb": Sawb(),
})
