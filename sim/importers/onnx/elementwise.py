"""Sums, products and concatenations of two or more tensors of codes, each with a scale and a zero point of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.importers.onnx.floats import quantized
from sim.importers.onnx.graph import Graph
from sim.importers.onnx.linear import _target as target_of
from sim.importers.onnx.model import Node
from sim.importers.onnx.quantize import FUSED, Target
from sim.importers.onnx.values import IMAGE, PLAIN, Codes, Computed, Real, Weights, form_of, stored_shape
from sim.ops.add import AddOp
from sim.ops.concat import ConcatOp
from sim.ops.multiply import MultiplyOp
from sim.requantizers.mlas import MlasAdd, MlasMultiply

Operand = tuple[Codes, np.float32]
"""Codes and their scale."""


def broadcast(dims: Sequence[int], other: Sequence[int], node: Node) -> tuple[int, ...]:
    """Sides of two tensors of which each may be of 1, or of fewer axes."""
    try:
        return np.broadcast_shapes(tuple(dims), tuple(other))
    except ValueError:
        raise node.fail(f"tensors {list(dims)} and {list(other)} do not broadcast") from None


def constant_codes(graph: Graph, node: Node, array: np.ndarray, zero: int, rank: int, layout: str) -> Codes:
    """A constant as an operation, its axes those of a tensor of `rank` axes without the batch."""
    form = form_of(str(array.dtype))
    if form is None or array.ndim > rank + graph.batched:
        raise node.fail(f"a constant {array.dtype} {list(array.shape)} beside a tensor of {rank + graph.batched} axes")
    sides = (1,) * (rank + graph.batched - array.ndim) + array.shape
    if graph.batched and sides[0] != 1:
        raise node.fail("a constant with a number for each image is not supported")
    dims = sides[int(graph.batched):]
    laid = np.moveaxis(array.reshape(dims), 0, -1) if layout == IMAGE else array
    name = graph.build.constant(graph.build.name(f"{node.title}/constant"), laid.reshape(stored_shape(dims, layout)), form,
                                1.0,
                                zero)
    return Codes(name, dims, layout, form, zero)


def _pair(graph: Graph, node: Node, a: Operand, b: Operand) -> tuple[Codes, Codes, tuple[int, ...]]:
    """Both in one layout, and the sides of what they give."""
    left, right = a[0], b[0]
    if len(left.dims) != len(right.dims):
        left, right = graph.plain(left), graph.plain(right)
    elif left.layout != right.layout:
        right = graph.image(node, right) if left.layout == IMAGE else graph.plain(right)
    if len(left.dims) != len(right.dims) and max(len(left.dims), len(right.dims)) > 1:
        raise node.fail(f"tensors {list(left.dims)} and {list(right.dims)} of different axes are not supported")
    if len(left.dims) > 3 and left.dims != right.dims:
        raise node.fail(f"tensors {list(left.dims)} and {list(right.dims)} do not broadcast in so many axes here")
    return left, right, broadcast(left.dims, right.dims, node)


def _check_codes(node: Node, most: float) -> None:
    """Raise ImporterError where codes can pass 32 bits before the clamp: ONNX Runtime makes the least code of them."""
    if most >= 2.0**31:
        raise node.fail(f"its codes can reach {most:g} before they are clamped, beyond the 32 bits of ONNX Runtime")


def _reach(codes: Codes) -> int:
    return max(codes.form.max - codes.zero, codes.zero - codes.form.min)


def added(graph: Graph, node: Node, a: Operand, b: Operand, target: Target, name: str) -> Codes:
    """QLinearAdd.  The second operand is fused first: it is the first of ONNX's two that is one number for a whole line."""
    left, right, dims = _pair(graph, node, a, b)
    scale, zero, form = target
    shape = stored_shape(dims, left.layout)
    _check_codes(node, sum(_reach(codes) * float(own) / float(scale) for codes, own in (a, b)) + abs(zero))
    rule = graph.rules("add", MlasAdd)
    requant = (MlasAdd.of(a[1], b[1], scale, (left.zero, right.zero, zero), shape[2]) if rule is MlasAdd
               else rule.from_scales(a[1], b[1], scale, shape[2]))
    op = graph.build.add(AddOp(graph.build.name(name), left.op, shape, form, right.op, requant, left.zero, right.zero,
                               zero_point=zero), float(scale))
    return Codes(op, dims, left.layout, form, zero)


def multiplied(graph: Graph, node: Node, a: Operand, b: Operand, target: Target, name: str) -> Codes:
    """QLinearMul."""
    left, right, dims = _pair(graph, node, a, b)
    scale, zero, form = target
    shape = stored_shape(dims, left.layout)
    _check_codes(node, _reach(left) * _reach(right) * float(a[1]) * float(b[1]) / float(scale) + abs(zero))
    requant = MlasMultiply.of(a[1], b[1], scale, zero, shape[2])
    op = graph.build.add(MultiplyOp(graph.build.name(name), left.op, shape, form, right.op, requant, left.zero, right.zero,
                                    zero_point=zero), float(scale))
    return Codes(op, dims, left.layout, form, zero)


def _operand(graph: Graph, node: Node, slot: int, rank: int, layout: str) -> Operand:
    """Codes, scale and zero point at three inputs."""
    value, zero = graph.value(node, slot), graph.zero(node, slot + 2)
    codes = (constant_codes(graph, node, value, zero, rank, layout) if isinstance(value, np.ndarray)
             else graph.codes(node, slot, zero))
    return codes, graph.scale(node, slot + 1)


def _shape_of(graph: Graph, node: Node, slots: Sequence[int]) -> tuple[int, str]:
    """Axes and layout of the first input that is computed."""
    for slot in slots:
        value = graph.value(node, slot)
        if not isinstance(value, np.ndarray):
            codes = graph.codes(node, slot)
            return len(codes.dims), codes.layout
    raise node.fail("all of its inputs are constant")


