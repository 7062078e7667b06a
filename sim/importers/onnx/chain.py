"""Float32 operators behind integers, closed: as a table over codes, or as exact thresholds over sums.

A chain of float operators that reads one tensor of integers is a function of each integer, apart for every channel.  Where
it never turns back, and none of those here does, it is where codes begin that says all: levels, found by bisection, each
evaluation in the float32 operations of the model itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.importers.onnx.floats import FLOATS, MONOTONE
from sim.importers.onnx.graph import Graph
from sim.importers.onnx.model import Node
from sim.importers.onnx.values import IMAGE, MOST_BITS, Codes, Computed, Dims, Outside, Real, Sums, stored_shape
from sim.ops.requantize import TableOp
from sim.ops.rescale import RescaleOp
from sim.requantizers.thresholds import NEVER, Thresholds

MOST_TABLE_BITS = 16
MOST_NUMBERS = 1 << 24
"""Evaluated at once."""
MOST_LEVELS = 1 << 22
Function = Callable[[np.ndarray], np.ndarray]
"""Integers [channels or 1, ...] -> int64 codes [channels, ...]: channels come first, so that constants stand still."""


def leaf(value: Any) -> Real | Outside | None:
    """The one thing that a chain of float operators reads; None if it is none or several, or an operator is no chain's."""
    found: dict[int, Real | Outside] = {}
    waiting, seen = [value], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Real | Outside):
            found[id(each)] = each
        elif isinstance(each, Computed):
            if each.node.kind not in FLOATS:
                return None
            waiting.extend(each.inputs)
    return next(iter(found.values())) if len(found) == 1 else None


def never_turns(value: Any) -> bool:
    """Whether each operator of a chain reads what is computed once, as its first input, or adds or multiplies constants."""
    while isinstance(value, Computed):
        computed = [slot for slot, each in enumerate(value.inputs) if isinstance(each, Computed | Real | Outside)]
        kind = value.node.kind
        if kind not in MONOTONE or len(computed) != 1 or (kind == "Div" and computed != [0]) \
                or float(value.node.attributes.get("alpha", 1.0)) < 0:
            return False
        value = value.inputs[computed[0]]
    return True


def evaluate(value: Any, start: np.ndarray, adapt: Callable[[Computed, int, np.ndarray], np.ndarray]) -> np.ndarray:
    """float32 of a chain, given those of its leaf; `adapt(operator, slot, constant)` makes constants broadcast."""
    done: dict[int, Any] = {}
    order: list[Any] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        order.append(each)
        if isinstance(each, Computed):
            waiting.extend(part for part in each.inputs if isinstance(part, Computed))
    for each in reversed(order):
        if id(each) in done or not isinstance(each, Computed):
            continue
        arrays = [None if part is None else adapt(each, slot, part) if isinstance(part, np.ndarray)
                  else done.get(id(part), start) for slot, part in enumerate(each.inputs)]
        with np.errstate(all="ignore"):
            done[id(each)] = np.asarray(FLOATS[each.node.kind](each.node, *arrays)).astype(np.float32, copy=False)
    result: np.ndarray = done.get(id(value), start)
    return result


def as_they_are(operator: Computed, slot: int, constant: np.ndarray) -> np.ndarray:
    """Constants of operators on whole ONNX tensors broadcast already."""
    return constant


def channel_constants(graph: Graph, dims: Dims, layout: str, ahead: int) -> Callable[[Computed, int, np.ndarray],
                                                                                     np.ndarray]:
    """Constants as vectors along the channels of an operation: one number for all, or [channels] and `ahead` axes of 1.

    Raises ImporterError for constants that differ inside a channel.
    """
    def adapt(operator: Computed, slot: int, constant: np.ndarray) -> np.ndarray:
        constant = constant.astype(np.float32) if constant.dtype.kind in "iufb" else constant
        return along_channels(graph, operator.node, constant, dims, layout, ahead)
    return adapt


def along_channels(graph: Graph, node: Node, constant: np.ndarray, dims: Dims, layout: str, ahead: int) -> np.ndarray:
    """A constant of any type as a number, or as a vector along the channels of an operation."""
    if constant.size == 1:
        return constant.reshape(())
    axis = graph.batched if layout == IMAGE else len(dims) - 1 + graph.batched
    rank = len(dims) + graph.batched
    channels = dims[0] if layout == IMAGE else dims[-1] if dims else 1
    if node.kind == "BatchNormalization":
        sides: tuple[int, ...] = tuple(constant.size if place == graph.batched else 1 for place in range(rank))
    else:
        sides = (1,) * (rank - constant.ndim) + constant.shape
    if len(sides) != rank or any(side != 1 and place != axis for place, side in enumerate(sides)) \
            or constant.size != channels:
        raise node.fail(f"a constant of {list(constant.shape)} behind a tensor of {rank} axes: one number for all or one "
                        "for each channel is supported")
    return constant.reshape((channels, *([1] * ahead)))


