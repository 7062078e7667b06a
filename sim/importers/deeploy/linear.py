"""Operators with registers: Conv, Gemm, MatMul.  Images become channels last; what comes behind waits for its rounding."""

import math
from typing import Any

import numpy as np

from sim.accumulator import prefix_bounds
from sim.formats import IntFormat
from sim.importers.deeploy.model import Node
from sim.importers.deeploy.state import Padded, State, Value, scaled, shifted, spread
from sim.importers.deeploy.views import Affine, Products, View
from sim.ops.matmul import MatMulOp, product_bounds
from sim.ops.op import Window

CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1)}
"""Order of the axes of ONNX's [1, C, L] and [1, C, H, W] in a program's images."""


def conv(to: State, node: Node) -> Value:
    """Of one or two dimensions, any groups; weights and bias are constants."""
    given, weights = to.value(node, 0), to.constant(node, 1)
    rank = weights.ndim
    inside, border = to.source(node, 0) if not isinstance(given, Padded) or rank != 4 else given.view, (0, 0, 0, 0)
    if isinstance(given, Padded) and rank == 4:
        border = given.paddings
    if rank not in CHANNELS_LAST or len(inside.shape) != rank:
        raise node.refuse(f"reads a tensor of {len(inside.shape)} axes with weights of {rank}; 3 or 4 are supported")
    if inside.shape[0] != 1:
        raise node.refuse(f"reads a batch of {inside.shape[0]}: a file for one sample is supported")
    window = window_of(node, weights.shape[2:], border)
    groups = node.whole("group", 1)
    if groups < 1 or weights.shape[0] % groups or weights.shape[1] * groups != inside.shape[1]:
        raise node.refuse(f"{inside.shape[1]} channels do not fit weights {list(weights.shape)} in {groups} groups")
    source = to.image(inside, CHANNELS_LAST[rank])
    sides = window.sides(*to.build.shape(source)[:2])
    if min(sides) < 1:
        raise node.refuse(f"its window {list(window.taps)} does not fit {list(inside.shape)}")
    kind = "depthwise" if groups > 1 and groups == inside.shape[1] else "conv"
    bias = to.constant(node, 2) if to.has(node, 2) else np.zeros(weights.shape[0], np.int64)
    shape = (1, weights.shape[0], *sides[: rank - 2])
    kernel = weights.reshape(*weights.shape, 1) if rank == 3 else weights
    return products(to, source, np.transpose(kernel, (2, 3, 1, 0)), bias.reshape(-1), shape, CHANNELS_LAST[rank],
                    kind=kind, window=window, groups=groups)


def products(to: State, source: str, weights: np.ndarray, bias: np.ndarray, shape: tuple[int, ...],
             axes: tuple[int, ...], *, kind: str, window: Window | None = None, groups: int = 1) -> Affine:
    """A convolution that waits for what rounds its sums; the bias comes first or last, as the profile's rule says."""
    low, high = prefix_bounds(weights, to.build.format(source))
    first = bool(bias.any()) and to.profile.rule(kind).bias == "first"
    more: dict[str, Any] = {"start": bias} if first else {}

    def emit(name: str, requant: Any, form: IntFormat, limits: tuple[int, ...]) -> str:
        return to.build.conv(name, source, weights, requant, form, window=window, groups=groups, limits=limits, kind=kind,
                             **more)

    base = Products(emit, kind, shape, axes, low + bias * first, high + bias * first)
    affine = Affine.of(base)
    return affine if first or not bias.any() else shifted(affine, _channels(bias, base))


def _channels(values: np.ndarray, base: Products) -> np.ndarray:
    """Numbers per channel with all axes of the tensor."""
    return values.reshape([len(values) if axis == base.channel else 1 for axis in range(len(base.shape))])


def window_of(node: Node, taps: tuple[int, ...], border: tuple[int, ...] = (0, 0, 0, 0)) -> Window:
    """The window of a node, of rows alone where it has one dimension; `border` is added to its own padding."""
    rank = len(taps)
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", ""):
        raise node.refuse(f"auto_pad {node.attributes['auto_pad']!r}: paddings in numbers (NOTSET) are supported")
    given = node.numbers("kernel_shape", taps, rank)
    if given != taps:
        raise node.refuse(f"its kernel_shape {list(given)} is not that of its weights, {list(taps)}")
    strides, dilations = node.numbers("strides", (1,) * rank, rank), node.numbers("dilations", (1,) * rank, rank)
    pads = node.numbers("pads", (0,) * (2 * rank), 2 * rank)
    if min(*strides, *dilations, *taps) < 1 or min(pads) < 0:
        raise node.refuse("taps, strides and dilations are 1 or more, paddings 0 or more")
    spaced = {dilation for tap, dilation in zip(taps, dilations, strict=True) if tap > 1} or {1}
    if len(spaced) > 1:
        raise node.refuse(f"dilations {list(dilations)}: one for both sides is supported")
    if rank == 1:
        paddings = (pads[0], pads[1], 0, 0)
        return Window((taps[0], 1), (strides[0], 1), spaced.pop(), paddings)
    top, left, bottom, right = pads
    around = [own + more for own, more in zip((top, bottom, left, right), border, strict=True)]
    return Window((taps[0], taps[1]), (strides[0], strides[1]), spaced.pop(), (around[0], around[1], around[2], around[3]))


