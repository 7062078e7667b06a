"""Integer definitions by name: functions of a row that are exact by definition.  A new one is a class and a row here."""

import inspect
from typing import Any

from sim.definitions.definition import Definition, DefinitionError
from sim.definitions.gelu import IntegerGelu, IntegerHardSwish
from sim.definitions.gemmlowp import GemmlowpSoftmax
from sim.definitions.integer_norms import IbertLayerNorm, IntegerNoNorm, IntegerRmsNorm
from sim.definitions.ita import ItaMax, ItaPartialMax
from sim.definitions.layernorm import ExactLayerNorm, Norm
from sim.definitions.ort import OrtSoftmax
from sim.definitions.softmax import ExactSoftmax, IbertSoftmax, Log2Softmax, ShiftSoftmax, Softmax
from sim.definitions.softmax16 import TableSoftmax
from sim.registry import Registry, RegistryError

__all__ = ["INTEGER_FUNCTIONS", "NORMS", "SOFTMAXES", "Definition", "DefinitionError", "Norm", "Softmax", "definition_named"]


def _check_for(base: type[Definition]) -> Any:
    def check(name: str, value: Any) -> type[Definition]:
        if not (inspect.isclass(value) and issubclass(value, base)):
            raise RegistryError(f"{name!r} is {value!r}, expected a class derived from {base.__module__}."
                                f"{base.__qualname__}")
        if not isinstance(own := getattr(value, "name", None), str) or not own:
            raise RegistryError(f"{name!r} has no `name`, the text by which programs know it")
        return value
    return check


SOFTMAXES: Registry[type[Definition]] = Registry("softmax", {
    "exact": ExactSoftmax,
    "gemmlowp": GemmlowpSoftmax,
    "ibert": IbertSoftmax,
    "itamax": ItaMax,
    "itapartialmax": ItaPartialMax,
    "log2": Log2Softmax,
    "log2shift": ShiftSoftmax,
    "tflite_int16": TableSoftmax,
}, "bittrue.softmaxes", _check_for(Softmax))

NORMS: Registry[type[Definition]] = Registry("norm", {
    "exact": ExactLayerNorm,
    "ibert": IbertLayerNorm,
    "inonorm": IntegerNoNorm,
    "irmsnorm": IntegerRmsNorm,
}, "bittrue.norms", _check_for(Norm))

INTEGER_FUNCTIONS: Registry[type[Definition]] = Registry("integer-function", {
    "igelu": IntegerGelu,
    "ihardswish": IntegerHardSwish,
}, "bittrue.integer_functions", _check_for(Definition))


def definition_named(kind: str, name: str) -> type[Definition]:
    """The class of that kind and name, for programs that are read.  Raises RegistryError where there is none."""
    if (kind, name) == (OrtSoftmax.kind, OrtSoftmax.name):
        return OrtSoftmax
    if kind == Softmax.kind:
        return SOFTMAXES.known(name)
    return NORMS.known(name) if kind == Norm.kind else INTEGER_FUNCTIONS.known(name)
