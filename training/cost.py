"""Multiply-adds of networks and of their training."""

import math

from sim.network import Graph, MatMul, expected_arrays

BACKWARD = 3
"""Multiply-adds of a training step for one of its forward pass: gradients of activations and of weights are as many each."""
LOOKED_UP = ("embedding", "positions", "layernorm")
"""Kinds of rows whose weights are results, or multiply each value once."""


def forward(graph: Graph) -> int:
    """Multiply-adds of one image or text: every weight of a layer once for every place of its output, and every pair of
    activations that are multiplied.  Rows that are looked up cost none.
    """
    shapes, rows, total = graph.shapes(), {row.name: row for row in graph.rows}, 0
    for name, shape in expected_arrays(graph).items():
        row, _, kind = name.partition(".")
        if kind == "weight" and rows[row].kind not in LOOKED_UP:
            height, width, _ = shapes[row]
            total += math.prod((height, width, *shape))
    return total + sum(math.prod(shapes[row.name]) * shapes[row.source][2] for row in graph.rows if isinstance(row, MatMul))
