"""Operators that copy: reshape, transpose, pad, slice and their kin, on codes or on float32 that is codes still."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.importers.onnx.constants import or_folded, places, slices, whole
from sim.importers.onnx.graph import BatchError, Graph, is_float
from sim.importers.onnx.model import Node
from sim.importers.onnx.values import IMAGE, PLAIN, Codes, Computed, Dims, Outside, Real, Sums, count, stored_shape
from sim.ops.op import MAX_SIZE
from sim.ops.pad import PadOp
from sim.ops.slice import SliceOp


def _apply(graph: Graph, node: Node, change: Any) -> None:
    """`change(codes, name)` on codes, or on the codes of dequantized numbers."""
    value, name = graph.value(node, 0), node.outputs[0]
    graph.types[name] = graph.types.get(node.inputs[0], "uint8")
    if isinstance(value, Codes | Sums):
        graph.give(node, change(graph.codes(node, 0), name))
    elif isinstance(value, Real):
        source = value.codes if isinstance(value.codes, Codes) else graph.raw(value.codes, node.inputs[0])
        if value.scale.size > 1:
            raise node.fail("numbers with a scale for each channel are not reordered")
        graph.give(node, Real(change(source, name), value.scale, value.zero))
    else:
        raise node.fail("float32 that are no codes are not reordered: quantize them before")


def _sides(graph: Graph, node: Node, dims: Dims) -> tuple[int, ...]:
    """The sides that a Reshape asks for, without the batch axis."""
    wanted = graph.constant(node, 1, "shape") if graph.has(node, 1) else np.array(node.attributes.get("shape", ()))
    if wanted.dtype.kind not in "iu" or wanted.ndim != 1 or wanted.size > 8:
        raise node.fail("its shape must be up to 8 whole numbers")
    listed = [int(side) for side in wanted]
    if graph.batched:
        if not listed or (listed[0] not in (0, 1, -1) and listed[0] != count(dims)):
            raise BatchError
        if listed[0] == -1 and -1 in listed[1:]:
            raise node.fail(f"its shape {listed} leaves more than one side open")
        if listed[0] not in (0, 1, -1):
            raise BatchError
        listed = listed[1:]
    keeps = not node.attributes.get("allowzero", 0)
    listed = [dims[place] if side == 0 and keeps and place < len(dims) else side for place, side in enumerate(listed)]
    known = math.prod(side for side in listed if side != -1)
    if listed.count(-1) == 1 and known > 0:
        listed[listed.index(-1)] = count(dims) // known
    if any(side < 1 for side in listed) or math.prod(listed) != count(dims):
        raise node.fail(f"a tensor {list(dims)} has no shape {listed}")
    return tuple(listed)


def _reshaped(graph: Graph, codes: Codes, dims: Dims, name: str) -> Codes:
    plain = graph.plain(codes)
    return graph.moved(plain, plain.dims, range(len(plain.dims)), dims, name)


def reshape(graph: Graph, node: Node) -> None:
    """Other sides, the same numbers in the same order."""
    value = graph.value(node, 0)
    if isinstance(value, Outside | Computed):
        dims = _sides(graph, node, value.dims)
        lead = (-1,) if graph.batched else ()
        graph.give(node, graph.compute(Node(node.title, "Reshape", "", node.inputs, node.outputs, {"to": lead + dims}),
                                       (value,), dims))
        return
    _apply(graph, node, lambda codes, name: _reshaped(graph, codes, _sides(graph, node, codes.dims), name))


def flatten(graph: Graph, node: Node) -> None:
    """Two axes: those before `axis`, those from it on."""
    axis = int(node.attributes.get("axis", 1))
    value: Any = graph.value(node, 0)
    rank = len(value.dims) + graph.batched
    if not -rank <= axis <= rank:
        raise node.fail(f"axis {axis} of a tensor of {rank} axes")
    axis = axis + rank if axis < 0 else axis
    if graph.batched and axis != 1:
        raise BatchError

    def sides(dims: Dims) -> Dims:
        return (count(dims),) if graph.batched else (count(dims[:axis]), count(dims[axis:]))

    if isinstance(value, Outside | Computed):
        lead = (-1,) if graph.batched else ()
        graph.give(node, graph.compute(Node(node.title, "Reshape", "", node.inputs, node.outputs,
                                            {"to": lead + sides(value.dims)}), (value,), sides(value.dims)))
        return
    _apply(graph, node, lambda codes, name: _reshaped(graph, codes, sides(codes.dims), name))


def squeeze(graph: Graph, node: Node) -> None:
    """Without axes of one index."""
    axes = whole(graph, node, 1, "axes")

    def sides(codes: Codes) -> Dims:
        chosen = ({place for place, side in enumerate(codes.dims) if side == 1} if axes is None
                  else {graph.axis(node, axis, codes.dims) for axis in axes})
        if any(codes.dims[place] != 1 for place in chosen):
            raise node.fail(f"an axis of {list(codes.dims)} that is more than 1")
        return tuple(side for place, side in enumerate(codes.dims) if place not in chosen)

    _apply(graph, node, lambda codes, name: _reshaped(graph, codes, sides(codes), name))


def unsqueeze(graph: Graph, node: Node) -> None:
    """With more axes of one index."""
    axes = whole(graph, node, 1, "axes")
    if axes is None:
        raise node.fail("its axes are missing")

    def sides(codes: Codes) -> Dims:
        rank = len(codes.dims) + graph.batched + len(axes)
        found = sorted(places(node, axes, rank))
        if graph.batched and 0 in found:
            raise BatchError
        if rank > 8:
            raise node.fail(f"a tensor of {rank} axes")
        dims = list(codes.dims)
        for place in found:
            dims.insert(place - graph.batched, 1)
        return tuple(dims)

    _apply(graph, node, lambda codes, name: _reshaped(graph, codes, sides(codes), name))


def transpose(graph: Graph, node: Node) -> None:
    """Axes in another order."""
    perm = node.attributes.get("perm")

    def turned(codes: Codes, name: str) -> Codes:
        rank = len(codes.dims) + graph.batched
        order = tuple(perm) if perm is not None else tuple(reversed(range(rank)))
        if sorted(order) != list(range(rank)):
            raise node.fail(f"its perm {list(order)[:8]} is no order of {rank} axes")
        if graph.batched and order[0] != 0:
            raise BatchError
        places = [axis - graph.batched for axis in order[int(graph.batched):]]
        dims = tuple(codes.dims[place] for place in places)
        if codes.layout == PLAIN:
            return graph.moved(codes, codes.dims, places, dims, name)
        lies = (*range(1, len(codes.dims)), 0)  # axes of ONNX as they lie in an image
        split = tuple(codes.dims[axis] for axis in lies)
        op = graph.build.move(name, codes.op, split, tuple(lies.index(place) for place in places), stored_shape(dims, PLAIN))
        return Codes(op, dims, PLAIN, codes.form, codes.zero)

    _apply(graph, node, turned)


def same(graph: Graph, node: Node) -> None:
    """What it reads."""
    value = graph.value(node, 0)
    graph.types[node.outputs[0]] = graph.types.get(node.inputs[0], "float")
    graph.give(node, value)


def pad(graph: Graph, node: Node) -> None:
    """Rows and columns around an image: of codes with the zero point, of float32 with 0."""
    value = graph.value(node, 0)
    pads = whole(graph, node, 1, "pads") or []
    if node.attributes.get("mode", "constant") != "constant" or graph.has(node, 3):
        raise node.fail("pads of constants along all axes are supported")
    filler = (graph.constant(node, 2, "value").ravel() if graph.has(node, 2)
              else np.array([node.attributes.get("value", 0.0)], np.float32))

    def padded(codes: Codes, name: str) -> Codes:
        wanted = 0 if is_float(value) else codes.zero
        rank = len(codes.dims) + graph.batched
        if filler.size != 1 or float(filler[0]) != wanted:
            raise node.fail(f"pads with {filler[:1]}, what stands for 0 is {wanted}")
        if len(pads) != 2 * rank or not all(0 <= size <= MAX_SIZE for size in pads):
            raise node.fail(f"its pads {pads[:8]} are not two for each of {rank} axes")
        if graph.batched and (pads[0] or pads[rank]):
            raise BatchError
        before, after = pads[int(graph.batched):rank], pads[rank + graph.batched:]
        image = codes.layout == IMAGE
        lies = (*range(1, len(codes.dims)), 0) if image else tuple(range(len(codes.dims)))
        around = [(before[axis], after[axis]) for axis in lies]
        if len(around) > 3 or around[-1:] != [(0, 0)] * len(around[-1:]):
            raise node.fail("pads of rows and columns are supported, none of channels")
        sides = [*around[:-1], (0, 0)] if len(around) == 3 else [(0, 0), *around] if image else [*around[:1], (0, 0)]
        dims = tuple(side + before[axis] + after[axis] for axis, side in enumerate(codes.dims))
        (top, bottom), (left, right) = sides[0], sides[1]
        op = graph.build.add(PadOp(graph.build.name(name), codes.op, stored_shape(dims, codes.layout), codes.form,
                                   (top, bottom, left, right), zero_point=codes.zero), graph.build.scale(codes.op))
        return Codes(op, dims, codes.layout, codes.form, codes.zero)

    _apply(graph, node, padded)


def cut(graph: Graph, node: Node) -> None:
    """Slice: starts, ends, axes, steps."""
    cuts = slices(graph, node)
    if any(step < 1 for *_, step in cuts):
        raise node.fail("steps of 1 or more are supported where codes are cut")

    def taken(codes: Codes, name: str) -> Codes:
        chosen = [range(side) for side in codes.dims]
        places(node, [cut[0] for cut in cuts], len(chosen) + graph.batched)
        for axis, start, end, step in cuts:
            place = graph.axis(node, axis, codes.dims)
            chosen[place] = range(codes.dims[place])[slice(start, end, step)]
        if not all(chosen):
            raise node.fail("nothing is left")
        if len(chosen) > 3 and codes.layout == PLAIN:
            raise node.fail(f"a tensor of {len(chosen)} axes is not cut")
        dims = tuple(map(len, chosen))
        lies = (*range(1, len(chosen)), 0) if codes.layout == IMAGE else tuple(range(len(chosen)))
        laid = [chosen[axis] for axis in lies]
        one = range(1)
        laid = [*[one] * (3 - len(laid)), *laid] if codes.layout == IMAGE or len(laid) < 2 else laid if len(laid) == 3 \
            else [laid[0], one, laid[1]]
        op = graph.build.add(SliceOp(graph.build.name(name), codes.op, stored_shape(dims, codes.layout), codes.form,
                                     *_triples(laid), zero_point=codes.zero),
                             graph.build.scale(codes.op))
        return Codes(op, dims, codes.layout, codes.form, codes.zero)

    _apply(graph, node, taken)


def _triples(ranges: Sequence[range]) -> tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]:
    """Starts, ends and steps of three axes."""
    a, b, c = ranges
    return (a.start, b.start, c.start), (a[-1] + 1, b[-1] + 1, c[-1] + 1), (a.step, b.step, c.step)


OPERATORS = {**{kind: or_folded(operator) for kind, operator in {
    "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose, "Pad": pad,
    "Slice": cut}.items()}, "Identity": same, "Dropout": same}