def _two(build: Any) -> Any:
    def operator(graph: Graph, node: Node) -> None:
        rank, layout = _shape_of(graph, node, (0, 3))
        a, b = (_operand(graph, node, slot, rank, layout) for slot in (0, 3))
        graph.give(node, build(graph, node, a, b, target_of(graph, node, 6, 7), node.outputs[0]))
    return operator


def _fused_two(build: Any) -> Any:
    def fused(graph: Graph, node: Node, operator: Computed, target: Target) -> Codes | None:
        operands = _dequantized(graph, operator)
        if operands is None or len(operands) != 2 or len({codes.form for codes, _ in operands} | {target[2]}) > 1 \
                or target[2].bits > 8:
            return None
        return build(graph, operator.node, *operands, target, node.outputs[0])
    return fused


def _dequantized(graph: Graph, operator: Computed) -> list[Operand] | None:
    """Operands whose codes are known; None unless all are dequantized and one is computed."""
    reals = [each for each in operator.inputs if isinstance(each, Real) and isinstance(each.codes, Codes)]
    if not reals or not all(isinstance(each, Real | Weights) for each in operator.inputs):
        return None
    first = reals[0].codes
    operands: list[Operand] = []
    for each in operator.inputs:
        if isinstance(each, Real) and isinstance(each.codes, Codes):
            operands.append((each.codes, np.float32(each.scale[0])))
        elif isinstance(each, Weights) and each.scale.size == each.zero.size == 1:
            zero = int(each.zero.reshape(()))
            array = each.codes.astype(each.form.dtype)
            operands.append((constant_codes(graph, operator.node, array, zero, len(first.dims), first.layout),
                             np.float32(each.scale.reshape(()))))
        else:
            return None
    return operands


def joined(graph: Graph, node: Node, parts: list[Operand], axis: int, target: Target, name: str) -> Codes:
    """QLinearConcat: each input through a table of 256 codes; those of the output's own scale and zero point are copied."""
    scale, zero, form = target
    first = parts[0][0]
    rank = len(first.dims)
    place = graph.axis(node, axis, first.dims)
    is_image = place == 0 and all(codes.layout == IMAGE and len(codes.dims) == rank for codes, _ in parts)
    laid = [codes if is_image else _last(graph, codes, place) for codes, _ in parts]
    sides = [tuple(side for index, side in enumerate(codes.dims) if index != place) for codes, _ in parts]
    if len(set(sides)) > 1 or any(len(codes.dims) != rank for codes, _ in parts):
        raise node.fail("tensors that differ in more than one axis cannot be joined")
    tables = []
    for codes, own in parts:
        every = np.arange(codes.form.min, codes.form.max + 1, dtype=np.int64)
        same = (own, codes.zero, codes.form) == (scale, zero, form)
        floats = (every - codes.zero).astype(np.float32) * own
        tables.append((every if same else quantized(floats, scale, zero, form.min, form.max)).astype(form.dtype))
    dims = list(first.dims)
    dims[place] = sum(codes.dims[place] for codes, _ in parts)
    whole = tuple(dims) if is_image else (*(side for index, side in enumerate(dims) if index != place), dims[place])
    made = ConcatOp(graph.build.name(name if is_image or place == rank - 1 else f"{name}/last"), laid[0].op,
                    stored_shape(whole, IMAGE if is_image else PLAIN), form, tuple(codes.op for codes in laid[1:]),
                    np.concatenate(tables), tuple(codes.form.min for codes, _ in parts), tuple(map(len, tables)),
                    zero_point=zero)
    op = graph.build.add(made, float(scale))
    if is_image or place == rank - 1:
        return Codes(op, tuple(dims), IMAGE if is_image else PLAIN, form, zero)
    order = (*range(place), rank - 1, *range(place, rank - 1))
    return graph.moved(Codes(op, whole, PLAIN, form, zero), whole, order, tuple(dims), name)


def _last(graph: Graph, codes: Codes, place: int) -> Codes:
    """A tensor with one axis behind all others."""
    codes, rank = graph.plain(codes), len(codes.dims)
    if place == rank - 1:
        return codes
    order = (*(index for index in range(rank) if index != place), place)
    return graph.moved(codes, codes.dims, order, tuple(codes.dims[index] for index in order), f"{codes.op}/last{place}")


def qlinear_concat(graph: Graph, node: Node) -> None:
    """Inputs: y's scale, its zero point, then each tensor with its scale and its zero point."""
    form = graph.form(node, node.inputs[1] if graph.has(node, 1) else "")
    graph.types[node.outputs[0]] = f"{'' if form.signed else 'u'}int{form.bits}"
    slots = range(2, len(node.inputs), 3)
    rank, layout = _shape_of(graph, node, slots)
    parts = [_operand(graph, node, slot, rank, layout) for slot in slots]
    graph.give(node, joined(graph, node, parts, int(node.attributes.get("axis", 1)),
                            (graph.scale(node, 0), graph.zero(node, 1), form), node.outputs[0]))


def _fused_concat(graph: Graph, node: Node, operator: Computed, target: Target) -> Codes | None:
    operands = _dequantized(graph, operator)
    if operands is None:
        return None
    return joined(graph, operator.node, operands, int(operator.node.attributes.get("axis", 1)), target, node.outputs[0])


FUSED |= {"Add": _fused_two(added), "Mul": _fused_two(multiplied), "Concat": _fused_concat}
OPERATORS = {"QLinearAdd": _two(added), "QLinearMul": _two(multiplied), "QLinearConcat": qlinear_concat}
