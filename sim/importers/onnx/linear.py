"""Convolutions and matrix products, in every form in which ONNX has them in integers.

QLinearConv and the like carry all scales; ConvInteger and MatMulInteger give sums; float operators between quantizers are
run as the former where ONNX Runtime does.  All become a convolution, or a product of two activations.
"""

from typing import Any

import numpy as np

from sim.accumulator import prefix_bounds
from sim.formats import IntFormat
from sim.importers.onnx.graph import Graph
from sim.importers.onnx.model import Node
from sim.importers.onnx.products import by_activations, by_matrix
from sim.importers.onnx.quantize import FUSED, Target
from sim.importers.onnx.values import IMAGE, Codes, Computed, Real, Sums, Weights, whole_range
from sim.importers.onnx.windows import window_of
from sim.requantizers.ort import Ort


def convolution(graph: Graph, node: Node, x: Codes, weights: np.ndarray, zeros: np.ndarray) -> Sums:
    """Sums of `weights` [channels, in channels / groups, *taps] less their zero points, one or one per channel."""
    x = graph.image(node, x)
    if weights.ndim != len(x.dims) + 1 or zeros.size not in (1, len(weights)):
        raise node.fail(f"weights {list(weights.shape)} on an image {list(x.dims)}, with {zeros.size} zero points")
    kernel = node.attributes.get("kernel_shape", weights.shape[2:])
    if tuple(kernel) != weights.shape[2:]:
        raise node.fail(f"its kernel_shape {list(kernel)[:4]} is not that of its weights")
    groups = int(node.attributes.get("group", 1))
    if groups < 1 or weights.shape[1] * groups != x.dims[0] or len(weights) % groups:
        raise node.fail(f"{groups} groups of weights {list(weights.shape)} do not fit {x.dims[0]} channels")
    window, sides = window_of(node, x.dims, weights.shape[2:])
    whole = weights.astype(np.int64) - zeros.reshape(-1, *([1] * (weights.ndim - 1)))
    if weights.ndim == 3:
        whole = whole[:, :, None, :]
    kind = "depthwise" if groups == x.dims[0] and groups > 1 else "conv"
    return filtered(graph, x, whole.transpose(2, 3, 1, 0), (len(weights), *sides), IMAGE, kind, window=window, groups=groups)


def filtered(graph: Graph, x: Codes, weights: np.ndarray, dims: tuple[int, ...], layout: str, kind: str,
             **options: Any) -> Sums:
    """Sums of a convolution whose weights int64 [rows, columns, in channels / groups, channels] have no zero point left."""
    weights = np.ascontiguousarray(weights).astype(np.int32)
    low, high = prefix_bounds(weights, x.form)
    least, most = whole_range(int(low.min()), int(high.max()))
    shift = x.zero * weights.sum((0, 1, 2), dtype=np.int64)
    start = options.get("start")
    more = np.zeros(1, np.int64) if start is None else start

    def emit(name: str, requant: Any, form: IntFormat | None, zero: int, scale: float) -> str:
        return graph.build.conv(name, x.op, weights, requant, form, kind=kind, zero=zero, scale=scale, **options)

    bounds = least - int(shift.max()) + int(more.min()), most - int(shift.min()) + int(more.max())
    return Sums(emit, dims, layout, bounds, kind)


def requantized(graph: Graph, node: Node, sums: Sums, scales: tuple[np.float32, np.ndarray], target: Target, name: str,
                bias: np.ndarray | None = None) -> Codes:
    """Sums as codes of the rule of the profile: scales of the input, of the weights (one or per channel), and `target`'s."""
    source, weights = scales
    scale, zero, form = target
    if weights.size not in (1, sums.channels):
        raise node.fail(f"{weights.size} scales of weights for {sums.channels} channels")
    more = np.zeros(sums.channels, np.int64) if bias is None else np.broadcast_to(bias.astype(np.int64).ravel(),
                                                                                  sums.channels)
    each = np.ascontiguousarray(np.broadcast_to(weights.ravel(), sums.channels))
    rule = graph.rules(sums.kind, Ort)
    try:
        requant = rule.from_scales(source, each, scale, np.ascontiguousarray(more))
    except (NotImplementedError, AttributeError):
        raise node.fail(f"requantizer {rule.name} is not made of scales: choose another one") from None
    op = sums.emit(name, requant, form, zero, float(scale))
    return Codes(op, sums.dims, sums.layout, form, zero)


def _integers(graph: Graph, node: Node, slot: int, what: str = "weights") -> np.ndarray:
    found = graph.constant(node, slot, what)
    if found.dtype.kind not in "iu":
        raise node.fail(f"its {what} are {found.dtype}, integers are wanted")
    return found


