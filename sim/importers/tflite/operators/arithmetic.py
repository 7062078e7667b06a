"""Operators of two activations, element by element; either may be of one row, column or channel for all of the other's."""

import numpy as np

from sim.formats import IntFormat, Shape
from sim.importers.builder import image_of
from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator, Tensor
from sim.importers.tflite.graph import Graph
from sim.ops.add import AddOp
from sim.ops.compare import MinMaxOp
from sim.ops.multiply import MultiplyOp
from sim.ops.rescale import RescaleOp
from sim.requantizers import Requantizer, requantizer_named
from sim.requantizers.exact_add import ExactAdd
from sim.requantizers.tflite_add import BYTES, WORDS, TfliteAdd
from sim.requantizers.tosa import TosaDouble, TosaSingle

FUSED = "FusedActivationFunction"
SUM = IntFormat(31, signed=True)
"""Of the sums of TOSA: no operand gets beyond half of 31 bits, and a residual may not have 32."""


def add(graph: Graph, node: Operator) -> None:
    """ADD."""
    _sum(graph, node, 1)


def sub(graph: Graph, node: Operator) -> None:
    """SUB: the first less the second."""
    _sum(graph, node, -1)


def _sum(graph: Graph, node: Operator, sign: int) -> None:
    left, right, result = graph.tensor(node, 0), graph.tensor(node, 1), graph.result(node)
    a, b = _operands(graph, node)
    if graph.rule("add").requant == "exact_add":
        graph.put(node, _rescaled_sum(graph, node, a, b, sign))
        return
    scales = graph.scale(left), graph.scale(right), graph.scale(result), graph.image(result)[2], sign
    if graph.form(result).bits > 8:
        requant: Requantizer = TfliteAdd.from_scales(*scales, left=WORDS)
    else:
        requant = requantizer_named(graph.rule("add").requant).from_scales(*scales)  # type: ignore[attr-defined]
    _joined(graph, node, AddOp, a, b, requant)


def _rescaled_sum(graph: Graph, node: Operator, a: str, b: str, sign: int) -> str:
    """TOSA has no addition of scaled codes: both operands go to 32 bits, the exact sum comes back.

    With the scales that TensorFlow's conversion to TOSA takes, those of `tflite_add`; not held against anybody's data here.
    """
    left, right, result = (
        float(graph.scale(tensor)) for tensor in (graph.tensor(node, 0), graph.tensor(node, 1), graph.result(node))
    )
    form, shape, name = graph.form(graph.result(node)), graph.image(graph.result(node)), graph.name(node)
    twice, fine = 2.0 * max(left, right), 2.0 ** (WORDS if form.bits > 8 else BYTES)
    wide = []
    for side, source, scale in (("a", a, left), ("b", b, right)):
        requant = TosaSingle.from_real(np.array([scale * fine / twice]), np.zeros(1, np.int64))
        wide.append(
            graph.build.add(
                RescaleOp(
                    graph.build.name(f"{name}_{side}32"),
                    source,
                    graph.build.shape(source),
                    SUM,
                    requant,
                    source_zero=graph.build.zero(source),
                ),
                twice / fine,
            )
        )
    total = graph.build.add(
        AddOp(graph.build.name(f"{name}_sum"), wide[0], shape, SUM, wide[1], ExactAdd.of(shape[2], sign)), twice / fine
    )
    requant = TosaDouble.from_real(np.array([twice / (fine * result)]), np.zeros(1, np.int64))
    return graph.build.add(
        RescaleOp(
            graph.build.name(name),
            total,
            shape,
            form,
            requant,
            zero_point=graph.zero(graph.result(node)),
            limits=graph.limits(node, graph.result(node), graph.option(node, FUSED)),
        ),
        result,
    )


