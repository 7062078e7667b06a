"""Pools: the largest code, and means as ONNX Runtime has them, which are float32 sums for windows."""

from typing import Any

import numpy as np

from sim.importers.onnx.graph import Graph
from sim.importers.onnx.linear import _target as target_of
from sim.importers.onnx.model import Node
from sim.importers.onnx.quantize import FUSED, Target
from sim.importers.onnx.values import IMAGE, Codes, Computed, Real, stored_shape
from sim.importers.onnx.windows import window_of
from sim.ops.float_average import FloatAverageOp
from sim.ops.maxpool import MaxPoolOp
from sim.ops.reduce import ReduceOp
from sim.requantizers.ort import Ort


def _taps(node: Node) -> tuple[int, ...]:
    found = node.attributes.get("kernel_shape")
    if not isinstance(found, tuple) or not found:
        raise node.fail("its kernel_shape is missing")
    if node.attributes.get("ceil_mode", 0):
        raise node.fail("ceil_mode is not supported")
    return found


def max_pool(graph: Graph, node: Node) -> None:
    """The largest of a window: codes and the numbers that they stand for have one order."""
    if len([name for name in node.outputs if name]) > 1 or node.attributes.get("storage_order", 0):
        raise node.fail("indices of the largest are not supported")
    value = graph.value(node, 0)
    graph.types[node.outputs[0]] = graph.types.get(node.inputs[0], "uint8")
    codes = value.codes if isinstance(value, Real) and isinstance(value.codes, Codes) else graph.codes(node, 0)
    codes = graph.image(node, codes)
    window, sides = window_of(node, codes.dims, _taps(node))
    if window.dilation != 1:
        raise node.fail("dilations of a pool are not supported")
    dims = (codes.dims[0], *sides)
    op = graph.build.add(MaxPoolOp(graph.build.name(node.outputs[0]), codes.op, stored_shape(dims, IMAGE), codes.form,
                                   window.taps[0], window.strides[0], 0, window.taps[1], window.strides[1], window.paddings,
                                   zero_point=codes.zero), graph.build.scale(codes.op))
    pooled = Codes(op, dims, IMAGE, codes.form, codes.zero)
    graph.give(node, Real(pooled, value.scale, value.zero) if isinstance(value, Real) else pooled)


def averaged(graph: Graph, node: Node, x: Codes, scale: np.float32, target: Target, name: str) -> Codes:
    """QLinearAveragePool: float32 of each code, added one by one, divided, quantized."""
    x = graph.image(node, x)
    window, sides = window_of(node, x.dims, _taps(node))
    if window.dilation != 1:
        raise node.fail("dilations of a pool are not supported")
    step, zero, form = target
    dims = (x.dims[0], *sides)
    divisor = "window" if node.attributes.get("count_include_pad", 0) else "valid"
    scales = np.array([scale, step], np.float32)
    top, bottom, left, right = window.paddings
    op = graph.build.add(FloatAverageOp(
        graph.build.name(name), x.op, stored_shape(dims, IMAGE), form, window.taps, window.strides,
        (top, bottom, left, right), divisor,
        scales, x.zero, zero_point=zero), float(step))
    return Codes(op, dims, IMAGE, form, zero)


def global_average(graph: Graph, node: Node, x: Codes, scale: np.float32, target: Target, name: str) -> Codes:
    """QLinearGlobalAveragePool: the exact sum, times float32(s_x / float32(s_y count)), half to even."""
    x = graph.image(node, x)
    step, zero, form = target
    dims = (x.dims[0], *([1] * (len(x.dims) - 1)))
    count = int(np.prod(x.dims[1:]))
    requant = Ort.from_real(np.full(x.dims[0], scale / np.float32(step * np.float32(count)), np.float32),
                            np.zeros(x.dims[0], np.int64))
    op = graph.build.add(ReduceOp(graph.build.name(name), x.op, stored_shape(dims, IMAGE), form, (0, 1), "sum",
                                  requant=requant, source_zero=x.zero, zero_point=zero), float(step))
    return Codes(op, dims, IMAGE, form, zero)


def _quantized(build: Any) -> Any:
    def operator(graph: Graph, node: Node) -> None:
        if node.attributes.get("channels_last", 0):
            raise node.fail("channels_last is not supported")
        x = graph.codes(node, 0, graph.zero(node, 2))
        target = target_of(graph, node, 3, 4)
        graph.give(node, build(graph, node, x, graph.scale(node, 1), target, node.outputs[0]))
    return operator


def _fused(build: Any) -> Any:
    def fused(graph: Graph, node: Node, operator: Computed, target: Target) -> Codes | None:
        x = operator.inputs[0]
        if not isinstance(x, Real) or not isinstance(x.codes, Codes) or x.codes.form != target[2] or target[2].bits > 8:
            return None
        return build(graph, operator.node, x.codes, np.float32(x.scale[0]), target,
                     node.outputs[0])
    return fused


FUSED |= {"AveragePool": _fused(averaged), "GlobalAveragePool": _fused(global_average)}
OPERATORS = {"MaxPool": max_pool, "QLinearAveragePool": _quantized(averaged),
             "QLinearGlobalAveragePool": _quantized(global_average)}
