"""The options that say which register a student is trained for, and what follows; training/registers.py acts on them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sim.accumulator import END, Accumulator, AccumulatorError
from sim.network import FLOAT_BITS
from training.options import ConfigError

A2Q, A2Q_PLUS, OVERFLOW = METHODS = ("a2q", "a2q+", "overflow")
DEFAULT_METHOD = A2Q_PLUS
RULES = ("wrap", "saturate")
LEAST_BITS, MOST_BITS = 2, 32
FAMILIES: Mapping[str, str] = MappingProxyType({
    "dorefa": "", "interval": "_interval", "interval_channel": "_interval", "lsq": "_lsq", "lsq_channel": "_lsq",
    "pact": "_pact", "sawb": "_pact"})
"""Quantizers whose activations go with weights of A2Q, and what those weights' names then end in."""


def accumulator_of(config: Any) -> Accumulator:
    """The register that a configuration names.  Raises ConfigError."""
    tile = config.tile
    if tile != "end" and not (tile.isascii() and tile.isdecimal() and int(tile)):
        raise ConfigError(f"tile: {tile!r} is not allowed, choose 1 or more products, or end")
    try:
        return Accumulator(config.accumulator_bits, config.overflow, END if tile == "end" else int(tile))
    except AccumulatorError as error:
        raise ConfigError(str(error)) from None


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """What follows from options about the register: the way to train for it, and the quantizer that it takes.

    Raises ConfigError for a quantizer that does not go with it.
    """
    if not given.get("accumulator_bits"):
        return {}
    method = given.get("accumulator_training") or DEFAULT_METHOD
    told = {"accumulator_training": method}
    return told if method not in (A2Q, A2Q_PLUS) else told | {"quantizer": _quantizer(method, str(given["quantizer"]))}


def _quantizer(method: str, name: str) -> str:
    """The quantizer with activations as `name` and weights of A2Q."""
    known = [method + family for family in dict.fromkeys(FAMILIES.values())]
    if name in known:
        return name
    if name not in FAMILIES:
        raise ConfigError(f"quantizer: {name} does not go with --accumulator-training {method}, whose weights have a rule of"
                          f" their own: choose the activations of {', '.join(FAMILIES)}")
    return method + FAMILIES[name]


def check(config: Any) -> None:
    """Raise ConfigError for options about the register (of a RunConfig) that make no sense together."""
    bits, method = config.accumulator_bits, config.accumulator_training
    if not bits:
        if method:
            raise ConfigError("accumulator-training: of which width? add --accumulator-bits")
        return
    if method not in METHODS:
        raise ConfigError(f"accumulator-training: {method!r} is unknown, choose one of {', '.join(METHODS)}")
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise ConfigError(f"accumulator-bits: {bits} is not allowed, choose {LEAST_BITS} to {MOST_BITS}")
    if config.overflow not in RULES:
        raise ConfigError(f"overflow: {config.overflow!r} is unknown, choose one of {', '.join(RULES)}")
    accumulator_of(config)
    least = (config.activation_bits or config.bits) + 1
    if config.bits == FLOAT_BITS:
        raise ConfigError("accumulator-bits: a float network has no registers, choose --bits")
    if method != OVERFLOW and bits < least:
        raise ConfigError(f"accumulator-bits: {bits} bits hold no product of {least - 1}-bit activations: choose {least} or "
                          "more")
