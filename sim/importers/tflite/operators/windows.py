"""Pools: windows of one activation."""

from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import Graph
from sim.importers.tflite.operators.products import window_of
from sim.ops.average import AverageOp
from sim.ops.maxpool import MaxPoolOp

FUSED = "FusedActivationFunction"


def average_pool_2d(graph: Graph, node: Operator) -> None:
    """AVERAGE_POOL_2D.  TensorFlow Lite rounds the average of codes as they are, zero point included."""
    source, result, rule = graph.codes(node, 0), graph.result(node), graph.rule("average")
    graph.image_read(node)
    graph.same(node, graph.tensor(node, 0), result)
    window = window_of(graph, node, _taps(graph, node))
    name, zero = graph.name(node), graph.zero(result)
    is_raw = rule.zero_point != "products"
    source = graph.relabeled(f"{name}_codes", source, 0) if is_raw else source
    limits = graph.limits(node, result, graph.option(node, FUSED))
    averaged = graph.build.add(
        AverageOp(
            graph.build.name(name),
            source,
            graph.image(result),
            graph.form(result),
            window.taps,
            window.strides,
            window.paddings,  # type: ignore[arg-type]
            rule.divisor,
            rule.rounding,
            graph.build.zero(source),
            zero_point=0 if is_raw else zero,
            limits=limits,
        ),
        float(graph.scale(result)),
    )
    graph.put(node, graph.relabeled(f"{name}_zero", averaged, zero))


def max_pool_2d(graph: Graph, node: Operator) -> None:
    """MAX_POOL_2D."""
    source, result = graph.codes(node, 0), graph.result(node)
    graph.image_read(node)
    graph.same(node, graph.tensor(node, 0), result)
    window = window_of(graph, node, _taps(graph, node))
    (rows, columns), (down, across) = window.taps, window.strides
    pooled = graph.build.add(
        MaxPoolOp(
            graph.build.name(graph.name(node)),
            source,
            graph.image(result),
            graph.form(result),
            rows,
            down,
            0,
            columns,
            stride_width=across,
            paddings=window.paddings,
            zero_point=graph.zero(result),
        ),
        float(graph.scale(result)),
    )
    limits = graph.limits(node, result, graph.option(node, FUSED))
    graph.put(node, graph.clamped(f"{pooled}_clamped", pooled, limits))


def _taps(graph: Graph, node: Operator) -> tuple[int, int]:
    return graph.option(node, "FilterHeight", 1), graph.option(node, "FilterWidth", 1)


OPERATORS = {"AVERAGE_POOL_2D": average_pool_2d, "MAX_POOL_2D": max_pool_2d}