def gemm(to: State, node: Node) -> Value:
    """alpha A B + beta C; any of the factors may be transposed, C a constant or a tensor."""
    alpha, beta = node.whole("alpha", 1), node.whole("beta", 1)
    first, second = to.source(node, 0), to.value(node, 1)
    if len(first.shape) != 2:
        raise node.refuse(f"reads a tensor of {len(first.shape)} axes, 2 are supported")
    first = first.transposed((1, 0)) if node.whole("transA", 0) else first
    turned = bool(node.whole("transB", 0))
    if isinstance(second, np.ndarray):
        result: Affine | View = linear(to, node, first, second.T if turned else second)
    else:
        other = to.source(node, 1)
        result = attention(to, node, first, other.transposed((1, 0)) if turned else other)
    result = scaled(Affine.of(result), alpha)
    if not to.has(node, 2):
        return result
    if not isinstance(to.value(node, 2), np.ndarray):
        raise node.refuse("its third input must be a constant")
    return shifted(result, spread(to.constant(node, 2) * beta, result.shape))


def matmul(to: State, node: Node) -> Value:
    """Of a tensor with constant weights, or of two tensors in heads."""
    second = to.value(node, 1)
    if isinstance(second, np.ndarray) and math.prod(second.shape[:-2]) == 1 and second.ndim >= 2:
        return linear(to, node, to.source(node, 0), second.reshape(second.shape[-2:]))
    return attention(to, node, to.source(node, 0), to.source(node, 1))


def linear(to: State, node: Node, view: View, weights: np.ndarray) -> Affine:
    """The last axis of a tensor times weights [in, out]: a convolution of one pixel."""
    rank = len(view.shape)
    if weights.ndim != 2 or not rank or view.shape[-1] != weights.shape[0]:
        raise node.refuse(f"{list(view.shape)} times {list(weights.shape)} does not fit")
    axes = view.axes if view.axes[-1] == rank - 1 else tuple(range(rank))
    source = to.image(view, axes)
    return products(to, source, weights[None, None], np.zeros(weights.shape[1], np.int64),
                    (*view.shape[:-1], weights.shape[1]), axes, kind="fully_connected")


def attention(to: State, node: Node, a: View, b: View) -> Affine:
    """[heads..., T, K] times [heads..., K, N], or times [K, N] for all heads; neither is a constant."""
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
        raise node.refuse(f"{list(a.shape)} times {list(b.shape)} does not fit")
    heads, others = math.prod(a.shape[:-2]), math.prod(b.shape[:-2])
    if others == 1:
        heads, rows = 1, heads * a.shape[-2]
    elif a.shape[:-2] != b.shape[:-2]:
        raise node.refuse(f"{list(a.shape)} times {list(b.shape)}: as many heads on both sides, or one on the right, are "
                          "supported")
    else:
        rows = a.shape[-2]
    depth, columns, last = a.shape[-1], b.shape[-1], len(b.shape) - 1
    turned = (*range(last - 1), last, last - 1)
    transpose = b.lies(turned) and not b.lies(tuple(range(last + 1)))
    first = to.image(a, tuple(range(len(a.shape))), (heads, rows, depth))
    second = to.image(b, turned, (heads, columns, depth)) if transpose else to.image(
        b, tuple(range(last + 1)), (heads, depth, columns))
    forms = to.build.format(first), to.build.format(second)

    def emit(name: str, requant: Any, form: IntFormat, limits: tuple[int, ...]) -> str:
        return to.build.add(MatMulOp(
            to.build.name(name), first, (heads, rows, columns), form, second, *forms, depth, transpose,
            to.build.accumulator("matmul"), requant, limits=limits))

    low, high = product_bounds(*forms, depth)
    shape = (*a.shape[:-1], columns)
    base = Products(emit, "matmul", shape, tuple(range(len(shape))), np.full(columns, low), np.full(columns, high))
    return Affine.of(base)


OPERATORS = {"Conv": conv, "Gemm": gemm, "MatMul": matmul}
