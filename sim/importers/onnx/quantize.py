"""QuantizeLinear and DequantizeLinear: where a graph of float operators says what its integers are."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sim.importers.onnx.boundary import Inlet
from sim.importers.onnx.chain import as_they_are, close, evaluate, leaf
from sim.importers.onnx.floats import quantized
from sim.importers.onnx.graph import BatchError, Graph
from sim.importers.onnx.model import Node
from sim.importers.onnx.values import IMAGE, PLAIN, Codes, Computed, Outside, Real, Weights, form_of, stored_shape

Target = tuple[np.float32, int, Any]
"""Scale, zero point and format that a QuantizeLinear asks for."""
FUSED: dict[str, Callable[[Graph, Node, Computed, Target], Codes | None]] = {}
"""Float operators that ONNX Runtime runs in integers between quantizers; each file of operators adds its own.

None where this one is not run so: then it is a chain of float operators, or it is refused.
"""
TYPES = {1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 21: "uint4", 22: "int4", 25: "uint2",
         26: "int2"}


def quantize(graph: Graph, node: Node) -> None:
    """float32 -> codes: the operator before it is run in integers, or its chain of float operators becomes a table."""
    value, kind = graph.value(node, 0), _kind(graph, node)
    form = form_of(kind)
    if form is None:
        raise node.fail(f"codes of type {kind} are not supported")
    scales, zeros = graph.scales(node, 1), graph.zeros(node, 2)
    graph.types[node.outputs[0]] = kind
    if isinstance(value, np.ndarray):
        codes = quantized(value, *_along(graph, node, scales, zeros, value.shape, value.ndim), form.min, form.max)
        graph.give(node, codes.astype(form.dtype))
        return
    start = leaf(value)
    if isinstance(start, Outside):
        graph.give(node, _from_outside(graph, node, value, start, scales, zeros))
        return
    if scales.size != 1 or zeros.size != 1:
        raise node.fail("one scale and one zero point for all are supported inside a network")
    target = np.float32(scales.reshape(())), int(zeros.reshape(())), form
    graph.give(node, _inside(graph, node, value, target))


def _inside(graph: Graph, node: Node, value: Any, target: Target) -> Codes:
    scale, zero, form = target
    operator = _without_clip(graph, value, target)
    if isinstance(operator, Computed) and operator.node.kind in graph.fused:
        done = graph.fused[operator.node.kind](graph, node, operator, target)
        if done is not None:
            return done
    made = close(graph, node, graph.settle(graph, value), lambda x: quantized(x, scale, zero, form.min, form.max), form,
                 zero, float(scale),
                 node.outputs[0])
    if made is None:
        told = value.node if isinstance(value, Computed) else node
        raise told.fail("ONNX Runtime would run it in float32, whose sums depend on their order: its inputs must be "
                        "dequantized, its bias too (int32 of scale s_x s_w), and nothing but a redundant Relu or Clip may "
                        "stand before QuantizeLinear")
    return made


def _without_clip(graph: Graph, value: Any, target: Target) -> Any:
    """The operator before a Relu or Clip that the clamp of the codes makes redundant."""
    scale, zero, form = target
    if not isinstance(value, Computed) or not isinstance(value.inputs[0],
                                                         Computed) or value.inputs[0].node.kind not in graph.fused:
        return value
    low, high = scale * np.float32(form.min - zero), scale * np.float32(form.max - zero)
    if value.node.kind == "Relu":
        least, most = np.float32(0), np.float32(np.inf)
    elif value.node.kind == "Clip":
        limits = [part for part in value.inputs[1:]] + [None, None]
        least, most = (np.float32(given if limits[slot] is None else np.asarray(limits[slot]).reshape(()))
                       for slot, given in enumerate((value.node.attributes.get("min", -np.inf),
                                                     value.node.attributes.get("max", np.inf))))
    else:
        return value
    slack = np.finfo(np.float32).eps
    return value.inputs[0] if least - low <= slack and high - most <= slack else value


def dequantize(graph: Graph, node: Node) -> None:
    """Codes -> float32, which waits for what reads it."""
    value, kind = graph.value(node, 0), graph.types.get(node.inputs[0], "uint8")
    scales, zeros = graph.scales(node, 1), graph.zeros(node, 2)
    form = graph.form(node, node.inputs[0])
    graph.types[node.outputs[0]] = "float"
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iu":
            raise node.fail(f"reads constants of type {kind}")
        scale, zero = _along(graph, node, scales, zeros, value.shape, value.ndim)
        graph.give(node, Weights(value.astype(np.int64), scale, zero, form))
        return
    if scales.size == 1 and zeros.size == 1:
        codes = graph.codes(node, 0, int(zeros.reshape(())) if form.bits <= 16 else None)
        graph.give(node, Real(codes, scales.reshape(1), int(zeros.reshape(()))))
        return
    codes = graph.codes(node, 0)
    rank = len(codes.dims) + graph.batched
    scale, zero = _along(graph, node, scales, zeros, _full(graph, codes), rank)
    graph.give(node, Computed(Node(node.title, "DequantizeLinear", "", node.inputs, node.outputs, {}),
                              (codes, scale, zero), codes.dims))


def _full(graph: Graph, codes: Codes) -> tuple[int, ...]:
    return (1, *codes.dims) if graph.batched else codes.dims


def _along(graph: Graph, node: Node, scales: np.ndarray, zeros: np.ndarray, shape: tuple[int, ...],
           rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales and zero points that broadcast against a tensor of `shape`: one, or one for each index or block of an axis."""
    axis, block = int(node.attributes.get("axis", 1)), int(node.attributes.get("block_size", 0))

    def spread(array: np.ndarray) -> np.ndarray:
        if array.size == 1:
            return array.reshape(())
        if rank == 0 or not -rank <= axis < rank:
            raise node.fail(f"axis {axis} of a tensor of {rank} axes")
        place = axis % rank
        if block:
            if array.ndim != rank or array.shape[place] * block < shape[place]:
                raise node.fail(f"its blocks of {block} along axis {axis} do not cover the tensor")
            return np.repeat(array, block, place).take(range(shape[place]), place)
        if array.ndim != 1 or array.size != shape[place]:
            if place == 0 and graph.batched:
                raise BatchError
            raise node.fail(f"{array.size} scales or zero points for {shape[place]} indices of axis {axis}")
        return array.reshape([array.size if index == place else 1 for index in range(rank)])

    if block < 0 or (block and not shape):
        raise node.fail(f"a block size of {block}")
    return spread(scales), spread(zeros)