def mul(graph: Graph, node: Operator) -> None:
    """MUL."""
    left, right, result = graph.tensor(node, 0), graph.tensor(node, 1), graph.result(node)
    a, b = _operands(graph, node)
    scale, channels = graph.scale(result), graph.image(result)[2]
    rule = graph.rule("multiply")
    kind = requantizer_named(rule.requant if graph.form(result).bits == 8 else "double")
    factors, bias = np.full(channels, graph.scale(right), np.float32), np.zeros(channels, np.int64)
    if rule.product == "float32":
        requant = kind.from_real(graph.scale(left) * factors / scale, bias)  # type: ignore[attr-defined]
    else:
        requant = kind.from_scales(graph.scale(left), factors, scale, bias)  # type: ignore[attr-defined]
    _joined(graph, node, MultiplyOp, a, b, requant)


def _joined(
    graph: Graph, node: Operator, kind: type[AddOp | MultiplyOp], a: str, b: str, requant: Requantizer
) -> None:
    """The operation whose requantizer makes the node's output of `a` and `b`."""
    result = graph.result(node)
    graph.put(
        node,
        graph.build.add(
            kind(
                graph.build.name(graph.name(node)),
                a,
                graph.image(result),
                graph.form(result),
                b,
                requant,
                graph.zero(graph.tensor(node, 0)),
                graph.zero(graph.tensor(node, 1)),
                zero_point=graph.zero(result),
                limits=graph.limits(node, result, graph.option(node, FUSED)),
            ),
            float(graph.scale(result)),
        ),
    )


def maximum(graph: Graph, node: Operator) -> None:
    """MAXIMUM."""
    _compared(graph, node, "maximum")


def minimum(graph: Graph, node: Operator) -> None:
    """MINIMUM."""
    _compared(graph, node, "minimum")


def _compared(graph: Graph, node: Operator, rule: str) -> None:
    left, right, result = graph.tensor(node, 0), graph.tensor(node, 1), graph.result(node)
    graph.same(node, left, right, result)
    a, b = _operands(graph, node)
    graph.put(
        node,
        graph.build.add(
            MinMaxOp(
                graph.build.name(graph.name(node)),
                a,
                graph.image(result),
                graph.form(result),
                b,
                rule,
                zero_point=graph.zero(result),
            ),
            float(graph.scale(result)),
        ),
    )


def _operands(graph: Graph, node: Operator) -> tuple[str, str]:
    """Both as images whose axes are those of the output, of one format where the kernels want that."""
    left, right, result = graph.tensor(node, 0), graph.tensor(node, 1), graph.result(node)
    if not left.type == right.type == result.type:
        raise ImporterError(f"{node}: reads {left.type} and {right.type} and gives {result.type}, they must be of one type")
    a, b = (
        graph.reshaped(
            f"{graph.name(node)}_{side}", graph.codes(node, index), _aligned(node, graph.tensor(node, index), result)
        )
        for index, side in enumerate(("a", "b"))
    )
    return a, b


def _aligned(node: Operator, tensor: Tensor, result: Tensor) -> Shape:
    """The shape of an operand with axes of 1 before its own, as an image in the way of the output."""
    missing = len(result.shape) - len(tensor.shape)
    sides = (1,) * missing + tensor.shape
    is_batch = len(result.shape) > 1 and result.shape[0] == 1
    if missing < 0 or any(side not in (1, whole) for side, whole in zip(sides, result.shape, strict=True)):
        raise ImporterError(f"{node}: {list(tensor.shape)} does not spread over {list(result.shape)}")
    sides, whole = (sides[1:], result.shape[1:]) if is_batch else (sides, result.shape)
    if len(sides) > 3 and sides[:-2] != whole[:-2] and set(sides[:-2]) != {1}:
        raise ImporterError(
            f"{node}: {list(tensor.shape)} spreads over some of the first axes of {list(result.shape)} alone, which is "
            "not supported"
        )
    return image_of(sides)


OPERATORS = {"ADD": add, "SUB": sub, "MUL": mul, "MAXIMUM": maximum, "MINIMUM": minimum}
