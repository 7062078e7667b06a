"""ONNX on ONNX Runtime's arithmetic: quantizers around float operators (QDQ), QLinear operators, integer operators.

`convert` is the whole of it: a program, and how its codes are the arrays of the model; `read` is what sim.importers asks.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sim.importers import Imported
from sim.importers.onnx import activations, elementwise, linear, pools, quantize, shapes
from sim.importers.onnx.converted import Converted, converted, imported
from sim.importers.onnx.graph import Dialect, Graph
from sim.importers.onnx.model import Model, Node, load
from sim.importers.onnx.pairs import merged
from sim.profiles import Profile
from sim.requantizers import REQUANTIZERS

__all__ = ["OPERATORS", "Converted", "convert", "read"]

Operator = Callable[[Graph, Node], None]
OPERATORS: Mapping[str, Operator] = {
    "QuantizeLinear": quantize.quantize, "DequantizeLinear": quantize.dequantize, **linear.OPERATORS,
    **elementwise.OPERATORS, **pools.OPERATORS, **shapes.OPERATORS, **activations.OPERATORS}
DOMAINS = ("", "ai.onnx", "com.microsoft")


def read(path: Path, profile: Profile) -> Imported:
    """An ONNX file as a program on the rules of a profile.  Raises ImporterError, OSError."""
    return imported(convert(load(path), profile), profile)


def convert(model: Model, profile: Profile) -> Converted:
    """A graph as a program.  Raises ImporterError, which names the operator and what is supported."""
    return converted(merged(model), profile, Dialect(OPERATORS, DOMAINS, lambda kind, default: _rule(profile, kind),
                                             activations.settled, quantize.FUSED))


def _rule(profile: Profile, kind: str) -> Any:
    return REQUANTIZERS.known(profile.rule(kind).requant)