def _kind(graph: Graph, node: Node) -> str:
    if graph.has(node, 2):
        return graph.types.get(node.inputs[2], "uint8")
    return TYPES.get(int(node.attributes.get("output_dtype", 2)) or 2, "another type")


def _from_outside(graph: Graph, node: Node, value: Any, start: Outside, scales: np.ndarray, zeros: np.ndarray) -> Codes:
    """An input of codes, and the float operators before it as what its user's array goes through."""
    form = graph.form(node, node.outputs[0])
    layout = IMAGE if len(value.dims) == 3 and graph.batched else PLAIN
    shape = (1, *value.dims) if graph.batched else value.dims
    if scales.size > 1 and graph.batched and int(node.attributes.get("axis", 1)) % max(1, len(shape)) == 0:
        raise BatchError
    scale, zero = _along(graph, node, scales, zeros, shape, len(shape))
    one = int(zeros.reshape(-1)[0]) if zeros.size == 1 else 0
    title = start.name if not graph.inlets else f"{start.name}/{node.outputs[0]}"
    op = graph.build.codes_input(title, stored_shape(value.dims, layout), form, float(scales.reshape(-1)[0]), one)
    codes = Codes(op, value.dims, layout, form, one)

    def accept(array: np.ndarray) -> np.ndarray:
        floats = evaluate(value, np.asarray(array, np.float32), as_they_are)
        return quantized(floats, scale, zero, form.min, form.max)

    graph.inlets[op] = Inlet(start.name, codes, graph.batched, accept)
    return codes
