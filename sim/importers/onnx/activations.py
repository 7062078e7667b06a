"""Float operators that wait for what closes them, casts, and functions of one code that ONNX Runtime has as tables."""

from typing import Any

import numpy as np

from sim.definitions.ort import OrtSoftmax
from sim.importers.onnx.chain import along_channels, close
from sim.importers.onnx.constants import cast_constant, fold
from sim.importers.onnx.elementwise import broadcast
from sim.importers.onnx.floats import FLOATS, quantized
from sim.importers.onnx.graph import Graph
from sim.importers.onnx.linear import _target as target_of
from sim.importers.onnx.linear import float_of_sums
from sim.importers.onnx.model import Node
from sim.importers.onnx.quantize import FUSED, TYPES, Target
from sim.importers.onnx.values import PLAIN, Codes, Computed, Outside, Real, Sums, Weights, stored_shape
from sim.ops.defined import DefinedOp
from sim.ops.requantize import TableOp
from sim.ops.rescale import RescaleOp
from sim.requantizers.exact_add import ExactAdd


def wait(graph: Graph, node: Node) -> None:
    """A float32 operator: of constants its result, else something that waits."""
    inputs: list[Any] = [graph.value(node, slot) if graph.has(node, slot) else None for slot in range(len(node.inputs))]
    graph.types[node.outputs[0]] = "float"
    if len([name for name in node.outputs if name]) > 1 and node.kind not in ("Dropout", "BatchNormalization"):
        raise node.fail("more than one output is not supported")
    if any(isinstance(each, Codes | Sums) for each in inputs):
        _integers(graph, node, inputs)
        return
    if all(each is None or isinstance(each, np.ndarray) for each in inputs):
        fold(graph, node, inputs)
        return
    if node.kind == "BatchNormalization" and node.attributes.get("training_mode", 0):
        raise node.fail("training_mode is not supported")
    for slot, each in enumerate(inputs):
        if each is not None and not isinstance(each, Real | Computed | Outside | Weights | np.ndarray):
            raise node.fail(f"its input {slot + 1} is no float32")
    computed = [tuple(each.dims) for each in inputs if isinstance(each, Real | Computed | Outside)]
    dims = computed[0] if computed else ()
    if node.kind in FLOATS:  # others are closed by what has shapes of its own
        for sides in computed[1:]:
            dims = broadcast(dims, sides, node)
    graph.give(node, graph.compute(node, inputs, dims))


def settled(graph: Graph, value: Any) -> Any:
    """A product of dequantized bytes that is an output itself, not quantized again, as float32 of sums.

    With float32 operators behind it ONNX Runtime makes another float32 product of them, whose sums depend on their order.
    """
    if isinstance(value, Computed) and value.node.kind in ("MatMul", "Gemm"):
        return float_of_sums(graph, value) or value
    return _of_arrays(value)


def _of_arrays(value: Any) -> Any:
    """A chain whose dequantized constants are arrays."""
    done: dict[int, Any] = {}

    def plain(each: Any) -> Any:
        if isinstance(each, Weights):
            return each.array
        if not isinstance(each, Computed) or each.node.kind not in FLOATS:
            return each
        if id(each) not in done:
            done[id(each)] = Computed(each.node, tuple(map(plain, each.inputs)), each.dims, each.depth)
        return done[id(each)]

    return plain(value)


def _integers(graph: Graph, node: Node, inputs: list[Any]) -> None:
    """Sums in 32 bits plus a constant, such as a bias; anything else of integers is not supported."""
    if node.kind == "Clip" and isinstance(inputs[0], Codes):
        _clipped(graph, node, inputs)
        return
    others = [each for each in inputs if isinstance(each, np.ndarray)]
    if node.kind != "Add" or len(inputs) != 2 or len(others) != 1 or others[0].dtype != np.int32:
        raise node.fail("integers are added to int32 constants, cast to float32, dequantized; other operators of integers "
                        "are not supported")
    slot = 0 if isinstance(inputs[0], Codes | Sums) else 1
    codes = graph.codes(node, slot)
    if codes.form.bits != 32:
        raise node.fail(f"codes of {codes.form} plus int32")
    whole = along_channels(graph, node, others[0].astype(np.int64), codes.dims, codes.layout, 0)
    bias = np.broadcast_to(whole, codes.channels)
    low, high = graph.bounds.get(codes.op, codes.bounds)
    low, high = low + int(bias.min()), high + int(bias.max())
    if bias.any() and (low < codes.form.min or high > codes.form.max):
        raise node.fail(f"its sums can be from {low} to {high}, beyond the 32 bits in which ONNX Runtime would wrap them")
    op = graph.build.add(RescaleOp(
        graph.build.name(node.outputs[0]), codes.op, stored_shape(codes.dims, codes.layout), codes.form,
        ExactAdd.of(codes.channels, bias=bias.astype(np.int64)), codes.zero), graph.build.scale(codes.op))
    graph.bounds[op] = low, high
    graph.types[node.outputs[0]] = "int32"
    graph.give(node, Codes(op, codes.dims, codes.layout, codes.form))


