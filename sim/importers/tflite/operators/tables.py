"""Operators of one code: a table over all codes, filled when the file is read.  And softmax, a definition over rows.

Functions of real numbers are rounded half away from 0, in all runtimes measured; those that only scale have each runtime's
own fixed point (`SCALED`), as has HARD_SWISH (hard_swish.py).
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from sim.definitions import SOFTMAXES
from sim.formats import IntFormat
from sim.functions import FUNCTIONS
from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import RELU, RELU6, RELU_N1_TO_1, Graph
from sim.importers.tflite.operators.hard_swish import hard_swish_code
from sim.ops.defined import DefinedOp
from sim.requantizers import requantizer_named

SOFTMAX_SCALES = {8: (1 / 256, -128), 16: (1 / 32768, 0)}
"""What a step of softmax stands for and the code of 0, by bits: the schema fixes both."""


def softmax(graph: Graph, node: Operator) -> None:
    """SOFTMAX over the last axis."""
    given, result = graph.tensor(node, 0), graph.result(node)
    source, form = graph.form(given), graph.form(result)
    scale, zero = SOFTMAX_SCALES[form.bits]
    if "softmax" not in dict(graph.profile.rules) and graph.is_last(result):
        graph.names[result.number] = graph.codes(node, 0)
        graph.notes.append(
            f"{node} is left out: {graph.profile.name} says nothing of softmax; what it reads has the same order"
        )
        return
    if (float(graph.scale(result)), graph.zero(result)) != (scale, zero):
        raise ImporterError(
            f"{node}: codes stand for {float(graph.scale(result)):g} and {graph.zero(result)} for 0, those of softmax "
            f"for {scale:g} and {zero}"
        )
    kind = SOFTMAXES["tflite_int16" if source.bits == 16 else graph.rule("softmax").softmax]
    definition = kind.build(float(np.float32(node.options.get("Beta", 1.0))) * float(graph.scale(given)), source, form)
    name = graph.build.name(graph.name(node))
    graph.put(
        node,
        graph.build.add(DefinedOp(name, graph.codes(node, 0), graph.image(given), form, definition, zero_point=zero), scale),
    )


def function_of(name: str) -> Callable[[Graph, Operator], None]:
    """An operator that is one of sim/functions.py."""

    def convert(graph: Graph, node: Operator) -> None:
        _looked_up(graph, node, FUNCTIONS[name])

    convert.__doc__ = f"{name} of the real number."
    return convert


def gelu(graph: Graph, node: Operator) -> None:
    """GELU, or its tanh form."""
    _looked_up(graph, node, FUNCTIONS["gelu" if graph.option(node, "Approximate") else "gelu_erf"])


def elu(graph: Graph, node: Operator) -> None:
    """ELU: e^x - 1 below 0."""
    _looked_up(graph, node, lambda x: np.where(x < 0.0, FUNCTIONS["exp"](x) - 1.0, x))


def hard_swish(graph: Graph, node: Operator) -> None:
    """HARD_SWISH in fixed point."""
    given, result = graph.tensor(node, 0), graph.result(node)
    _tabulate(
        graph,
        node,
        lambda code: hard_swish_code(code, graph.scale(given), graph.zero(given), graph.scale(result), graph.zero(result)),
    )


def relu(activation: int) -> Callable[[Graph, Operator], None]:
    """An operator that rescales codes and clamps them as a fused activation does; `double` in every runtime."""

    def convert(graph: Graph, node: Operator) -> None:
        given, result = graph.tensor(node, 0), graph.result(node)
        is_same = (given.type, graph.scale(given), graph.zero(given)) == (
            result.type,
            graph.scale(result),
            graph.zero(result),
        )
        if node.code == "RELU6" and graph.profile.name.startswith("tflite_micro") and not is_same:
            raise ImporterError(f"{node}: rescales, which tflite-micro does not do in RELU6")
        limits, scaled = graph.limits(node, result, activation), _multiplied("double", _real(graph, node))
        _tabulate(graph, node, lambda code: scaled(code - graph.zero(given)) + graph.zero(result), limits)

    return convert


def leaky_relu(graph: Graph, node: Operator) -> None:
    """LEAKY_RELU: a multiplier for each side of 0."""
    given, result = graph.tensor(node, 0), graph.result(node)
    alpha, name = np.float32(node.options.get("Alpha", 0.0)), _scaling(graph, node)
    if name == "xnnpack":
        ratio = graph.scale(given) / graph.scale(result)
        above, below = _multiplied(name, float(ratio)), _multiplied(name, float(ratio * alpha))
    else:
        above = _multiplied(name, _real(graph, node))
        below = _multiplied(name, float(graph.scale(given)) * float(alpha) / float(graph.scale(result)))
    _tabulate(
        graph,
        node,
        lambda code: graph.zero(result) + (above if code >= graph.zero(given) else below)(code - graph.zero(given)),
    )


def absolute(graph: Graph, node: Operator) -> None:
    """ABS."""
    scaled = _multiplied("double", _real(graph, node))
    given, result = graph.tensor(node, 0), graph.result(node)
    _tabulate(graph, node, lambda code: graph.zero(result) + scaled(abs(code - graph.zero(given))))


def requantized(graph: Graph, node: Operator) -> None:
    """QUANTIZE of codes: the same values in another format or scale."""
    given, result = graph.tensor(node, 0), graph.result(node)
    scaled = _multiplied(_scaling(graph, node), _real(graph, node))
    _tabulate(graph, node, lambda code: graph.zero(result) + scaled(code - graph.zero(given)), is_wide=True)


def _real(graph: Graph, node: Operator) -> float:
    return float(graph.scale(graph.tensor(node, 0))) / float(graph.scale(graph.result(node)))


def _scaling(graph: Graph, node: Operator) -> str:
    """The profile's rule for codes that are only scaled; of 16-bit codes that of the reference kernels."""
    name = graph.rule("requantize").requant
    is_narrow = all(graph.form(tensor).bits == 8 for tensor in (graph.tensor(node, 0), graph.result(node)))
    return name if name.startswith("tosa") or (name == "xnnpack" and is_narrow) else "double"


