"""Operators of constants, folded: exactly what ONNX defines for arrays, or refused.

An array may be weights, a bias, a scale, a zero point or a shape: integers stay integers of their type, and wrap as they do.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sim.importers.onnx.floats import FLOATS
from sim.importers.onnx.graph import Graph
from sim.importers.onnx.model import NARROW, Node
from sim.importers.onnx.values import Weights
from sim.ops.op import MAX_SIZE

MOST_FOLDED = 1 << 26
"""Numbers that operators of constants may give."""
Array = np.ndarray


def whole(graph: Graph, node: Node, slot: int, name: str) -> list[int] | None:
    """Whole numbers at an input, or as the attribute `name` of older operators; None if there are neither."""
    if not graph.has(node, slot):
        return [int(number) for number in node.attributes[name]] if name in node.attributes else None
    found = graph.constant(node, slot, name)
    if found.dtype.kind not in "iu" or found.size > 64:
        raise node.fail(f"its {name} must be a list of whole numbers")
    return [int(number) for number in found.ravel()]


def places(node: Node, axes: Sequence[int], rank: int) -> list[int]:
    """Axes, negative ones from the end, as indices that differ.  Raises ImporterError."""
    found = [axis % rank if -rank <= axis < rank else -1 for axis in axes]
    if -1 in found or len(set(found)) < len(found):
        raise node.fail(f"axes {list(axes)[:8]} of a tensor of {rank} axes")
    return found


def slices(graph: Graph, node: Node) -> list[tuple[int, int, int, int]]:
    """Axis, start, end and step of each cut of a Slice; Python's slices have ONNX's ends."""
    starts, ends = whole(graph, node, 1, "starts") or [], whole(graph, node, 2, "ends") or []
    axes = whole(graph, node, 3, "axes") or list(range(len(starts)))
    steps = whole(graph, node, 4, "steps") or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.fail("starts, ends, axes and steps of one length are wanted, and no step of 0")
    return list(zip(axes, starts, ends, steps, strict=True))


def _cut(graph: Graph, node: Node, array: Array) -> Array:
    cuts = slices(graph, node)
    chosen = [slice(None)] * array.ndim
    for place, (_, start, end, step) in zip(places(node, [cut[0] for cut in cuts], array.ndim), cuts, strict=True):
        chosen[place] = slice(start, end, step)
    return array[tuple(chosen)]


def _padded(graph: Graph, node: Node, array: Array) -> Array:
    """Negative pads cut; of modes other than "constant" they are refused, as are copies of more than the array has."""
    mode, pads = str(node.attributes.get("mode", "constant")), whole(graph, node, 1, "pads") or []
    axes = places(node, whole(graph, node, 3, "axes") or list(range(array.ndim)), array.ndim)
    if len(pads) != 2 * len(axes) or any(abs(size) > MAX_SIZE for size in pads):
        raise node.fail(f"its pads {pads[:8]} are not two for each of {len(axes)} axes")
    around, inside = [(0, 0)] * array.ndim, [slice(None)] * array.ndim
    for place, before, after in zip(axes, pads, pads[len(axes):], strict=False):
        around[place] = max(before, 0), max(after, 0)
        inside[place] = slice(max(-before, 0), max(array.shape[place] + max(before, 0) + after, 0))
    if math.prod(side + sum(pair) for side, pair in zip(array.shape, around, strict=True)) > MOST_FOLDED:
        raise node.fail(f"constants of more than {MOST_FOLDED} numbers are not folded")
    if mode == "constant":
        filler = graph.constant(node, 2, "value") if graph.has(node, 2) else np.zeros(1, array.dtype) + array.dtype.type(
            node.attributes.get("value", 0))
        if filler.size != 1 or filler.dtype != array.dtype:
            raise node.fail(f"pads {array.dtype} with {filler.size} {filler.dtype}")
        return np.pad(array, around, constant_values=filler.reshape(()))[tuple(inside)]
    few = any(max(pair) > side - (mode == "reflect") for side, pair in zip(array.shape, around, strict=True))
    if mode not in ("reflect", "edge", "wrap") or min(pads, default=0) < 0 or (few and mode != "edge"):
        raise node.fail(f"pads {pads[:8]} of mode {mode[:20]} around constants {list(array.shape)} are not supported")
    return np.pad(array, around, mode=mode)  # type: ignore[call-overload]


def _reshaped(graph: Graph, node: Node, array: Array) -> Array:
    wanted = whole(graph, node, 1, "shape") or []
    if not node.attributes.get("allowzero", 0):
        wanted = [array.shape[place] if side == 0 and place < array.ndim else side for place, side in enumerate(wanted)]
    if any(side < -1 for side in wanted):
        raise node.fail(f"a tensor {list(array.shape)} has no shape {wanted[:8]}")
    return array.reshape(wanted)


def _flat(graph: Graph, node: Node, array: Array) -> Array:
    axis = int(node.attributes.get("axis", 1))
    if not -array.ndim <= axis <= array.ndim:
        raise node.fail(f"axis {axis} of a tensor of {array.ndim} axes")
    return array.reshape(math.prod(array.shape[: axis + array.ndim if axis < 0 else axis]), -1)


def _squeezed(graph: Graph, node: Node, array: Array) -> Array:
    axes = whole(graph, node, 1, "axes")
    return np.squeeze(array, None if axes is None else tuple(places(node, axes, array.ndim)))


def _unsqueezed(graph: Graph, node: Node, array: Array) -> Array:
    axes = whole(graph, node, 1, "axes")
    if axes is None:
        raise node.fail("its axes are missing")
    return np.expand_dims(array, tuple(places(node, axes, array.ndim + len(axes))))


SHAPED: dict[str, Callable[[Graph, Node, Array], Array]] = {
    "Slice": _cut, "Pad": _padded, "Reshape": _reshaped, "Flatten": _flat, "Squeeze": _squeezed, "Unsqueeze": _unsqueezed,
    "Transpose": lambda graph, node, array: array.transpose(node.attributes.get("perm"))}
"""Operators whose first input is an array; (graph, operator, array) -> array of the same type."""


def or_folded(operator: Callable[[Graph, Node], None]) -> Callable[[Graph, Node], None]:
    """An operator of SHAPED that folds constants and leaves what is computed to `operator`."""
    def chosen(graph: Graph, node: Node) -> None:
        value = graph.value(node, 0)
        array = value.array if isinstance(value, Weights) else value
        if not isinstance(array, np.ndarray):
            operator(graph, node)
            return
        graph.types[node.outputs[0]] = "float" if isinstance(value, Weights) else graph.types.get(node.inputs[0], "uint8")
        try:
            made = np.array(SHAPED[node.kind](graph, node, array), order="C")
        except (ValueError, TypeError) as error:
            raise node.fail(f"constants do not take it ({error})"[:120]) from None
        if not made.size and array.size:
            raise node.fail("nothing is left")
        graph.give(node, made)
    return chosen


def _quotient(a: Array, b: Array) -> Array:
    """Toward 0, of integers."""
    found: Array = a // b
    return found + ((a % b != 0) & ((a < 0) != (b < 0))).astype(found.dtype)


def _between(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


_INTEGERS: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _quotient, "Neg": np.negative, "Abs": np.abs,
    "Max": lambda *x: np.maximum.reduce(np.broadcast_arrays(*x)), "Min": lambda *x: np.minimum.reduce(
        np.broadcast_arrays(*x)), "Clip": _between, "Relu": lambda x: np.maximum(x, x.dtype.type(0))}


def fold(graph: Graph, node: Node, arrays: Sequence[Array | None]) -> None:
    """An operator of arrays of one type, element by element, or a Concat."""
    known = [each for each in arrays if each is not None]
    dtype = known[0].dtype
    is_narrow = any(graph.types.get(name) in NARROW for name in node.inputs)
    if any(each.dtype != dtype for each in known) or (is_narrow and node.kind != "Concat"):
        raise node.fail(f"constants of types {', '.join(str(each.dtype) for each in known)[:60]} are not folded")
    if node.kind == "Concat":
        if sum(each.size for each in known) > MOST_FOLDED:
            raise node.fail(f"constants of more than {MOST_FOLDED} numbers are not folded")
        axis, = places(node, [int(node.attributes.get("axis", 1))], known[0].ndim)
        graph.types[node.outputs[0]] = graph.types.get(node.inputs[0], "float")
        graph.give(node, np.concatenate(known, axis))
        return
    is_folded = node.kind in FLOATS if dtype == np.float32 else node.kind in _INTEGERS and dtype.kind in "iu"
    if not is_folded or node.kind in ("BatchNormalization", "Reshape"):
        raise node.fail(f"all of its inputs are constant ({dtype}), and it is none that is folded")
    if math.prod(np.broadcast_shapes(*(each.shape for each in known))) > MOST_FOLDED:
        raise node.fail(f"constants of more than {MOST_FOLDED} numbers are not folded")
    if node.kind == "Div" and dtype.kind in "iu" and not known[1].all():
        raise node.fail("divides integers by 0")
    with np.errstate(all="ignore"):
        made = FLOATS[node.kind](node, *arrays) if dtype == np.float32 else _INTEGERS[node.kind](*arrays)
        result = np.asarray(made).astype(dtype, copy=False)
    graph.types[node.outputs[0]] = {"float32": "float"}.get(str(dtype), str(dtype))
    graph.give(node, result)


_CASTS = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 11: "float64"}


def cast_constant(graph: Graph, node: Node, array: Array) -> None:
    """Integers wrap, real numbers lose what is behind the point; those that no integer is near are refused."""
    dtype = np.dtype(_CASTS.get(int(node.attributes.get("to", 1)), "O"))
    if dtype.kind == "O":
        raise node.fail("casts of constants to float32, float64 and integers of 8 bits or more are supported")
    if dtype.kind in "iu" and array.dtype.kind == "f":
        info = np.iinfo(dtype)
        if not (np.isfinite(array).all() and (np.trunc(array) >= info.min).all() and (np.trunc(array) <= info.max).all()):
            raise node.fail(f"constants that {dtype} does not hold")
    graph.types[node.outputs[0]] = {"float32": "float", "float64": "double"}.get(str(dtype), str(dtype))
    with np.errstate(all="ignore"):
        graph.give(node, array.astype(dtype))
