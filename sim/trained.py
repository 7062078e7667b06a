"""What a checkpoint says of the register that its network was trained for: notes of training, checked before they count."""

from collections.abc import Mapping
from typing import Any

from sim.accumulator import Accumulator
from sim.formats import is_whole

BOUNDED = ("a2q", "a2q+")
"""Ways of training that leave no sum beyond the register."""
OVERFLOWING = "overflow"
"""The way that computes with it."""


def trained_register(training: Mapping[str, Any]) -> Accumulator | None:
    """The register of inner layers that `training`, a checkpoint's notes, names; None if there is none that makes sense."""
    bits, method = training.get("accumulator_bits"), training.get("accumulator_training")
    if not is_whole(bits) or not bits or method not in (*BOUNDED, OVERFLOWING):
        return None
    if method in BOUNDED:
        return _register(bits, "wrap", "1")
    return _register(bits, training.get("overflow"), training.get("tile"))


def _register(bits: Any, overflow: Any, tile: Any) -> Accumulator | None:
    products = tile if isinstance(tile, str) and tile.isascii() and tile.isdecimal() else "0" if tile == "end" else None
    try:
        return None if products is None else Accumulator(bits, overflow, int(products))
    except ValueError:
        return None


def overflows_in(training: Mapping[str, Any]) -> Accumulator | None:
    """The register whose overflows were part of the forward pass; None of networks that were trained without."""
    return trained_register(training) if training.get("accumulator_training") == OVERFLOWING else None


def shown_by(training: Mapping[str, Any]) -> dict[str, Any]:
    """The options of sim.eval that show what a network was trained for; empty if for nothing in particular."""
    register = trained_register(training)
    if register is None:
        return {}
    if training.get("accumulator_training") in BOUNDED:
        return {"accumulator": register.bits}
    tile = {} if register.overflow == "wrap" or register.tile == 1 else {"tile": register.tile or "end"}
    return {"accumulator": register.bits, "overflow": register.overflow, **tile}


def register_notes(training: Mapping[str, Any], given: Accumulator) -> list[str]:
    """A line for the user unless inner layers run on the register that they were trained for."""
    register, method = trained_register(training), training.get("accumulator_training")
    if register is None or given == register or (method in BOUNDED and given.bits == register.bits):
        return []
    options = " ".join(f"--{name} {value}" for name, value in shown_by(training).items())
    what = f"trained by {method} so that no sum leaves {register.bits} bits" if method in BOUNDED else \
        f"trained with the overflows of a {register}"
    return [f"{what}, in all but the first and last layer: {options} shows it"]