def _clipped(graph: Graph, node: Node, inputs: list[Any]) -> None:
    """Codes between two constants, as a table."""
    codes = inputs[0]
    limits = [None if each is None else int(np.asarray(each).reshape(())) for each in [*inputs[1:], None, None][:2]]
    if codes.form.bits > 16:
        raise node.fail(f"codes of {codes.form} are not clipped")
    every = np.arange(codes.form.min, codes.form.max + 1)
    low, high = (codes.form.min if limits[0] is None else limits[0]), (codes.form.max if limits[1] is None else limits[1])
    table = np.clip(every, low, high).clip(codes.form.min, codes.form.max).astype(codes.form.dtype)
    op = graph.build.add(TableOp(graph.build.name(node.outputs[0]), codes.op, stored_shape(codes.dims, codes.layout),
                                 codes.form, table, codes.form.min, zero_point=codes.zero), graph.build.scale(codes.op))
    graph.types[node.outputs[0]] = graph.types.get(node.inputs[0], "int8")
    graph.give(node, Codes(op, codes.dims, codes.layout, codes.form, codes.zero))


def cast(graph: Graph, node: Node) -> None:
    """Integers to float32; of constants to any type."""
    value, kind = graph.value(node, 0), TYPES.get(int(node.attributes.get("to", 1)), "another type")
    if isinstance(value, np.ndarray):
        cast_constant(graph, node, value)
        return
    graph.types[node.outputs[0]] = kind
    if isinstance(value, Codes | Sums) and kind == "float":
        codes = value
        graph.give(node, Real(codes, np.ones(1, np.float32), 0))
    elif graph.types.get(node.inputs[0]) == kind if isinstance(value, Codes | Sums) else kind == "float":
        graph.give(node, value)
    else:
        raise node.fail(f"casts of what is computed are supported to float32, not to {kind}")


def _looked_up(kind: str) -> Any:
    """A QLinear operator that is a table of its float operator."""
    def operator(graph: Graph, node: Node) -> None:
        x = graph.codes(node, 0, graph.zero(node, 2))
        scale, zero, form = target_of(graph, node, 3, 4)
        value = graph.compute(Node(node.title, kind, "", node.inputs, node.outputs, node.attributes),
                              (Real(x, graph.scales(node, 1).reshape(1), x.zero),), x.dims)
        made = close(graph, node, value, lambda floats: quantized(floats, scale, zero, form.min, form.max), form, zero,
                     float(scale), node.outputs[0])
        assert made is not None
        graph.give(node, made)
    return operator


def _softmax(graph: Graph, node: Node, x: Codes, scale: np.float32, target: Target, opset: int, name: str) -> Codes:
    step, zero, form = target
    rank = len(x.dims) + graph.batched
    axis = graph.axis(node, int(node.attributes.get("axis", 1 if opset < 13 else -1)), x.dims)
    if axis != len(x.dims) - 1:
        raise node.fail(f"softmax along the last of {rank} axes is supported, not along {axis + graph.batched}")
    x = graph.plain(x)
    definition = OrtSoftmax.of(scale, x.form, form, step, zero, x.dims[-1])
    op = graph.build.add(DefinedOp(graph.build.name(name), x.op, stored_shape(x.dims, PLAIN), form, definition,
                                   zero_point=zero), float(step))
    return Codes(op, x.dims, PLAIN, form, zero)


def qlinear_softmax(graph: Graph, node: Node) -> None:
    """Inputs: x, its scale, its zero point, y's scale, its zero point."""
    x = graph.codes(node, 0, graph.zero(node, 2))
    target = target_of(graph, node, 3, 4)
    opset = int(node.attributes.get("opset", graph.model.opset))
    graph.give(node, _softmax(graph, node, x, graph.scale(node, 1), target, opset, node.outputs[0]))


def _fused_softmax(graph: Graph, node: Node, operator: Computed, target: Target) -> Codes | None:
    x = operator.inputs[0]
    if not isinstance(x, Real) or not isinstance(x.codes, Codes) or x.codes.form != target[2] or target[2].bits != 8:
        return None
    return _softmax(graph, operator.node, x.codes, np.float32(x.scale[0]), target, graph.model.opset, node.outputs[0])


def data_dependent(graph: Graph, node: Node) -> None:
    """DynamicQuantizeLinear."""
    raise node.fail("its scale depends on the data: a program has constants; quantize the model statically")


FUSED |= {"Softmax": _fused_softmax}
OPERATORS = {**{kind: wait for kind in (*(kind for kind in FLOATS if kind not in ("Cast", "Identity", "Reshape", "Dropout")),
                                        "Conv", "MatMul", "Gemm", "Concat", "AveragePool", "GlobalAveragePool", "Softmax")},
             "Cast": cast, "QLinearSigmoid": _looked_up("Sigmoid"), "QLinearLeakyRelu": _looked_up("LeakyRelu"),
             "QLinearSoftmax": qlinear_softmax, "DynamicQuantizeLinear": data_dependent}
