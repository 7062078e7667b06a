"""Operators of one code: a table over all codes, filled when the file is read.  And softmax, a definition over rows.

Functions of real numbers are rounded half away from 0, in all runtimes measured; HARD_SWISH has a fixed point of its own
(hard_swish.py), as have those that only scale (scaled.py).
"""

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
    tabulate(
        graph,
        node,
        lambda code: hard_swish_code(code, graph.scale(given), graph.zero(given), graph.scale(result), graph.zero(result)),
    )


def _looked_up(graph: Graph, node: Operator, function: Callable[[np.ndarray], np.ndarray]) -> None:
    given, result = graph.tensor(node, 0), graph.result(node)
    source, form = graph.form(given), graph.form(result)
    require_bytes(node, source)
    reals = (np.arange(source.min, source.max + 1, dtype=np.float64) - graph.zero(given)) * float(graph.scale(given))
    steps = function(reals) / float(graph.scale(result))
    codes = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + graph.zero(result)
    put_table(graph, node, codes.clip(form.min, form.max))


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


OPERATORS: Mapping[str, Callable[[Graph, Operator], None]] = {
    "SOFTMAX": softmax,
    "LOGISTIC": function_of("sigmoid"),
    "TANH": function_of("tanh"),
    "EXP": function_of("exp"),
    "GELU": gelu,
    "ELU": elu,
    "HARD_SWISH": hard_swish,
}