def _bias(graph: Graph, node: Node, slot: int, channels: int) -> np.ndarray | None:
    if not graph.has(node, slot):
        return None
    bias = _integers(graph, node, slot, "bias")
    if bias.dtype != np.int32 or bias.size not in (1, channels):
        raise node.fail(f"its bias is {bias.dtype} {list(bias.shape)}, int32 for {channels} channels is wanted")
    return bias


def _target(graph: Graph, node: Node, scale: int, zero: int) -> Target:
    """What a QLinear operator says of its output; the type of the zero point is that of the codes."""
    form = graph.form(node, node.inputs[zero] if graph.has(node, zero) else "")
    graph.types[node.outputs[0]] = f"{'' if form.signed else 'u'}int{form.bits}"
    return graph.scale(node, scale), graph.zero(node, zero), form


def qlinear_conv(graph: Graph, node: Node) -> None:
    """Inputs: x, its scale, its zero point, w, its scales, its zero points, y's scale, its zero point, bias."""
    weights = _integers(graph, node, 3)
    sums = convolution(graph, node, graph.codes(node, 0, graph.zero(node, 2)), weights, graph.zeros(node, 5))
    scales = graph.scale(node, 1), graph.scales(node, 4)
    graph.give(node, requantized(graph, node, sums, scales, _target(graph, node, 6, 7), node.outputs[0],
                                 _bias(graph, node, 8, sums.channels)))


def conv_integer(graph: Graph, node: Node) -> None:
    """Inputs: x, w, x's zero point, w's zero points."""
    x = graph.codes(node, 0, graph.zero(node, 2))
    graph.types[node.outputs[0]] = "int32"
    graph.give(node, convolution(graph, node, x, _integers(graph, node, 1), graph.zeros(node, 3)))


def _product(graph: Graph, node: Node, slots: tuple[int, int, int, int]) -> Sums:
    """a b; slots of a, its zero point, b, its zero points."""
    a, a_zero, b, b_zero = slots
    left, right = graph.value(node, a), graph.value(node, b)
    if isinstance(left, np.ndarray):
        raise node.fail("its first factor is constant: only the second may be")
    codes = graph.codes(node, a, graph.zero(node, a_zero))
    if isinstance(right, np.ndarray):
        return by_matrix(graph, node, codes, _integers(graph, node, b), graph.zeros(node, b_zero))
    return by_activations(graph, node, codes, graph.codes(node, b, graph.zero(node, b_zero)))


def qlinear_matmul(graph: Graph, node: Node) -> None:
    """Inputs: a, its scale, its zero point, b, its scales, its zero points, y's scale, its zero point."""
    sums = _product(graph, node, (0, 2, 3, 5))
    graph.give(node, requantized(graph, node, sums, (graph.scale(node, 1), graph.scales(node, 4)),
                                 _target(graph, node, 6, 7), node.outputs[0]))


def matmul_integer(graph: Graph, node: Node) -> None:
    """Inputs: a, b, a's zero point, b's zero points."""
    graph.types[node.outputs[0]] = "int32"
    graph.give(node, _product(graph, node, (0, 2, 1, 3)))


def matmul_integer_to_float(graph: Graph, node: Node) -> None:
    """Inputs: a, b, their scales, their zero points, bias: float32(sum) float32(s_a s_b) + bias."""
    sums = _product(graph, node, (0, 4, 1, 5))
    value = Real(sums, (graph.scale(node, 2) * graph.scales(node, 3)).astype(np.float32).reshape(-1))
    graph.give(node, value if not graph.has(node, 6) else graph.compute(
        Node(node.title, "Add", "", node.inputs, node.outputs), (value, graph.constant(node, 6, "bias")), sums.dims))


def _operands(operator: Computed, *, most: int) -> tuple[Codes, np.float32, Any, Weights | None] | None:
    """Codes and scale of the first input of a float operator, the second, the third; None unless they are dequantized."""
    inputs = [*operator.inputs, *([None] * (most - len(operator.inputs)))]
    x, weights, bias = inputs[0], inputs[1], inputs[2] if most > 2 else None
    fits = isinstance(x, Real) and isinstance(x.codes, Codes) and x.codes.form.bits <= 8 and x.scale.size == 1 and (
        bias is None or (isinstance(bias, Weights) and bias.form.bits == 32))
    if not fits or not isinstance(weights, Weights | Real):
        return None
    form = weights.form if isinstance(weights, Weights) else getattr(weights.codes, "form", None)
    return None if form is None or form.bits > 8 else (x.codes, np.float32(x.scale[0]), weights, bias)


def _is_of_sums(bias: Weights, scales: np.ndarray) -> bool:
    """Whether ONNX Runtime takes a bias for one in units of the sums: within 1 % and 1e-6, without a zero point."""
    apart = np.abs(bias.scale.astype(np.float64).ravel() - scales)
    return not bias.zero.any() and bool((apart <= 0.999 * (0.01 * scales + 1e-6)).all())


