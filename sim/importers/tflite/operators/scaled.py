"""Operators that only scale codes: each runtime's own fixed point, one kernel of a runtime not always as another.

    double      R1: a multiplier of 31 bits; RELU, RELU6 and ABS in all runtimes, of a quotient of scales that is float32 in
                LiteRT, float64 in tflite-micro
    ruy_blocks  QUANTIZE of 8-bit codes in LiteRT's optimized kernel: R3 in whole blocks of 16 elements of the tensor, R1 in
                the rest
    xnnpack     (x rint(256 r) + 128) >> 8 for r = f32(s_x / s_y); the delegate leaves an r beyond 2^-8 .. 2^7 to the kernels
                above
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import RELU, RELU6, RELU_N1_TO_1, Graph
from sim.importers.tflite.operators.tables import codes_of, put_table, tabulate
from sim.ops.concat import ConcatOp
from sim.ops.slice import SliceOp
from sim.requantizers import requantizer_named

Scaled = Callable[[int], int]
"""A code less its zero point to one of another scale less its."""

BLOCK = 16
"""Elements that the vector loop of LiteRT's QUANTIZE takes at once."""
LEAST_RATIO, MOST_RATIO = 2.0**-8, 2.0**7
"""Ratios of scales that XNNPACK takes."""
LEAST_BELOW = -127.99609375
"""The same of a negative ratio below 0, of LEAKY_RELU."""


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
        tabulate(graph, node, lambda code: scaled(code - graph.zero(given)) + graph.zero(result), limits)

    return convert


def leaky_relu(graph: Graph, node: Operator) -> None:
    """LEAKY_RELU: a multiplier for each side of 0."""
    given, result = graph.tensor(node, 0), graph.result(node)
    alpha, ratio, name = np.float32(node.options.get("Alpha", 0.0)), _ratio(graph, node), _elementwise(graph, node)
    scale = (np.float32 if _is_single(graph) else np.float64)(graph.scale(given))
    if name == "xnnpack" and _is_delegated(ratio) and _is_delegated(ratio * alpha):
        above, below = _by_bytes(ratio), _by_bytes(ratio * alpha)
    else:
        name = "double" if name == "xnnpack" else name
        above = _multiplied(name, _real(graph, node))
        below = _multiplied(name, float(scale * alpha / graph.scale(result)))
    tabulate(
        graph,
        node,
        lambda code: graph.zero(result) + (above if code >= graph.zero(given) else below)(code - graph.zero(given)),
    )


def absolute(graph: Graph, node: Operator) -> None:
    """ABS."""
    scaled = _multiplied("double", _real(graph, node))
    given, result = graph.tensor(node, 0), graph.result(node)
    tabulate(graph, node, lambda code: graph.zero(result) + scaled(abs(code - graph.zero(given))))


def requantized(graph: Graph, node: Operator) -> None:
    """QUANTIZE of codes: the same values in another format or scale."""
    given, result = graph.tensor(node, 0), graph.result(node)
    real, ratio = float(graph.scale(given)) / float(graph.scale(result)), _ratio(graph, node)
    name, is_narrow = graph.rule("requantize").requant, _is_narrow(graph, node)
    if name == "xnnpack" and is_narrow and _is_delegated(ratio):
        put_table(graph, node, _requantized(graph, node, _by_bytes(ratio)))
    elif name in ("xnnpack", "ruy_blocks") and is_narrow:
        codes = (_requantized(graph, node, _multiplied(kind, real)) for kind in ("ruy", "double"))
        _put_blocks(graph, node, *codes)
    else:
        put_table(graph, node, _requantized(graph, node, _multiplied(_elementwise(graph, node), real)))


def _requantized(graph: Graph, node: Operator, scaled: Scaled) -> np.ndarray:
    given, result = graph.tensor(node, 0), graph.result(node)
    return codes_of(graph, node, lambda code: graph.zero(result) + scaled(code - graph.zero(given)))


