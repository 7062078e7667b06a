"""Operators that copy codes: to another shape, another order, or into a border."""

import math

from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import Graph, sides_of
from sim.ops.pad import PadOp


def reshape(graph: Graph, node: Operator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the file says the shape, numbers stay in their order."""
    given, result = graph.tensor(node, 0), graph.result(node)
    graph.same(node, given, result)
    if math.prod(given.shape) != math.prod(result.shape):
        raise ImporterError(f"{node}: {list(given.shape)} as {list(result.shape)} is not as many numbers")
    graph.put(node, graph.reshaped(graph.name(node), graph.codes(node, 0), sides_of(result)))


def transpose(graph: Graph, node: Operator) -> None:
    """TRANSPOSE."""
    given, result = graph.tensor(node, 0), graph.result(node)
    graph.same(node, given, result)
    order = [int(axis) for axis in graph.constant(node, 1).reshape(-1)]
    if sorted(order) != list(range(len(given.shape))) or tuple(given.shape[axis] for axis in order) != result.shape:
        raise ImporterError(f"{node}: the axes {order} of {list(given.shape)} do not make {list(result.shape)}")
    graph.put(node, graph.build.move(graph.name(node), graph.codes(node, 0), given.shape, tuple(order), sides_of(result)))


def pad(graph: Graph, node: Operator) -> None:
    """PAD of rows and columns, and PADV2 with the code that stands for 0."""
    given, result = graph.tensor(node, 0), graph.result(node)
    graph.same(node, given, result)
    amounts = graph.constant(node, 1)
    if amounts.shape != (len(given.shape), 2) or (amounts < 0).any():
        raise ImporterError(f"{node}: paddings {amounts.tolist()} for {list(given.shape)}")
    if graph.has(node, 2) and (graph.constant(node, 2, ("INT8", "INT16")).reshape(-1) != graph.zero(given)).any():
        raise ImporterError(f"{node}: pads with another code than that of 0, which is not supported")
    sides = [[int(number) for number in pair] for pair in amounts]
    if len(given.shape) == 4:
        batch, rows, columns, channels = sides
    elif len(given.shape) == 3:
        batch, rows, channels = sides
        columns = [0, 0]
    else:
        raise ImporterError(f"{node}: pads {list(given.shape)}, supported are 3 or 4 axes")
    if given.shape[0] != 1 or batch != [0, 0] or channels != [0, 0]:
        raise ImporterError(f"{node}: paddings {sides} of {list(given.shape)}, supported are those of rows and columns")
    source = graph.codes(node, 0)
    if rows == columns == [0, 0]:
        graph.put(node, source)
        return
    graph.put(
        node,
        graph.build.add(
            PadOp(
                graph.build.name(graph.name(node)),
                source,
                graph.image(result),
                graph.form(result),
                (*rows, *columns),  # type: ignore[arg-type]
                zero_point=graph.zero(result),
            ),
            float(graph.scale(result)),
        ),
    )


def depth_to_space(graph: Graph, node: Operator) -> None:
    """DEPTH_TO_SPACE: channels become blocks of pixels."""
    height, width, channels = graph.image_read(node)
    size = graph.option(node, "BlockSize", 1)
    if size < 1 or channels % size**2:
        raise ImporterError(f"{node}: {channels} channels are no blocks of {size} x {size}")
    _moved(graph, node, (height, width, size, size, channels // size**2), (0, 2, 1, 3, 4))


def space_to_depth(graph: Graph, node: Operator) -> None:
    """SPACE_TO_DEPTH: the inverse."""
    height, width, channels = graph.image_read(node)
    size = graph.option(node, "BlockSize", 1)
    if size < 1 or height % size or width % size:
        raise ImporterError(f"{node}: {height}x{width} is no image of blocks of {size} x {size}")
    _moved(graph, node, (height // size, size, width // size, size, channels), (0, 2, 1, 3, 4))


def _moved(graph: Graph, node: Operator, split: tuple[int, ...], order: tuple[int, ...]) -> None:
    graph.same(node, graph.tensor(node, 0), graph.result(node))
    graph.put(node, graph.build.move(graph.name(node), graph.codes(node, 0), split, order, sides_of(graph.result(node))))


OPERATORS = {
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "TRANSPOSE": transpose,
    "PAD": pad,
    "PADV2": pad,
    "DEPTH_TO_SPACE": depth_to_space,
    "SPACE_TO_DEPTH": space_to_depth,
}
