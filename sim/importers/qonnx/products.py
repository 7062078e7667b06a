"""Float products of quantized numbers as exact sums of their codes: what QONNX's executor adds up in float32."""

from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.importers.onnx.boundary import Inlet
from sim.importers.onnx.chain import as_they_are, evaluate, leaf
from sim.importers.onnx.floats import FLOATS
from sim.importers.onnx.graph import Graph
from sim.importers.onnx.linear import convolution
from sim.importers.onnx.model import Node
from sim.importers.onnx.products import by_activations, by_matrix
from sim.importers.onnx.values import IMAGE, PLAIN, Codes, Computed, Outside, Real, Sums, Weights, stored_shape
from sim.ops.add import AddOp
from sim.requantizers.exact_add import ExactAdd

WIDE = IntFormat(32, signed=True)
FRACTION = 24
"""Fractional bits of an input that no quantizer makes codes of: float32 of magnitude 1 to 128 are exact."""
ANNOTATED = {"BIPOLAR": (-1, 1), "BINARY": (0, 1), "TERNARY": (-1, 1)}


def settled(graph: Graph, value: Any) -> Any:
    """What waits, with each product as float32 of an exact sum; None in the place of what is none."""
    done: dict[int, Any] = {}

    def settle(each: Any) -> Any:
        if not isinstance(each, Computed):
            return each.array if isinstance(each, Weights) else each
        if id(each) not in done:
            if each.node.kind in PRODUCTS:
                done[id(each)] = PRODUCTS[each.node.kind](graph, each)
            elif each.node.kind in FLOATS:
                inputs = tuple(map(settle, each.inputs))
                done[id(each)] = _sum(graph, Computed(each.node, inputs, each.dims, each.depth))
            else:
                done[id(each)] = each
        return done[id(each)]

    return settle(value)


def _factor(graph: Graph, node: Node, value: Any) -> Real | None:
    """The first factor: quantized activations, or an input as it comes."""
    found = settled(graph, value)
    if isinstance(found, Real):
        return found if isinstance(found.codes, Codes) else Real(graph.raw(found.codes, f"{node.outputs[0]}/in"),
                                                                 found.scale, found.zero)
    start = leaf(found)
    return _integers_outside(graph, found, start) if isinstance(start, Outside) else None


def _integers_outside(graph: Graph, value: Any, start: Outside) -> Real:
    """An unquantized input: integers of its annotation through the operators before, else fixed point, which is noted."""
    annotation = graph.model.annotations.get(start.name, "")
    ends = _ends(annotation)
    if ends is not None:
        every = np.unique([ends[0], ends[1]] if annotation == "BIPOLAR" else np.arange(ends[0],
                                                                                       ends[1] + 1)).astype(np.float32)
        shape = (len(every), *([1] * len(value.dims))) if graph.batched else (1,) * len(value.dims)
        if graph.batched and not _reshapes(value):
            numbers = evaluate(value, every.reshape(shape), as_they_are).astype(np.float64).ravel()
            unit = float(np.abs(numbers[numbers != 0]).min(initial=np.inf))
            whole = numbers / unit if np.isfinite(unit) else numbers
            if np.isfinite(unit) and (whole == np.rint(whole)).all() and np.abs(whole).max() < 2**15:
                return _inlet(graph, value, start, unit, int(whole.min()), int(whole.max()))
    graph.notes.append(f"input {start.name[:80]}: no quantizer makes codes of it; it is read as fixed point of 32 bits, "
                       f"{FRACTION} behind the point, which holds magnitudes below 128")
    return _inlet(graph, value, start, 2.0**-FRACTION, WIDE.min, WIDE.max)


def _reshapes(value: Any) -> bool:
    while isinstance(value, Computed):
        if value.node.kind == "Reshape" or any(isinstance(each, np.ndarray) and each.size != 1 for each in value.inputs):
            return True
        value = next(each for each in value.inputs if not isinstance(each, np.ndarray))
    return False


def _ends(annotation: str) -> tuple[int, int] | None:
    """Of an integer type of QONNX, up to 8 bits."""
    if annotation in ANNOTATED:
        return ANNOTATED[annotation]
    bits = annotation.removeprefix("U").removeprefix("INT")
    if not bits.isdecimal() or not 1 <= int(bits) <= 8:
        return None
    return (0, (1 << int(bits)) - 1) if annotation.startswith("U") else (-(1 << (int(bits) - 1)), (1 << (int(bits) - 1)) - 1)


def _inlet(graph: Graph, value: Any, start: Outside, unit: float, low: int, high: int) -> Real:
    form = IntFormat.holding(low, high)
    layout = IMAGE if len(value.dims) == 3 and graph.batched else PLAIN
    op = graph.build.codes_input(graph.build.name(start.name), stored_shape(value.dims, layout), form, unit)
    codes = Codes(op, tuple(value.dims), layout, form)

    def accept(array: np.ndarray) -> np.ndarray:
        floats = evaluate(value, np.asarray(array, np.float32), as_they_are)
        return np.clip(np.rint(floats.astype(np.float64) / unit), form.min, form.max).astype(np.int64)

    graph.inlets[op] = Inlet(start.name, codes, graph.batched, accept)
    return Real(codes, np.array([unit]), 0)


