"""Operators that put tensors side by side, or take them apart."""

import math

import numpy as np

from sim.importers.builder import image_of
from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import Graph, from_front, sides_of
from sim.ops.concat import ConcatOp
from sim.ops.slice import SliceOp


def concatenation(graph: Graph, node: Operator) -> None:
    """CONCATENATION of inputs that share type, scale and zero point, along any axis."""
    if graph.option(node, "FusedActivationFunction"):
        raise ImporterError(f"{node}: a fused activation is not supported")
    shapes = [graph.tensor(node, index).shape for index in range(len(node.inputs))]
    _joined(graph, node, shapes, from_front(graph.option(node, "Axis"), len(graph.result(node).shape)))


def pack(graph: Graph, node: Operator) -> None:
    """PACK: inputs of one shape along a new axis."""
    axis = from_front(graph.option(node, "Axis"), len(graph.result(node).shape))
    shapes = [graph.tensor(node, index).shape for index in range(len(node.inputs))]
    _joined(graph, node, [(*shape[:axis], 1, *shape[axis:]) for shape in shapes], axis)


def _joined(graph: Graph, node: Operator, shapes: list[tuple[int, ...]], axis: int) -> None:
    """Side by side along `axis`: as channels of as many rows as there are places before that axis, then as the file says."""
    result = graph.result(node)
    graph.same(node, result, *(graph.tensor(node, index) for index in range(len(shapes))))
    if not 0 <= axis < len(result.shape) or any(
        (*shape[:axis], *shape[axis + 1 :]) != (*result.shape[:axis], *result.shape[axis + 1 :]) for shape in shapes
    ):
        raise ImporterError(
            f"{node}: {[list(shape) for shape in shapes]} along axis {axis} do not make {list(result.shape)}"
        )
    before, form = result.shape[:axis], graph.form(result)
    parts = [
        graph.reshaped(f"{graph.name(node)}_{index}", graph.codes(node, index), (*before, math.prod(shape[axis:])))
        for index, shape in enumerate(shapes)
    ]
    if len(parts) == 1:
        graph.put(node, graph.reshaped(graph.name(node), parts[0], sides_of(result)))
        return
    length, channels = form.max - form.min + 1, math.prod(result.shape[axis:])
    table = np.tile(np.arange(form.min, form.max + 1).astype(form.dtype), len(parts))
    joined = graph.build.add(
        ConcatOp(
            graph.build.name(graph.name(node)),
            parts[0],
            image_of((*before, channels)),
            form,
            tuple(parts[1:]),
            table,
            (form.min,) * len(parts),
            (length,) * len(parts),
            zero_point=graph.zero(result),
        ),
        float(graph.scale(result)),
    )
    graph.put(node, graph.reshaped(f"{joined}_shape", joined, sides_of(result)))


def strided_slice(graph: Graph, node: Operator) -> None:
    """STRIDED_SLICE with constant bounds and positive steps."""
    if graph.option(node, "EllipsisMask") or graph.option(node, "NewAxisMask") or graph.option(node, "Offset"):
        raise ImporterError(f"{node}: masks of an ellipsis or of new axes and offsets are not supported")
    begins, ends, steps = ([int(number) for number in graph.constant(node, index).reshape(-1)] for index in (1, 2, 3))
    shape = graph.tensor(node, 0).shape
    if not len(begins) == len(ends) == len(steps) <= len(shape) or min(steps) < 1:
        raise ImporterError(f"{node}: bounds {begins}, {ends} and steps {steps} of {list(shape)}; steps are 1 or more")
    shrunk = graph.option(node, "ShrinkAxisMask")
    parts = []
    for axis, side in enumerate(shape):
        if axis >= len(begins):
            parts.append((0, side, 1))
            continue
        begin = 0 if graph.option(node, "BeginMask") >> axis & 1 else _inside(begins[axis], side)
        end = side if graph.option(node, "EndMask") >> axis & 1 else _inside(ends[axis], side)
        parts.append((begin, begin + 1, 1) if shrunk >> axis & 1 else (begin, end, steps[axis]))
    _sliced(graph, node, 0, parts)


