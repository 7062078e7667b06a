"""QONNX on its own arithmetic: float operators between quantizers of any width, as integers and exact thresholds.

What QONNX's executor adds up in float32 is here the sum of integers, whose float32 value goes through the same float32
operators; where codes differ from the executor's, the float32 sums are why.  `convert` is the whole of it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sim.importers import Imported
from sim.importers.onnx import activations, pools, quantize, shapes
from sim.importers.onnx.converted import Converted, converted, imported
from sim.importers.onnx.graph import Dialect, Graph
from sim.importers.onnx.model import Model, Node, load
from sim.importers.qonnx import quantizers
from sim.importers.qonnx.products import settled
from sim.profiles import Profile
from sim.requantizers import REQUANTIZERS

__all__ = ["OPERATORS", "convert", "read"]

Operator = Callable[[Graph, Node], None]
OPERATORS: Mapping[str, Operator] = {
    "QuantizeLinear": quantize.quantize, "DequantizeLinear": quantize.dequantize, **shapes.OPERATORS,
    **{kind: operator for kind, operator in activations.OPERATORS.items() if not kind.startswith("QLinear")},
    "MaxPool": pools.max_pool, **quantizers.OPERATORS}
DOMAINS = ("", "ai.onnx", "qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general",
           "qonnx.custom_op.channels_last")


def read(path: Path, profile: Profile) -> Imported:
    """A QONNX file as a program on the registers of a profile.  Raises ImporterError, OSError."""
    return imported(convert(load(path), profile), profile)


def convert(model: Model, profile: Profile) -> Converted:
    """A graph as a program.  Raises ImporterError, which names the operator and what is supported."""
    return converted(model, profile, Dialect(OPERATORS, DOMAINS, lambda kind, default: _rule(profile, kind), settled, {}))


def _rule(profile: Profile, kind: str) -> Any:
    return REQUANTIZERS.known(profile.rule(kind).requant)
