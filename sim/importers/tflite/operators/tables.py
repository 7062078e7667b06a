"""Operators of one code: a table over all codes, filled when the file is read.  And softmax, a definition over rows.

Functions of real numbers are computed in float32 and rounded half away from 0 in all runtimes measured, but ELU in XNNPACK.
HARD_SWISH has a fixed point of its own (hard_swish.py), as have those that only scale (scaled.py).
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from sim.definitions import SOFTMAXES
from sim.formats import IntFormat
from sim.functions import FUNCTIONS
from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import Graph
from sim.importers.tflite.operators.hard_swish import hard_swish_code
from sim.ops.defined import DefinedOp

Convert = Callable[[Graph, Operator], None]
Real = Callable[[np.ndarray], np.ndarray]

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


def function_of(name: str) -> Convert:
    """An operator that is one of sim/functions.py."""

    def convert(graph: Graph, node: Operator) -> None:
        _looked_up(graph, node, lambda x: _single(FUNCTIONS[name], x))

    convert.__doc__ = f"{name} of the real number."
    return convert


def squashing(name: str) -> Convert:
    """LOGISTIC or TANH: in tflite-micro the ends of the format from +-15 / 2^e on, in whole codes, where s_x = m 2^e."""
    plain = function_of(name)

    def convert(graph: Graph, node: Operator) -> None:
        if not graph.profile.name.startswith("tflite_micro"):
            plain(graph, node)
            return
        given, form = graph.tensor(node, 0), graph.form(graph.result(node))
        require_bytes(node, graph.form(given))
        codes = _codes_of_function(graph, node, lambda x: _single(FUNCTIONS[name], x))
        radius = math.floor(math.ldexp(15.0, -math.frexp(float(graph.scale(given)))[1]))
        centered = np.arange(len(codes)) + graph.form(given).min - graph.zero(given)
        put_table(graph, node, np.select([centered <= -radius, centered >= radius], [form.min, form.max], codes))

    convert.__doc__ = f"{name} of the real number."
    return convert


def gelu(graph: Graph, node: Operator) -> None:
    """GELU, or its tanh form, term by term in float32."""
    _looked_up(graph, node, _gelu_tanh if graph.option(node, "Approximate") else _gelu_erf)


def _gelu_erf(x: np.ndarray) -> np.ndarray:
    half, root = np.float32(0.5), np.float32(math.sqrt(0.5))
    return half * x * _single(lambda wide: 1.0 - FUNCTIONS["erf"](wide), x * -root)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    half, one, root, cubic = (np.float32(number) for number in (0.5, 1.0, math.sqrt(2.0 / math.pi), 0.044715))
    return half * x * (one + _single(FUNCTIONS["tanh"], root * x * (one + cubic * x * x)))


def elu(graph: Graph, node: Operator) -> None:
    """ELU: e^x - 1 below 0; XNNPACK rounds half to even behind the zero point."""
    _looked_up(graph, node, _elu, is_even=graph.rule("requantize").requant == "xnnpack")


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0.0, _single(FUNCTIONS["exp"], x) - np.float32(1.0), x)


def _single(function: Real, x: np.ndarray) -> np.ndarray:
    """A function of float32 numbers, rounded to one: as good libraries have it, but where their last bit is wrong."""
    result: np.ndarray = function(x.astype(np.float64)).astype(np.float32)
    return result


def hard_swish(graph: Graph, node: Operator) -> None:
    """HARD_SWISH in fixed point."""
    given, result = graph.tensor(node, 0), graph.result(node)
    tabulate(
        graph,
        node,
        lambda code: hard_swish_code(code, graph.scale(given), graph.zero(given), graph.scale(result), graph.zero(result)),
    )


def _looked_up(graph: Graph, node: Operator, function: Real, is_even: bool = False) -> None:
    require_bytes(node, graph.form(graph.tensor(node, 0)))
    put_table(graph, node, _codes_of_function(graph, node, function, is_even))


def _codes_of_function(graph: Graph, node: Operator, function: Real, is_even: bool = False) -> np.ndarray:
    """A code for each of the input's: in float32, and times the output's inverted scale, as the runtimes fill their tables.

    Rounded half away from 0, or, `is_even`, half to even with the zero point, which float32 rounds to first.
    """
    given, result = graph.tensor(node, 0), graph.result(node)
    source, form, zero = graph.form(given), graph.form(result), graph.zero(result)
    codes = np.arange(source.min, source.max + 1, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is clamped
        values = function((codes - np.float32(graph.zero(given))) * graph.scale(given))
        steps = (values * (np.float32(1.0) / graph.scale(result))).astype(np.float64)
    if np.isnan(steps).any():
        scales = f"{graph.scale(given):g} and {graph.scale(result):g}"
        raise ImporterError(f"{node}: float32 does not hold its results at scales of {scales}")
    even = np.rint((steps + zero).astype(np.float32))
    rounded = even if is_even else np.copysign(np.floor(np.abs(steps) + 0.5), steps) + zero
    clamped: np.ndarray = rounded.clip(form.min, form.max)
    return clamped


def tabulate(graph: Graph, node: Operator, code_of: Callable[[int], int], limits: tuple[int, ...] = ()) -> None:
    """The node's output, an 8-bit code by an 8-bit code, within limits or else the format."""
    require_bytes(node, graph.form(graph.tensor(node, 0)))
    put_table(graph, node, codes_of(graph, node, code_of, limits))


def codes_of(graph: Graph, node: Operator, code_of: Callable[[int], int], limits: tuple[int, ...] = ()) -> np.ndarray:
    """A code for each of the input's, within limits or else the format."""
    source, form = graph.form(graph.tensor(node, 0)), graph.form(graph.result(node))
    low, high = limits or (form.min, form.max)
    return np.array([min(max(code_of(code), low), high) for code in range(source.min, source.max + 1)])


def put_table(graph: Graph, node: Operator, codes: np.ndarray) -> None:
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


def require_bytes(node: Operator, source: IntFormat) -> None:
    """Raise ImporterError for codes of more than 8 bits."""
    if source.bits > 8:
        raise ImporterError(f"{node}: supported are codes of 8 bits, not {source}")


OPERATORS: Mapping[str, Convert] = {
    "SOFTMAX": softmax,
    "LOGISTIC": squashing("sigmoid"),
    "TANH": squashing("tanh"),
    "EXP": function_of("exp"),
    "GELU": gelu,
    "ELU": elu,
    "HARD_SWISH": hard_swish,
}