def _put_blocks(graph: Graph, node: Operator, whole: np.ndarray, rest: np.ndarray) -> None:
    """The node's output: the codes `whole` of elements in whole blocks, `rest` of those behind them."""
    source, result, name = graph.codes(node, 0), graph.result(node), graph.name(node)
    count = int(np.prod(graph.build.shape(source)))
    border = count // BLOCK * BLOCK
    if border in (0, count) or (whole == rest).all():
        put_table(graph, node, whole if border else rest)
        return
    flat, form, shape = graph.reshaped(f"{name}_flat", source, (count,)), graph.form(result), graph.build.shape(source)
    parts = [
        graph.build.add(
            SliceOp(
                graph.build.name(f"{name}_{part}"),
                flat,
                (1, 1, stop - start),
                graph.build.format(flat),
                (0, 0, start),
                (1, 1, stop),
                (1, 1, 1),
                zero_point=graph.build.zero(flat),
            ),
            graph.build.scale(flat),
        )
        for part, start, stop in (("blocks", 0, border), ("rest", border, count))
    ]
    joined = graph.build.add(
        ConcatOp(
            graph.build.name(name),
            parts[0],
            (1, 1, count),
            form,
            (parts[1],),
            np.concatenate((whole, rest)).astype(form.dtype),
            (graph.build.format(flat).min,) * 2,
            (len(whole), len(rest)),
            zero_point=graph.zero(result),
        ),
        float(graph.scale(result)),
    )
    graph.put(node, graph.reshaped(f"{name}_shape", joined, shape))


def _real(graph: Graph, node: Operator) -> float:
    """What a code is multiplied by in all operators but QUANTIZE, whose quotient of scales is float64 everywhere."""
    if _is_single(graph):
        return float(_ratio(graph, node))
    return float(graph.scale(graph.tensor(node, 0))) / float(graph.scale(graph.result(node)))


def _is_single(graph: Graph) -> bool:
    """Whether the runtime computes with scales in float32, as it says of MUL."""
    rule = dict(graph.profile.rules).get("multiply")
    return rule is not None and rule.product == "float32"


def _ratio(graph: Graph, node: Operator) -> np.float32:
    return np.float32(graph.scale(graph.tensor(node, 0)) / graph.scale(graph.result(node)))


def _is_narrow(graph: Graph, node: Operator) -> bool:
    return all(graph.form(tensor).bits == 8 for tensor in (graph.tensor(node, 0), graph.result(node)))


def _is_delegated(ratio: np.float32) -> bool:
    """Whether XNNPACK multiplies by a ratio of scales."""
    return bool(abs(ratio) >= LEAST_RATIO and LEAST_BELOW <= ratio <= MOST_RATIO)


def _elementwise(graph: Graph, node: Operator) -> str:
    """The profile's rule where it knows no blocks, which is that of the reference kernels, as it is of 16-bit codes."""
    name = graph.rule("requantize").requant
    return name if name.startswith("tosa") or (name == "xnnpack" and _is_narrow(graph, node)) else "double"


def _multiplied(name: str, real: float) -> Scaled:
    """x -> x times a real number by a requantizer's rule."""
    rule: Any = requantizer_named(name).from_real(np.array([real]), np.zeros(1, np.int64))  # type: ignore[attr-defined]
    return lambda x: int(rule.scaled(x, lambda key: int(getattr(rule, key)[0])))


def _by_bytes(ratio: np.float32) -> Scaled:
    """The rule of XNNPACK's conversions, another than its convolutions': 8 fractional bits, half up."""
    multiplier = round(Fraction(float(ratio)) * 256)
    return lambda x: (x * multiplier + 128) >> 8


OPERATORS: Mapping[str, Callable[[Graph, Operator], None]] = {
    "RELU": relu(RELU),
    "RELU6": relu(RELU6),
    "RELU_N1_TO_1": relu(RELU_N1_TO_1),
    "LEAKY_RELU": leaky_relu,
    "ABS": absolute,
}