def _fused_conv(graph: Graph, node: Node, operator: Computed, target: Target) -> Codes | None:
    found = _operands(operator, most=3)
    if found is None or not isinstance(found[2], Weights):
        return None
    x, scale, weights, bias = found
    if bias is not None and not _is_of_sums(bias, scale * weights.scale.astype(np.float32).ravel()):
        return None
    sums = convolution(graph, operator.node, x, weights.codes, weights.zero.reshape(-1))
    return requantized(graph, operator.node, sums, (scale, weights.scale.astype(np.float32)), target, node.outputs[0],
                       None if bias is None else bias.codes)


def fused_product(graph: Graph, operator: Computed) -> tuple[Sums, np.float32, np.ndarray] | None:
    """Sums, scale of the first factor and scales of the second of a float MatMul whose inputs are dequantized bytes."""
    found = _operands(operator, most=2)
    if found is None:
        return None
    a, scale, b, _ = found
    if isinstance(b, Weights):
        if b.codes.ndim < 2 or (b.scale.size > 1 and b.scale.size != b.scale.shape[-1]):
            return None
        return by_matrix(graph, operator.node, a, b.codes, b.zero), scale, b.scale.reshape(-1)
    return by_activations(graph, operator.node, a, b.codes), scale, b.scale.astype(np.float32)


def _fused_matmul(graph: Graph, node: Node, operator: Computed, target: Target) -> Codes | None:
    found = fused_product(graph, operator)
    if found is None:
        return None
    sums, scale, scales = found
    return requantized(graph, operator.node, sums, (scale, scales), target, node.outputs[0])


def _gemm(graph: Graph, operator: Computed) -> tuple[Sums, np.float32, np.ndarray] | None:
    """alpha a b + c of dequantized bytes: sums that begin with c, float32(alpha s_a), scales of b."""
    found, told = _operands(operator, most=3), operator.node.attributes
    if found is None or not isinstance(found[2], Weights):
        return None
    a, scale, b, bias = found
    if told.get("transA", 0) or (bias is not None and told.get("beta", 1.0) != 1.0) or b.codes.ndim != 2:
        return None
    turn = bool(told.get("transB", 0))
    more = None if bias is None else bias.codes
    sums = by_matrix(graph, operator.node, a, b.codes.T if turn else b.codes, b.zero.T if turn else b.zero, more)
    return sums, np.float32(told.get("alpha", 1.0)) * scale, b.scale.reshape(-1)


def _fused_gemm(graph: Graph, node: Node, operator: Computed, target: Target) -> Codes | None:
    """QGemm's output scale is float32(alpha s_a s_b / s_y)."""
    found = _gemm(graph, operator)
    return None if found is None else requantized(graph, operator.node, found[0], found[1:], target, node.outputs[0])


def float_of_sums(graph: Graph, operator: Computed) -> Real | None:
    """A MatMul or Gemm of dequantized bytes that is not quantized again: float32(sum) float32(s_a s_b)."""
    found = {"MatMul": fused_product, "Gemm": _gemm}[operator.node.kind](graph, operator)
    if found is None:
        return None
    sums, scale, scales = found
    return Real(sums, (scale * scales.astype(np.float32)).astype(np.float32).reshape(-1))


def qgemm(graph: Graph, node: Node) -> None:
    """Inputs: a, its scale, its zero point, b, its scales, its zero points, bias, y's scale, its zero point."""
    if node.attributes.get("transA", 0):
        raise node.fail("transA is not supported")
    matrix, zeros = _integers(graph, node, 3), graph.zeros(node, 5)
    matrix = matrix.T if node.attributes.get("transB", 0) else matrix
    bias = _bias(graph, node, 6, matrix.shape[-1])
    sums = by_matrix(graph, node, graph.codes(node, 0, graph.zero(node, 2)), matrix, zeros, bias)
    scale = np.float32(node.attributes.get("alpha", 1.0)) * graph.scale(node, 1)
    if graph.has(node, 7):
        graph.give(node, requantized(graph, node, sums, (scale, graph.scales(node, 4)), _target(graph, node, 7, 8),
                                     node.outputs[0]))
    else:
        graph.types[node.outputs[0]] = "float"
        graph.give(node, Real(sums, (scale * graph.scales(node, 4)).astype(np.float32).reshape(-1)))


FUSED |= {"Conv": _fused_conv, "MatMul": _fused_matmul, "Gemm": _fused_gemm}
OPERATORS = {"QLinearConv": qlinear_conv, "ConvInteger": conv_integer, "QLinearMatMul": qlinear_matmul,
             "MatMulInteger": matmul_integer, "MatMulIntegerToFloat": matmul_integer_to_float, "QGemm": qgemm}
