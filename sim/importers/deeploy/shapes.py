"""Operators that copy: axes in another order, parts, concatenation, padding.  Most of them move nothing (views.py)."""

import itertools
import math
from dataclasses import replace

import numpy as np

from sim.importers.deeploy.linear import CHANNELS_LAST
from sim.importers.deeploy.model import ELEMENTS, Node
from sim.importers.deeploy.requant import format_for
from sim.importers.deeploy.state import Padded, State, Value
from sim.importers.deeploy.views import Affine, View
from sim.ops.concat import ConcatOp
from sim.ops.slice import SliceOp

FLOATS, WHOLES = (1, 11), (7, *ELEMENTS)
"""ONNX's numbers of types that hold the integers of a network: float32 and float64; int64 and narrower ones."""


def constant(to: State, node: Node) -> Value:
    """Its value."""
    value = node.attributes.get("value", node.attributes.get("value_ints", node.attributes.get("value_int")))
    if isinstance(value, int | tuple):
        value = np.array(value, np.int64)
    if not isinstance(value, np.ndarray):
        raise node.refuse("its value must be a tensor of whole numbers")
    return value


def same(to: State, node: Node) -> Value:
    """Identity and Dropout."""
    return to.value(node, 0)


def cast(to: State, node: Node) -> Value:
    """To a type of integers or floats that holds the values; quotients of integers are integers."""
    kind, value = node.whole("to"), to.value(node, 0)
    if kind not in (*FLOATS, *WHOLES):
        raise node.refuse(f"casts to ONNX's type {kind}; float32, float64 and integers are supported")
    if kind in WHOLES:
        to.wholes.add(node.outputs[0])
    if isinstance(value, Affine) and value.divisor > 1:
        if kind in WHOLES and not value.floored:
            raise node.refuse("casts a quotient that nothing rounded")
    elif kind in ELEMENTS:
        low, high = to.source(node, 0).bounds
        bits, signed = ELEMENTS[kind]
        if low < (-(1 << (bits - 1)) if signed else 0) or high >= 1 << (bits - signed):
            raise node.refuse(f"casts {low} .. {high} to {bits} bits")
    return value


def transpose(to: State, node: Node) -> Value:
    """Nothing moves until an operation wants it."""
    value = to.value(node, 0)
    rank = value.ndim if isinstance(value, np.ndarray) else len(value.shape)
    order = node.numbers("perm", tuple(range(rank))[::-1], rank)
    if sorted(order) != list(range(rank)):
        raise node.refuse(f"its perm {list(order)} is no order of {rank} axes")
    return value.transpose(order) if isinstance(value, np.ndarray) else to.source(node, 0).transposed(order)


