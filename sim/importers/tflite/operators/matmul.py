"""The product of two activations."""

import math

import numpy as np

from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator, Tensor
from sim.importers.tflite.graph import Graph, sides_of
from sim.importers.tflite.operators.products import register_of
from sim.ops.matmul import MatMulOp
from sim.requantizers import requantizer_named


def batch_matmul(graph: Graph, node: Operator) -> None:
    """BATCH_MATMUL of two activations, each of them transposed or not."""
    left, right, result = graph.tensor(node, 0), graph.tensor(node, 1), graph.result(node)
    sides = [_heads(node, tensor) for tensor in (left, right)]
    a, b = (
        graph.reshaped(f"{graph.name(node)}_{side}", graph.codes(node, index), sides[index])
        for index, side in enumerate(("a", "b"))
    )
    if graph.option(node, "AdjX"):
        a = graph.build.move(f"{graph.name(node)}_at", a, sides[0], (0, 2, 1), (sides[0][0], sides[0][2], sides[0][1]))
    is_transposed = bool(graph.option(node, "AdjY"))
    depth = graph.build.shape(a)[2]
    columns = graph.build.shape(b)[1 if is_transposed else 2]
    form, scale = graph.form(result), graph.scale(result)
    rule = graph.rule("matmul")
    name = rule.requant_64 or rule.requant if form.bits > 8 else rule.requant
    requant = requantizer_named(name).from_scales(  # type: ignore[attr-defined]
        graph.scale(left), np.full(columns, graph.scale(right), np.float32), scale, np.zeros(columns, np.int64)
    )
    shape = (*graph.build.shape(a)[:2], columns)
    made = graph.build.add(
        MatMulOp(
            graph.build.name(graph.name(node)),
            a,
            shape,
            form,
            b,
            graph.form(left),
            graph.form(right),
            depth,
            is_transposed,
            register_of(graph, node, "matmul"),
            requant,
            graph.zero(left),
            graph.zero(right),
            zero_point=graph.zero(result),
        ),
        float(scale),
    )
    graph.put(node, graph.reshaped(f"{made}_shape", made, graph.image(result)))


def _heads(node: Operator, tensor: Tensor) -> tuple[int, int, int]:
    """[..., rows, columns] as (all others, rows, columns)."""
    sides = sides_of(tensor)
    if len(sides) < 2:
        raise ImporterError(f"{node}: {list(tensor.shape)} is no matrix")
    return math.prod(sides[:-2]), sides[-2], sides[-1]


OPERATORS = {"BATCH_MATMUL": batch_matmul}
