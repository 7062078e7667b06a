"""Quantizers by name.  A new one is a file beside this and a row here, its numpy twin in sim/quantizers; or your file."""

from typing import Any

from sim.quantizers import QUANTIZERS as TWINS
from sim.registry import Registry, RegistryError, is_own
from training.quantizers.a2q import A2q
from training.quantizers.dorefa import DoReFa
from training.quantizers.interval import Interval
from training.quantizers.lsq import Lsq
from training.quantizers.pact import Pact, Sawb
from training.quantizers.quantizer import CALIBRATIONS, Quantizer, Scale

__all__ = ["CALIBRATIONS", "QUANTIZERS", "Quantizer", "Scale"]


def _check(name: str, value: Any) -> Quantizer:
    """A torch quantizer; its numpy half becomes known by the same name."""
    if not isinstance(value, Quantizer):
        raise RegistryError(f"{name!r} is {value!r}, expected an object of a class derived from "
                            "training.quantizers.Quantizer")
    if value.twin is None:
        raise RegistryError(f"{name!r} has no `twin`, the object of a class derived from sim.quantizers.Quantizer that "
                            "finds the same codes in numpy")
    TWINS.add(name, value.twin, replace=is_own(name))  # as this table says whether a name is free
    return value


QUANTIZERS: Registry[Quantizer] = Registry("quantizer", {
    "a2q": A2q(DoReFa()),
    "a2q+": A2q(DoReFa(), centered=True),
    "a2q_interval": A2q(Interval()),
    "a2q+_interval": A2q(Interval(), centered=True),
    "a2q_lsq": A2q(Lsq()),
    "a2q+_lsq": A2q(Lsq(), centered=True),
    "a2q_pact": A2q(Pact()),
    "a2q+_pact": A2q(Pact(), centered=True),
    "dorefa": DoReFa(),
    "interval": Interval(),
    "interval_channel": Interval(per_channel=True),
    "lsq": Lsq(),
    "lsq_channel": Lsq(per_channel=True),
    "pact": Pact(),
    "sawb": Sawb(),
}, "bittrue.quantizers", _check)
