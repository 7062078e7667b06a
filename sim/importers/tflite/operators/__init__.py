"""Operators of TensorFlow Lite by name: each a function that adds the operations of one node to a graph."""

from collections.abc import Callable, Mapping

from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import Graph
from sim.importers.tflite.operators import (
    arithmetic,
    edges,
    matmul,
    parts,
    products,
    reductions,
    scaled,
    shapes,
    tables,
    windows,
)

Convert = Callable[[Graph, Operator], None]

OPERATORS: Mapping[str, Convert] = {
    **products.OPERATORS,
    **matmul.OPERATORS,
    **arithmetic.OPERATORS,
    **windows.OPERATORS,
    **reductions.OPERATORS,
    **shapes.OPERATORS,
    **parts.OPERATORS,
    **tables.OPERATORS,
    **scaled.OPERATORS,
    **edges.OPERATORS,
}
