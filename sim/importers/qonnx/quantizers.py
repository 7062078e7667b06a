"""Quant, BipolarQuant, Trunc and MultiThreshold: each closes the float operators before it, as exact levels of sums."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.importers.onnx.boundary import Inlet
from sim.importers.onnx.chain import as_they_are, close, evaluate, leaf
from sim.importers.onnx.graph import Graph
from sim.importers.onnx.model import Node
from sim.importers.onnx.values import IMAGE, MOST_BITS, PLAIN, Codes, Outside, Real, Value, Weights, stored_shape
from sim.importers.qonnx.rounding import ROUNDINGS, Grid, bipolar, quantized, truncated


def _number(graph: Graph, node: Node, slot: int, what: str) -> float:
    found = graph.constant(node, slot, what)
    if found.size != 1 or not np.isfinite(found).all():
        raise node.fail(f"its {what} must be one number")
    return float(found.reshape(()))


def _bits(graph: Graph, node: Node, slot: int) -> int:
    bits = _number(graph, node, slot, "bit width")
    if bits != int(bits) or not 1 <= bits <= MOST_BITS:
        raise node.fail(f"a bit width of {bits:g}, 1 to {MOST_BITS} are supported")
    return int(bits)


def _rounding(node: Node, default: str) -> str:
    mode = str(node.attributes.get("rounding_mode", default)).upper()
    if mode not in ROUNDINGS:
        raise node.fail(f"rounding_mode {mode[:20]!r} is unknown, supported are {', '.join(ROUNDINGS)}")
    return mode


def quant(graph: Graph, node: Node) -> None:
    """Inputs: x, scale, zero point, bit width."""
    scale, zero = graph.scales(node, 1), graph.constant(node, 2, "zero point").astype(np.float32)
    grid = Grid(_bits(graph, node, 3), bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 1)))
    if not np.isfinite(zero).all() or (zero != np.rint(zero)).any():
        raise node.fail("its zero point is no whole number")
    mode = _rounding(node, "ROUND")
    _closed(graph, node, lambda x, s, z: quantized(x, s, z, grid, mode), scale, zero, grid.form)


def bipolar_quant(graph: Graph, node: Node) -> None:
    """Inputs: x, scale.  The sign, 1 for 0."""
    _closed(graph, node, lambda x, s, z: bipolar(x), graph.scales(node, 1), np.zeros((), np.float32), IntFormat(2, True,
                                                                                                                True))


def trunc(graph: Graph, node: Node) -> None:
    """Inputs: x, scale, zero point, bit width, output bit width; or with an output scale before the last."""
    scale, zero = graph.scales(node, 1), graph.constant(node, 2, "zero point").astype(np.float32)
    bits, mode = _bits(graph, node, 3), _rounding(node, "FLOOR")
    if (zero != 0).any():
        raise node.fail("a zero point that is not 0 is not supported")
    if graph.has(node, 5):
        out_scale, out_bits = graph.scales(node, 4), _bits(graph, node, 5)
        shifts = np.unique(np.round(np.log2(out_scale / scale)))
        if shifts.size != 1:
            raise node.fail("scales that are more than one power of two apart are not supported")
        grid = Grid(out_bits, bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0)))
        factor, ends, form = float(2.0 ** shifts[0]), grid.ends, grid.form
    else:
        out_scale, out_bits = scale, _bits(graph, node, 4)
        factor, ends, form = float(2.0 ** (bits - out_bits)), None, IntFormat(min(MOST_BITS, out_bits + 1), True)
    _closed(graph, node, lambda x, s, z: truncated(x, s, z, factor, ends, mode), scale, zero, form, out_scale,
            clamps=ends is not None)


def multi_threshold(graph: Graph, node: Node) -> None:
    """Inputs: x, thresholds [channels or 1, n]: out_scale (how many x has reached) + out_bias."""
    levels = graph.constant(node, 1, "thresholds").astype(np.float32)
    scale, bias = float(node.attributes.get("out_scale", 1.0)), float(node.attributes.get("out_bias", 0.0))
    if levels.ndim != 2 or not levels.size or np.isnan(levels).any():
        raise node.fail(f"its thresholds are {list(levels.shape)}, one row for each channel is wanted")
    unit = 1.0 if scale == int(scale) and bias == int(bias) else scale
    step, offset = scale / unit, bias / unit
    if not scale > 0 or step != int(step) or offset != int(offset):
        raise node.fail(f"out_scale {scale:g} and out_bias {bias:g} give no integers of one scale")
    layout = str(node.attributes.get("data_layout", ""))
    value = graph.value(node, 0)
    rank = len(getattr(value, "dims", ())) + graph.batched
    if layout and layout.index("C") != 1 and rank > 2:
        raise node.fail(f"data_layout {layout[:8]!r} is not supported, NCHW is")
    low, high = int(offset), int(offset + step * levels.shape[1])
    rows = len(levels)

    def counted(axis: int) -> Rule:
        """Of numbers whose channels, all or one for all, are along an axis."""
        def rule(x: np.ndarray, s: np.ndarray, z: np.ndarray) -> np.ndarray:
            sides = [rows if place == axis else 1 for place in range(x.ndim)]
            whole = np.zeros(np.broadcast_shapes(x.shape, sides), np.int64)
            for level in levels.T:
                whole += x >= level.reshape(sides)
            return whole * int(step) + low
        return rule

    _closed(graph, node, counted(1), np.ones(1, np.float32), np.zeros((), np.float32), IntFormat.holding(low, high),
            np.array([unit], np.float32), by_channel=(counted(0), rows))


def _check_rows(graph: Graph, node: Node, rows: int, value: Value) -> None:
    """Raise ImporterError unless there is one row of thresholds, or one for each index of axis 1, the channels."""
    source = leaf(value)
    known: Any = value if source is None else source
    dims = value.shape if isinstance(value, np.ndarray) else (*([1] * graph.batched), *known.dims)
    is_last = isinstance(source, Real) and source.codes.layout != IMAGE
    if rows > 1 and (len(dims) < 2 or dims[1] != rows or (is_last and len(dims) > 2)):
        raise node.fail(f"{rows} rows of thresholds for a tensor of the sides {list(dims)}: one is wanted, or one for each "
                        "of its channels, which are axis 1 of an image or of [N, channels]")


Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(float32, scale, zero point) -> codes."""