def _scaled(a: Real, scale: np.ndarray, sums: Sums) -> Real | None:
    """float32 of sums: the product of both scales in float64, where that is exact."""
    if a.scale.size != 1 or scale.size not in (1, sums.channels):
        return None
    return Real(sums, a.scale.astype(np.float64) * scale.astype(np.float64).reshape(-1), 0)


def _aligned(a: Real, node: Node, graph: Graph) -> Codes:
    """The codes of a factor with the zero point that its numbers have."""
    assert isinstance(a.codes, Codes)
    return a.codes if a.zero == a.codes.zero else graph.renamed(node, a.codes, a.zero)


def _matmul(graph: Graph, operator: Computed) -> Any:
    a, b, node = _factor(graph, operator.node, operator.inputs[0]), operator.inputs[1], operator.node
    if a is None:
        return operator
    if isinstance(b, Weights):
        if b.scale.size != 1 and b.scale.shape[-1] != b.scale.size:
            return operator
        return _scaled(a, b.scale, by_matrix(graph, node, _aligned(a, node, graph), b.codes, b.zero)) or operator
    other = settled(graph, b)
    if not isinstance(other, Real) or not isinstance(other.codes, Codes):
        return operator
    return _scaled(a, other.scale, by_activations(graph, node, _aligned(a, node, graph), _aligned(other, node,
                                                                                                  graph))) or operator


def _gemm(graph: Graph, operator: Computed) -> Any:
    told, node, b = operator.node.attributes, operator.node, operator.inputs[1]
    a = _factor(graph, node, operator.inputs[0])
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    if a is None or not isinstance(b, Weights) or told.get("transA", 0) or told.get("alpha", 1.0) != 1.0 \
            or (bias is not None and told.get("beta", 1.0) != 1.0) or b.codes.ndim != 2:
        return operator
    turn = bool(told.get("transB", 0))
    scale = b.scale.T if turn else b.scale
    if scale.size != 1 and scale.shape[-1] != scale.size:
        return operator
    zeros = b.zero.T if turn else b.zero
    sums = by_matrix(graph, node, _aligned(a, node, graph), b.codes.T if turn else b.codes, zeros)
    return _with_bias(operator, _scaled(a, scale, sums), bias, ())


def _conv(graph: Graph, operator: Computed) -> Any:
    node, b = operator.node, operator.inputs[1]
    a = _factor(graph, node, operator.inputs[0])
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    if a is None or not isinstance(b, Weights) or (b.scale.size != 1 and b.scale.shape[0] != b.scale.size):
        return operator
    sums = convolution(graph, node, _aligned(a, node, graph), b.codes, b.zero.reshape(-1))
    return _with_bias(operator, _scaled(a, b.scale, sums), bias, (1,) * (b.codes.ndim - 2))


def _with_bias(operator: Computed, value: Real | None, bias: Any, more: tuple[int, ...]) -> Any:
    """A float32 addition behind the sums; [channels] lie along the channels of the result."""
    if value is None or bias is None:
        return operator if value is None else value
    array = bias.array if isinstance(bias, Weights) else bias
    if not isinstance(array, np.ndarray):
        return operator
    node = Node(operator.node.title, "Add", "", operator.node.inputs, operator.node.outputs)
    return Computed(node, (value, array.reshape(array.shape + more) if more else array), value.dims)


def _sum(graph: Graph, operator: Computed) -> Any:
    """Two quantized tensors of one scale and shape, added: their codes are; anything else stays."""
    if operator.node.kind not in ("Add", "Sub") or len(operator.inputs) != 2:
        return operator
    a, b = operator.inputs
    if not (isinstance(a, Real) and isinstance(b, Real)) or a is b or a.scale.size != 1 or b.scale.size != 1 \
            or float(a.scale[0]) != float(b.scale[0]) or a.dims != b.dims:
        return operator
    left, right = (each.codes if isinstance(each.codes, Codes) else graph.raw(each.codes, f"{operator.node.outputs[0]}/in")
                   for each in (a, b))
    left, right = (graph.renamed(operator.node, codes, each.zero) if codes.zero != each.zero else codes
                   for codes, each in ((left, a), (right, b)))
    left, right = (left, right) if left.layout == right.layout else (graph.plain(left), graph.plain(right))
    shape = stored_shape(left.dims, left.layout)
    requant = ExactAdd.of(shape[2], 1 if operator.node.kind == "Add" else -1)
    form = IntFormat(min(32, max(left.form.bits, right.form.bits) + 3), True)
    op = graph.build.add(AddOp(graph.build.name(operator.node.outputs[0]), left.op, shape, form, right.op, requant,
                               left.zero,
                               right.zero), float(a.scale[0]))
    return Real(Codes(op, left.dims, left.layout, form), a.scale, 0)


PRODUCTS = {"MatMul": _matmul, "Gemm": _gemm, "Conv": _conv}