def slice_(graph: Graph, node: Operator) -> None:
    """SLICE."""
    begins, sizes = ([int(number) for number in graph.constant(node, index).reshape(-1)] for index in (1, 2))
    shape = graph.tensor(node, 0).shape
    if not len(begins) == len(sizes) == len(shape):
        raise ImporterError(f"{node}: begins {begins} and sizes {sizes} of {list(shape)}")
    _sliced(
        graph,
        node,
        0,
        [(begin, side if size < 0 else begin + size, 1) for begin, size, side in zip(begins, sizes, shape, strict=True)],
    )


def split(graph: Graph, node: Operator) -> None:
    """SPLIT into equal parts; its first input is the axis."""
    _divided(graph, node, 1, int(graph.constant(node, 0).reshape(-1)[0]), None)


def split_v(graph: Graph, node: Operator) -> None:
    """SPLIT_V into parts of given sizes."""
    sizes = [int(number) for number in graph.constant(node, 1).reshape(-1)]
    _divided(graph, node, 0, int(graph.constant(node, 2).reshape(-1)[0]), sizes)


def unpack(graph: Graph, node: Operator) -> None:
    """UNPACK: every place along an axis, which is gone."""
    _divided(graph, node, 0, graph.option(node, "Axis"), None)


def _divided(graph: Graph, node: Operator, index: int, axis: int, sizes: list[int] | None) -> None:
    shape = graph.tensor(node, index).shape
    axis = from_front(axis, len(shape))
    if not 0 <= axis < len(shape):
        raise ImporterError(f"{node}: axis {axis} is none of {list(shape)}")
    count, start = len(node.outputs), 0
    sizes = sizes or [shape[axis] // count] * count
    if len(sizes) != count or sum(sizes) != shape[axis]:
        raise ImporterError(f"{node}: parts of {sizes} along a side of {shape[axis]}")
    for number, size in enumerate(sizes):
        _sliced(
            graph,
            node,
            index,
            [(start, start + size, 1) if at == axis else (0, side, 1) for at, side in enumerate(shape)],
            number,
        )
        start += size


def _sliced(graph: Graph, node: Operator, index: int, parts: list[tuple[int, int, int]], output: int = 0) -> None:
    """A part along one axis after another, each as the columns of an image."""
    given, result = graph.tensor(node, index), graph.result(node, output)
    graph.same(node, given, result)
    source, shape = graph.codes(node, index), list(given.shape)
    for axis, (start, stop, step) in enumerate(parts):
        if not 0 <= start < stop <= shape[axis]:
            raise ImporterError(f"{node}: {start} to {stop} is no part of a side of {shape[axis]}")
        if (start, stop, step) == (0, shape[axis], 1):
            continue
        around, place = _around(shape, axis)
        source = graph.reshaped(f"{graph.name(node, output)}_axis{axis}", source, around)
        shape[axis] = -(-(stop - start) // step)
        starts, stops, steps = (
            _with(value, place, others) for value, others in ((start, (0, 0, 0)), (stop, around), (step, (1, 1, 1)))
        )
        source = graph.build.add(
            SliceOp(
                graph.build.name(f"{graph.name(node, output)}_{axis}"),
                source,
                _with(shape[axis], place, around),
                graph.form(given),
                starts,
                stops,
                steps,
                zero_point=graph.zero(given),
            ),
            float(graph.scale(given)),
        )
    if math.prod(shape) != math.prod(result.shape):
        raise ImporterError(f"{node}: gives {shape}, the file says {list(result.shape)}")
    graph.put(node, graph.reshaped(graph.name(node, output), source, sides_of(result)), output)


def _with(value: int, place: int, others: tuple[int, int, int]) -> tuple[int, int, int]:
    """Three numbers, of which one is replaced."""
    first, second, third = (value if at == place else other for at, other in enumerate(others))
    return first, second, third


def _around(shape: list[int], axis: int) -> tuple[tuple[int, int, int], int]:
    """A tensor as an image of which `axis` is one side, and which: its channels where it is the last, else its columns."""
    if axis == len(shape) - 1:
        return image_of(shape), 2
    return (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])), 1


def _inside(bound: int, side: int) -> int:
    return min(max(from_front(bound, side), 0), side)


OPERATORS = {
    "CONCATENATION": concatenation,
    "PACK": pack,
    "UNPACK": unpack,
    "STRIDED_SLICE": strided_slice,
    "SLICE": slice_,
    "SPLIT": split,
    "SPLIT_V": split_v,
}