def _closed(graph: Graph, node: Node, rule: Rule, scale: np.ndarray, zero: np.ndarray, form: IntFormat,
            out_scale: np.ndarray | None = None, clamps: bool = True, by_channel: "tuple[Rule, int] | None" = None) -> None:
    """What the quantizer gives: constants, an input of codes, or codes of what is before it.

    `by_channel`: where `rule`, for whole ONNX tensors, is another for numbers [channels or 1, ...], that, and how many
    channels it knows (1: any).  A rule that does not clamp may leave the declared form: then the codes have one that holds
    all that can come.
    """
    step, (inside, rows) = scale if out_scale is None else out_scale, by_channel or (rule, 1)
    value = graph.value(node, 0)
    graph.types[node.outputs[0]] = "float"
    if isinstance(value, Weights):
        value = value.array
    if isinstance(value, np.ndarray):
        _check_rows(graph, node, rows, value)
        if value.dtype.kind != "f":
            raise node.fail(f"reads constants of type {value.dtype}")
        codes = rule(value.astype(np.float32), scale, zero)
        held = form if clamps else IntFormat.holding(int(codes.min(initial=0)), int(codes.max(initial=0)))
        graph.give(node, Weights(codes, step, zero.astype(np.int64), held))
        return
    if zero.size != 1 or step.size != 1:
        raise node.fail("activations with scales or zero points for each channel are not supported")
    point = int(zero.reshape(()))
    start = leaf(value)
    made: Codes | None
    if isinstance(start, Outside):
        _check_rows(graph, node, rows, value)
        made = _from_outside(graph, value, start, lambda x: rule(x, scale, zero), form, point, float(step.reshape(())))
    else:
        flat, value = (scale.reshape(()), zero.reshape(())), graph.settle(graph, value)
        _check_rows(graph, node, rows, value)
        made = close(graph, node, value, lambda x: inside(x, *flat), form if clamps else None,
                     _held(form, point), float(step.reshape(())), node.outputs[0])
        if made is None:
            raise node.fail("what it quantizes is no function of one sum of quantized activations and quantized weights: "
                            "matrix products, convolutions, and behind them operators with constants that never turn back")
    graph.shown[node.outputs[0]] = made
    graph.give(node, Real(made, step.astype(np.float32).reshape(1), point))


def _held(form: IntFormat, zero: int) -> int:
    """The code that borders hold: the zero point where it is a code, else none has it."""
    return zero if form.min <= zero <= form.max else 0


def _from_outside(graph: Graph, value: Value, start: Outside, final: Callable[[np.ndarray], np.ndarray], form: IntFormat,
                  zero: int, scale: float) -> Codes:
    """An input of codes, and what its user's array goes through before."""
    dims = tuple(value.dims)  # type: ignore[union-attr]
    layout = IMAGE if len(dims) == 3 and graph.batched else PLAIN
    op = graph.build.codes_input(start.name, stored_shape(dims, layout), form, scale, _held(form, zero))
    codes = Codes(op, dims, layout, form, _held(form, zero))

    def accept(array: np.ndarray) -> np.ndarray:
        return final(evaluate(value, np.asarray(array, np.float32), as_they_are))

    graph.inlets[op] = Inlet(start.name, codes, graph.batched, accept)
    return codes


OPERATORS = {"Quant": quant, "IntQuant": quant, "BipolarQuant": bipolar_quant, "Trunc": trunc,
             "MultiThreshold": multi_threshold}