def _multiplied(name: str, real: float) -> Callable[[int], int]:
    """x -> x times a real number in the fixed point of a rule.

    `xnnpack` here is not its convolutions' rule but that of its conversions: a multiplier of 8 fractional bits, half up.
    """
    if name == "xnnpack":
        multiplier = round(Fraction(real) * 256)
        return lambda x: (x * multiplier + 128) >> 8
    rule: Any = requantizer_named(name).from_real(np.array([real]), np.zeros(1, np.int64))  # type: ignore[attr-defined]
    return lambda x: int(rule.scaled(x, lambda key: int(getattr(rule, key)[0])))


def _looked_up(graph: Graph, node: Operator, function: Callable[[np.ndarray], np.ndarray]) -> None:
    given, result = graph.tensor(node, 0), graph.result(node)
    source, form = graph.form(given), graph.form(result)
    _require_bytes(node, source)
    reals = (np.arange(source.min, source.max + 1, dtype=np.float64) - graph.zero(given)) * float(graph.scale(given))
    steps = function(reals) / float(graph.scale(result))
    codes = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + graph.zero(result)
    _put_table(graph, node, codes.clip(form.min, form.max))


def _tabulate(
    graph: Graph, node: Operator, code_of: Callable[[int], int], limits: tuple[int, ...] = (), is_wide: bool = False
) -> None:
    """Codes one by one, within limits or else the format; of more than 8 bits if `is_wide`."""
    source, form = graph.form(graph.tensor(node, 0)), graph.form(graph.result(node))
    if not is_wide:
        _require_bytes(node, source)
    low, high = limits or (form.min, form.max)
    _put_table(graph, node, np.array([min(max(code_of(code), low), high) for code in range(source.min, source.max + 1)]))


def _put_table(graph: Graph, node: Operator, codes: np.ndarray) -> None:
    """The node's output: a code for each of its input's."""
    result = graph.result(node)
    graph.put(
        node,
        graph.table(
            graph.name(node),
            graph.codes(node, 0),
            codes,
            graph.form(result),
            float(graph.scale(result)),
            graph.zero(result),
        ),
    )


def _require_bytes(node: Operator, source: IntFormat) -> None:
    if source.bits > 8:
        raise ImporterError(f"{node}: supported are codes of 8 bits, not {source}")


OPERATORS: Mapping[str, Callable[[Graph, Operator], None]] = {
    "SOFTMAX": softmax,
    "LOGISTIC": function_of("sigmoid"),
    "TANH": function_of("tanh"),
    "EXP": function_of("exp"),
    "GELU": gelu,
    "ELU": elu,
    "HARD_SWISH": hard_swish,
    "RELU": relu(RELU),
    "RELU6": relu(RELU6),
    "RELU_N1_TO_1": relu(RELU_N1_TO_1),
    "LEAKY_RELU": leaky_relu,
    "ABS": absolute,
}