def function_of(graph: Graph, value: Any, source: Real, final: Function, ahead: int = 1) -> Function:
    """Integers of the leaf [channels or 1, n] -> codes, through the chain and `final`."""
    codes = source.codes
    adapt = channel_constants(graph, codes.dims, codes.layout, ahead)
    scale = Real(codes, source.scale.reshape((-1, *([1] * ahead))) if source.scale.size > 1 else source.scale, source.zero)

    def function(x: np.ndarray) -> np.ndarray:
        floats = evaluate(value, scale.values(x), adapt)
        if np.isnan(floats).any():
            raise (value.node if isinstance(value, Computed) else Node("", "", "", (),
                                                                       ())).fail("some codes give no number (NaN)")
        return final(floats)

    return function


def levels_of(function: Function, channels: int, bounds: tuple[int, int], node: Node) -> Mapping[str, np.ndarray]:
    """Constants of `thresholds` for a function that never turns back, on the integers of `bounds`.

    Raises ImporterError if it does turn back where it was looked at, or has more levels than a program may hold.
    """
    low, high = bounds
    ends = np.broadcast_to(function(np.array([[low, high]], np.int64)), (channels, 2))
    first, last = ends[:, 0], ends[:, 1]
    step = np.where(last >= first, 1, -1)
    most = int(np.abs(last - first).max(initial=0))
    if most * channels > MOST_LEVELS:
        raise node.fail(f"{most} levels for each of {channels} channels are too many for exact thresholds")
    wanted = first[:, None] + step[:, None] * np.arange(1, most + 1)
    below = np.full((channels, most), low, np.int64)  # not there yet, but at least at `low`
    above = np.full((channels, most), high, np.int64)
    has = (last[:, None] - wanted) * step[:, None] >= 0
    while most and (above - below > 1).any():
        middle = below + (above - below) // 2
        reached = (function(middle) - wanted) * step[:, None] >= 0
        above, below = np.where(reached, middle, above), np.where(reached, below, middle)
    levels = np.where(has, above, NEVER).reshape(channels, most)
    if (np.diff(levels, axis=1) < 0).any():
        raise node.fail("its float operators turn back: no thresholds hold them")
    return {"levels": levels, "base": first.astype(np.int64), "step": step.astype(np.int64)}


def close(graph: Graph, node: Node, value: Any, final: Function, form: IntFormat | None, zero: int, scale: float,
          name: str) -> Codes | None:
    """Codes `final(float32)` of a chain of float operators; None if it is no chain, or turns back on wide integers.

    `form`: that of the codes, to which they are clamped; None: one that holds whatever there can be.
    """
    source = leaf(value)
    if not isinstance(source, Real):
        return None
    codes = source.codes
    wide = isinstance(codes, Sums) or codes.form.bits > MOST_TABLE_BITS or codes.channels << codes.form.bits > MOST_NUMBERS
    if not wide and isinstance(codes, Codes):
        every = np.arange(codes.form.min, codes.form.max + 1, dtype=np.int64)[None]
        table = function_of(graph, value, source, final)(every)
        if len(table) == 1 or (table == table[0]).all():
            form = form or _holding(table, node)
            looked = TableOp(graph.build.name(name), codes.op, stored_shape(codes.dims, codes.layout), form,
                             table[0].astype(form.dtype), codes.form.min, zero_point=zero)
            return Codes(graph.build.add(looked, scale), codes.dims, codes.layout, form, zero)
    if not never_turns(value):
        return None
    function = function_of(graph, value, source, final)
    form = form or _holding(function(np.array([codes.bounds], np.int64)), node)
    constants = levels_of(function, codes.channels, codes.bounds, node)
    levels, base, step = constants["levels"], constants["base"] - zero, constants["step"]
    if isinstance(codes, Sums):
        op = codes.emit(name, Thresholds(levels, base, step), form, zero, scale)
        return Codes(op, codes.dims, codes.layout, form, zero)
    levels = np.where(levels == NEVER, NEVER, levels - codes.zero)  # a rescaling reads codes less their zero point
    made = RescaleOp(graph.build.name(name), codes.op, stored_shape(codes.dims, codes.layout), form,
                     Thresholds(levels, base, step), codes.zero, zero_point=zero)
    return Codes(graph.build.add(made, scale), codes.dims, codes.layout, form, zero)


def _holding(codes: np.ndarray, node: Node) -> IntFormat:
    """The format of codes that nothing clamps, and of 0.  Raises ImporterError for codes beyond 32 bits."""
    form = IntFormat.holding(int(codes.min(initial=0)), int(codes.max(initial=0)))
    if form.bits > MOST_BITS:
        raise node.fail(f"its codes can need {form.bits} bits, and {MOST_BITS} are supported")
    return form
