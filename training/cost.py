"""Multiply-adds of networks and of their training."""

import math

from sim.network import Graph, expected_arrays

BACKWARD = 3
"""Multiply-adds of a training step for one of its forward pass: gradients of activations and of weights are as many each."""


def forward(graph: Graph) -> int:
    """Multiply-adds of one image: every weight of a layer once for every place of its output."""
    shapes, total = graph.shapes(), 0
    for name, shape in expected_arrays(graph).items():
        row, _, kind = name.partition(".")
        if kind == "weight":
            height, width, _ = shapes[row]
            total += math.prod((height, width, *shape))
    return total
