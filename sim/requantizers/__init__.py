"""Requantizers by name: from accumulators to codes.  A new one is a file beside this and a row here, or a file of yours."""

import inspect
from typing import Any

from sim.registry import Registry, RegistryError
from sim.requantizers.fp32 import Fp32
from sim.requantizers.requantizer import Affine, Requantizer
from sim.requantizers.tflite_single import TfliteSingle

__all__ = ["REQUANTIZERS", "Affine", "Requantizer", "requantizer_named"]


def _check(name: str, value: Any) -> type[Requantizer]:
    """A class whose own name, by which programs know it, is nobody else's."""
    if not (inspect.isclass(value) and issubclass(value, Requantizer)):
        raise RegistryError(f"{name!r} is {value!r}, expected a class derived from sim.requantizers.Requantizer")
    if not isinstance(own := getattr(value, "name", None), str) or not own:
        raise RegistryError(f"{name!r} has no `name`, the text by which programs know it")
    if _NAMED.setdefault(own, value) is not value:
        raise RegistryError(f"{name!r}: the name {own!r} is taken by {_NAMED[own].__module__}.{_NAMED[own].__qualname__}")
    return value


_BUILT_IN: dict[str, type[Requantizer]] = {"fp32": Fp32, "tflite_single": TfliteSingle}
_NAMED = dict(_BUILT_IN)

REQUANTIZERS: Registry[type[Requantizer]] = Registry("requant", _BUILT_IN, "bittrue.requantizers", _check)


def requantizer_named(name: str) -> type[Requantizer]:
    """The class that programs know by its own name; raises RegistryError unless it is built in or was found before."""
    if name not in _NAMED:
        raise RegistryError(f"requantizer {name!r} is none of {', '.join(_BUILT_IN)}: one of your own is loaded only where "
                            "you name it, --requant FILE.py:CLASS, or in Python REQUANTIZERS.find('FILE.py:CLASS')")
    return _NAMED[name]
