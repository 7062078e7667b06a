"""Requantizers by name: from accumulators to codes.  A new one is a file beside this and a row here, or a file of yours."""

import inspect
from functools import cache
from typing import Any

from sim.registry import Registry, RegistryError
from sim.requantizers.double import Double
from sim.requantizers.exact_add import ExactAdd
from sim.requantizers.fp32 import Fp32
from sim.requantizers.int16 import Int16
from sim.requantizers.mlas import MlasAdd, MlasMultiply
from sim.requantizers.mul_add_shift import MulAddDivide, MulAddShift, MulAddShiftFloor
from sim.requantizers.ort import Ort
from sim.requantizers.ort_add import OrtAdd
from sim.requantizers.power_of_two import PowerOfTwo, RshiftFloor
from sim.requantizers.requantizer import Affine, Requantizer
from sim.requantizers.rule import Rule
from sim.requantizers.ruy import Ruy
from sim.requantizers.ruy_blocks import RuyBlocks
from sim.requantizers.single import Single
from sim.requantizers.tflite_add import TfliteAdd
from sim.requantizers.tflite_single import TfliteSingle
from sim.requantizers.thresholds import Thresholds
from sim.requantizers.tosa import TosaDouble, TosaSingle
from sim.requantizers.xnnpack import Xnnpack
from sim.requantizers.xnnpack_add import XnnpackAdd

__all__ = ["ADDITIONS", "REQUANTIZERS", "Affine", "Requantizer", "Rule", "requantizer_named"]


def _check(name: str, value: Any) -> type[Requantizer]:
    """A class whose own name, by which programs know it, is nobody else's."""
    if not (inspect.isclass(value) and issubclass(value, Requantizer)):
        raise RegistryError(f"{name!r} is {value!r}, expected a class derived from sim.requantizers.Requantizer")
    if not isinstance(own := getattr(value, "name", None), str) or not own:
        raise RegistryError(f"{name!r} has no `name`, the text by which programs know it")
    if _NAMED.setdefault(own, value) is not value:
        raise RegistryError(f"{name!r}: the name {own!r} is taken by {_NAMED[own].__module__}.{_NAMED[own].__qualname__}")
    return value


_KINDS: tuple[type[Requantizer], ...] = (
    Fp32, TfliteSingle, Double, Single, Ruy, RuyBlocks, Xnnpack, Ort, Int16, TosaSingle, TosaDouble, MulAddShift,
    MulAddShiftFloor, MulAddDivide, RshiftFloor, PowerOfTwo, Thresholds, ExactAdd, TfliteAdd, XnnpackAdd, OrtAdd,
    MlasAdd, MlasMultiply)
_BUILT_IN: dict[str, type[Requantizer]] = {kind.name: kind for kind in _KINDS}
_NAMED = dict(_BUILT_IN)
ADDITIONS: tuple[type[Requantizer], ...] = (TfliteAdd, XnnpackAdd, OrtAdd, MlasAdd)
"""Those of two operands, for additions alone."""
LEAST_BITS = 8
"""Of a multiplier."""


class _Requantizers(Registry[type[Requantizer]]):
    """Knows names with a multiplier's width, too: double_16 is `double` whose multipliers are rounded to 16 bits."""

    def __getitem__(self, name: str) -> type[Requantizer]:
        narrow = _of_width(name)
        return super().__getitem__(name) if narrow is None else narrow


@cache
def _of_width(name: str) -> type[Requantizer] | None:
    """The class of a name with a width; None for any other name."""
    base, _, bits = name.rpartition("_")
    kind = _BUILT_IN.get(base)
    if kind in (None, Int16) or bits not in map(str, range(LEAST_BITS, getattr(kind, "bits", 0))):
        return None
    return type(name, (kind,), {"name": name, "bits": int(bits), "__module__": __name__, "__qualname__": name})


def __getattr__(name: str) -> type[Requantizer]:
    """A class with a width, for pickle, which looks for it by its name."""
    if (found := _of_width(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found


REQUANTIZERS: Registry[type[Requantizer]] = _Requantizers("requant", _BUILT_IN, "bittrue.requantizers", _check)


def requantizer_named(name: str) -> type[Requantizer]:
    """The class that programs know by its own name; raises RegistryError unless it is built in or was found before."""
    if (narrow := _of_width(name)) is not None:
        return narrow
    if name not in _NAMED:
        raise RegistryError(f"requantizer {name!r} is none of {', '.join(_BUILT_IN)}: one of your own is loaded only where "
                            "you name it, --requant FILE.py:CLASS, or in Python REQUANTIZERS.find('FILE.py:CLASS')")
    return _NAMED[name]