def reshape(to: State, node: Node) -> Value:
    """To a constant shape, with at most one -1; 0 keeps a side."""
    wanted = to.constant(node, 1).ravel().tolist()
    shape = _shape_of(to, node)
    sides = [shape[axis] if side == 0 and axis < len(shape) else side for axis, side in enumerate(wanted)]
    known = math.prod(side for side in sides if side != -1)
    if sides.count(-1) > 1 or min(sides, default=1) < -1 or known < 1 or math.prod(shape) % known:
        raise node.refuse(f"{list(shape)} cannot become {wanted}")
    return _reshaped(to, node, tuple(math.prod(shape) // known if side == -1 else side for side in sides))


def flatten(to: State, node: Node) -> Value:
    """Two axes: those before `axis`, and the rest."""
    shape = _shape_of(to, node)
    axis = _axis(node, node.whole("axis", 1), len(shape) + 1)
    return _reshaped(to, node, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def squeeze(to: State, node: Node) -> Value:
    """Without some sides of 1; `axes` are an attribute or an input."""
    shape = _shape_of(to, node)
    every = tuple(axis for axis, side in enumerate(shape) if side == 1)
    axes = {_axis(node, axis, len(shape)) for axis in _axes(to, node, every)}
    if any(shape[axis] != 1 for axis in axes):
        raise node.refuse(f"{list(shape)} has not sides of 1 at {sorted(axes)}")
    return _reshaped(to, node, tuple(side for axis, side in enumerate(shape) if axis not in axes))


def unsqueeze(to: State, node: Node) -> Value:
    """With more sides of 1."""
    shape, given = list(_shape_of(to, node)), _axes(to, node, ())
    for axis in sorted(_axis(node, axis, len(shape) + len(given)) for axis in given):
        shape.insert(axis, 1)
    return _reshaped(to, node, tuple(shape))


def _shape_of(to: State, node: Node) -> tuple[int, ...]:
    return tuple(to.value(node, 0).shape)


def _axes(to: State, node: Node, default: tuple[int, ...]) -> tuple[int, ...]:
    if to.has(node, 1):
        return tuple(to.constant(node, 1).ravel().tolist())
    return node.numbers("axes", default)


def _axis(node: Node, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise node.refuse(f"axis {axis} of {rank}")
    return axis % rank


def _reshaped(to: State, node: Node, shape: tuple[int, ...]) -> Value:
    value = to.value(node, 0)
    if math.prod(shape) != math.prod(value.shape):
        raise node.refuse(f"{list(value.shape)} cannot become {list(shape)}")
    if isinstance(value, np.ndarray):
        return value.reshape(shape)
    view = to.source(node, 0)
    return to.laid(view, tuple(range(len(view.shape)))).reshaped(shape)


def slices(to: State, node: Node) -> Value:
    """Starts and stops are attributes (before opset 10) or constant inputs; steps are 1 or more."""
    if to.has(node, 1):
        starts, stops = (tuple(to.constant(node, index).ravel().tolist()) for index in (1, 2))
        axes = tuple(to.constant(node, 3).ravel().tolist()) if to.has(node, 3) else tuple(range(len(starts)))
        steps = tuple(to.constant(node, 4).ravel().tolist()) if to.has(node, 4) else (1,) * len(starts)
    else:
        starts, stops = node.numbers("starts", ()), node.numbers("ends", ())
        axes, steps = node.numbers("axes", tuple(range(len(starts)))), (1,) * len(starts)
    if not len(starts) == len(stops) == len(axes) == len(steps):
        raise node.refuse("as many starts, ends, axes and steps are wanted")
    view = to.source(node, 0)
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        place = _axis(node, axis, len(view.shape))
        if step < 1:
            raise node.refuse(f"step {step}: steps of 1 or more are supported")
        begin, end, _ = slice(start, stop, step).indices(view.shape[place])
        view = part(to, node, view, place, begin, end, step)
    return view


def part(to: State, node: Node, view: View, axis: int, start: int, stop: int, step: int = 1) -> View:
    """Of one axis, wherever it lies in memory: what is before and behind it makes the other sides of an image."""
    if not 0 <= start < stop <= view.shape[axis]:
        raise node.refuse(f"{start}:{stop} of a side of {view.shape[axis]} is empty")
    if (start, stop, step) == (0, view.shape[axis], 1):
        return view
    place = view.axes.index(axis)
    stored = view.stored
    before, behind = math.prod(stored[:place]), math.prod(stored[place + 1 :])
    source = to.image(view, None, (before, stored[place], behind))
    count = -(-(stop - start) // step)
    op = SliceOp(to.build.name(node.outputs[0]), source, (before, count, behind), to.build.format(source),
                 (0, start, 0), (before, stop, behind), (1, step, 1))
    return replace(view, op=to.build.add(op), shape=(*view.shape[:axis], count, *view.shape[axis + 1 :]))


def gather(to: State, node: Node) -> Value:
    """Constant indices at even distances along one axis; a single one without axes takes the axis away."""
    indices, value = to.constant(node, 1), to.value(node, 0)
    axis = _axis(node, node.whole("axis", 0), len(value.shape))
    if isinstance(value, np.ndarray):
        return np.take(value, indices, axis)
    view = to.source(node, 0)
    side = view.shape[axis]
    if indices.ndim > 1 or not indices.size or (indices < -side).any() or (indices >= side).any():
        raise node.refuse(f"indices {indices.ravel().tolist()[:8]} of a side of {side}")
    numbers = (indices.ravel() % side).tolist()
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    if step < 1 or any(b - a != step for a, b in itertools.pairwise(numbers)):
        raise node.refuse(f"indices {numbers[:8]}: rising ones at even distances are supported")
    found = part(to, node, view, axis, numbers[0], numbers[-1] + 1, step)
    if indices.ndim:
        return found
    return to.laid(found, tuple(range(len(found.shape)))).reshaped((*found.shape[:axis], *found.shape[axis + 1 :]))


def concat(to: State, node: Node) -> Value:
    """Along any axis; codes of several widths get the format that holds all."""
    values = [to.value(node, index) for index in range(len(node.inputs))]
    rank = len(values[0].shape)
    axis = _axis(node, node.whole("axis"), rank)
    if all(isinstance(value, np.ndarray) for value in values):
        return np.concatenate([value for value in values if isinstance(value, np.ndarray)], axis)
    views = [to.source(node, index) for index, value in enumerate(values) if 0 not in value.shape]
    if any(len(view.shape) != rank or any(view.shape[a] != views[0].shape[a] for a in range(rank) if a != axis)
           for view in views):
        raise node.refuse(f"shapes {[list(view.shape) for view in views]} differ elsewhere than along axis {axis}")
    if len(views) == 1:
        return views[0]
    if not views:
        raise node.refuse("reads nothing but tensors without numbers")
    bounds = min(view.bounds[0] for view in views), max(view.bounds[1] for view in views)
    forms = [to.build.format(view.op) for view in views]
    form = format_for(min(form.min for form in forms), max(form.max for form in forms))
    views = [view if kind == form else to.finish(f"{view.op}.wide", Affine.of(view), form, rounding="exact")
             for view, kind in zip(views, forms, strict=True)]
    axes, place = views[0].axes, views[0].axes.index(axis)
    shape = (*views[0].shape[:axis], sum(view.shape[axis] for view in views), *views[0].shape[axis + 1 :])
    whole = View("", shape, axes, bounds)
    before, behind = math.prod(whole.stored[:place]), math.prod(whole.stored[place + 1 :])
    sources = [to.image(view, axes, (before, view.shape[axis], behind)) for view in views]
    op = ConcatOp(to.build.name(node.outputs[0]), sources[0], (before, shape[axis], behind), form, tuple(sources[1:]),
                  np.zeros(0, form.dtype), (), (), axis=1)
    return replace(whole, op=to.build.add(op))


def pad(to: State, node: Node) -> Value:
    """Zeros around an image or a signal; a convolution that follows has them as its own padding."""
    view = to.source(node, 0)
    rank = len(view.shape)
    if node.attributes.get("mode", "constant") != "constant":
        raise node.refuse(f"mode {node.attributes['mode']!r}, constant is supported")
    pads = tuple(to.constant(node, 1).ravel().tolist()) if to.has(node, 1) else node.numbers("pads", (0,) * (2 * rank))
    if (to.has(node, 2) and to.constant(node, 2).any()) or node.attributes.get("value", 0) != 0:
        raise node.refuse("its value must be 0")
    if len(pads) != 2 * rank or min(pads) < 0:
        raise node.refuse(f"pads {list(pads)[:16]}: {2 * rank} numbers of 0 or more are supported")
    if not any(pads):
        return view
    if rank not in CHANNELS_LAST or any(pads[axis] or pads[rank + axis] for axis in (0, 1)):
        raise node.refuse("pads other axes than those of an image [N, C, H, W] or a signal [N, C, L]")
    begin, end = pads[2:rank], pads[rank + 2 :]
    paddings = (begin[0], end[0], begin[1], end[1]) if rank == 4 else (begin[0], end[0], 0, 0)
    shape = tuple(side + pads[axis] + pads[rank + axis] for axis, side in enumerate(view.shape))
    return Padded(to.laid(view, CHANNELS_LAST[rank]), shape, paddings)


OPERATORS = {
    "Cast": cast, "Concat": concat, "Constant": constant, "Dropout": same, "Flatten": flatten, "Gather": gather,
    "Identity": same, "Pad": pad, "Reshape": reshape, "Slice": slices, "Squeeze": squeeze, "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
