"""Numpy twins of training/quantizers, written from ARITHMETIC.md and not from them: float weights -> integer codes."""

from typing import Any

from sim.quantizers.a2q import A2q
from sim.quantizers.dorefa import DoReFa
from sim.quantizers.pact import Pact, Sawb
from sim.quantizers.quantizer import Arrays, Parameters, Quantizer, QuantizerError
from sim.quantizers.uniform import Interval, Lsq
from sim.registry import Registry, RegistryError

__all__ = ["QUANTIZERS", "Arrays", "Parameters", "Quantizer", "QuantizerError", "learns"]


def _check(name: str, value: Any) -> Quantizer:
    """A numpy quantizer, or that of a torch one."""
    found = value if isinstance(value, Quantizer) else getattr(value, "twin", None)
    if not isinstance(found, Quantizer):
        raise RegistryError(f"{name!r} is {value!r}, expected an object of a class derived from sim.quantizers.Quantizer, "
                            "or a torch quantizer whose `twin` is one")
    return found


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


def learns(name: str) -> bool:
    """Whether the quantizer of that name has learned numbers of its own."""
    quantizer = QUANTIZERS.get(name, Quantizer())
    return bool(quantizer.activation_parameters() or quantizer.weight_parameters(1))
