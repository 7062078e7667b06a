"""Outputs of an ONNX graph: integers as they are, float32 as integers and what makes numbers of them."""

from typing import Any

import numpy as np

from sim.importers import ImporterError
from sim.importers.onnx.boundary import Outlet
from sim.importers.onnx.chain import channel_constants, evaluate, leaf
from sim.importers.onnx.graph import Graph
from sim.importers.onnx.model import Info
from sim.importers.onnx.values import Codes, Computed, Real, Sums, arranged
from sim.ops.move import MoveOp
from sim.ops.op import ProgramError
from sim.requantizers.fp32 import Fp32
from sim.text import printable


def outlet(graph: Graph, info: Info) -> Outlet:
    """Where an output of the graph is in the program.  Raises ImporterError for what is no function of codes."""
    name = info.name
    if name not in graph.values:
        raise ImporterError(f"output {printable(name)[:80]}: no operator gives it" if name not in graph.model.constants
                            else f"output {printable(name)[:80]}: it is constant")
    value: Any = graph.settle(graph, graph.values[name])
    if isinstance(value, Sums):
        value = graph.raw(value, name)
    if isinstance(value, Codes):
        value = _made(graph, value)
        return Outlet(name, value.op, value.dims, value.layout, graph.batched)
    if isinstance(value, Computed) and value.node.kind == "Softmax":
        graph.notes.append(f"{printable(name)[:80]}: the softmax of the output is left out, which changes no class")
        value = graph.settle(graph, value.inputs[0])
    if isinstance(value, Computed) and value.node.kind == "DequantizeLinear":
        codes, scale, zero = value.inputs
        codes = _made(graph, codes)
        return Outlet(name, codes.op, codes.dims, codes.layout, graph.batched, _along(graph, codes, scale, zero))
    source = leaf(value)
    if not isinstance(source, Real):
        raise ImporterError(f"output {printable(name)[:80]}: float32 that ONNX Runtime computes in float32, whose sums "
                            "depend on their order; an output is codes, or operators of one argument on them")
    if (scores := _scores(graph, value, name)) is not None:
        return scores
    codes = _made(graph, source.codes) if isinstance(source.codes, Codes) else graph.raw(source.codes, f"{name}/sums")
    adapt = channel_constants(graph, codes.dims, codes.layout, 0)

    def restore(integers: np.ndarray) -> np.ndarray:
        return np.asarray(evaluate(value, source.values(integers.astype(np.int64)), lambda operator, slot,
                                   constant: np.moveaxis(
            np.atleast_1d(adapt(operator, slot, constant)), 0, -1)), np.float32)

    restore(np.zeros((1, 1, 1, codes.channels), np.int64))  # constants that do not fit are refused now
    return Outlet(name, codes.op, codes.dims, codes.layout, graph.batched, restore)


def _scores(graph: Graph, value: Any, name: str) -> Outlet | None:
    """Sums that classes scale apart, as the numbers that they are: float32(sum) gain + offset.  None for anything else.

    Where all classes have one scale their sums say as much, and stay integers.
    """
    source, offset = value, np.zeros(1, np.float32)
    if isinstance(value, Computed) and value.node.kind == "Add":
        constants = [each for each in value.inputs if isinstance(each, np.ndarray)]
        sources = [each for each in value.inputs if isinstance(each, Real)]
        if len(constants) != 1 or len(sources) != 1:
            return None
        source, offset = sources[0], constants[0].astype(np.float32).ravel()
    if not isinstance(source, Real) or not isinstance(source.codes, Sums) or source.scale.size == offset.size == 1 \
            or offset.size not in (1, source.codes.channels) or source.zero:
        return None
    sums = source.codes
    gain = np.broadcast_to(source.scale.astype(np.float32).ravel(), sums.channels)
    if value is source and (gain <= 0).any():
        offset = np.full(1, -0.0, np.float32)  # which keeps the sign of a product of 0
    requant = Fp32(np.ascontiguousarray(gain), np.ascontiguousarray(np.broadcast_to(offset, sums.channels)),
                   np.zeros(1, np.float32))
    try:
        op = sums.emit(name, requant, None, 0, 1.0)
    except ProgramError:  # a product of activations has no numbers but codes
        return None
    return Outlet(name, op, sums.dims, sums.layout, graph.batched, lambda numbers: numbers.astype(np.float32))


def _made(graph: Graph, codes: Codes) -> Codes:
    """Codes that an operation makes: a copy of what is an input of the program, too."""
    op = graph.build.op(codes.op)
    if not op.is_input:
        return codes
    copy = graph.build.add(MoveOp(graph.build.name(f"{codes.op}/out"), codes.op, op.shape, op.format, op.shape, (0, 1, 2),
                                  zero_point=op.zero_point), graph.build.scale(codes.op))
    return Codes(copy, codes.dims, codes.layout, codes.form, codes.zero)


def _along(graph: Graph, codes: Codes, scale: np.ndarray, zero: np.ndarray) -> Any:
    """Dequantized along an axis: constants lie as ONNX's axes do."""
    def restore(integers: np.ndarray) -> np.ndarray:
        whole = arranged(integers.astype(np.int64), codes.dims, codes.layout, graph.batched)
        numbers = (whole - zero).astype(np.float32) * scale
        laid = numbers.reshape((len(integers), *codes.dims))
        if codes.layout == "image":
            laid = np.moveaxis(laid, 1, -1)
        return laid.reshape(integers.shape)

    return restore
