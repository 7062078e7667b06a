"""Outputs of an ONNX graph: integers as they are, float32 as integers and what makes numbers of them."""

from typing import Any

import numpy as np

from sim.importers import ImporterError
from sim.importers.onnx.activations import _settled
from sim.importers.onnx.boundary import Outlet
from sim.importers.onnx.chain import channel_constants, evaluate, leaf
from sim.importers.onnx.graph import Graph
from sim.importers.onnx.model import Info
from sim.importers.onnx.values import Codes, Computed, Real, Sums, arranged
from sim.text import printable


def outlet(graph: Graph, info: Info) -> Outlet:
    """Where an output of the graph is in the program.  Raises ImporterError for what is no codes and no function of codes."""
    name = info.name
    if name not in graph.values:
        raise ImporterError(f"output {printable(name)[:80]}: no operator gives it" if name not in graph.model.constants
                            else f"output {printable(name)[:80]}: it is constant")
    value: Any = _settled(graph, graph.values[name], "")
    if isinstance(value, Sums):
        value = graph.raw(value, name)
    if isinstance(value, Codes):
        return Outlet(name, value.op, value.dims, value.layout, graph.batched)
    if isinstance(value, Computed) and value.node.kind == "Softmax":
        graph.notes.append(f"{printable(name)[:80]}: the softmax of the output is left out, which changes no class")
        value = _settled(graph, value.inputs[0], "")
    if isinstance(value, Computed) and value.node.kind == "DequantizeLinear":
        codes, scale, zero = value.inputs
        return Outlet(name, codes.op, codes.dims, codes.layout, graph.batched, _along(graph, codes, scale, zero))
    source = leaf(value)
    if not isinstance(source, Real):
        raise ImporterError(f"output {printable(name)[:80]}: float32 that ONNX Runtime computes in float32, whose sums depend on "
                            "their order; an output is codes, or operators of one argument on them")
    codes = source.codes if isinstance(source.codes, Codes) else graph.raw(source.codes, name)
    adapt = channel_constants(graph, codes.dims, codes.layout, 0)

    def restore(integers: np.ndarray) -> np.ndarray:
        return np.asarray(evaluate(value, source.values(integers.astype(np.int64)), lambda operator, slot, constant: np.moveaxis(
            np.atleast_1d(adapt(operator, slot, constant)), 0, -1)), np.float32)

    restore(np.zeros((1, 1, 1, codes.channels), np.int64))  # constants that do not fit are refused now
    return Outlet(name, codes.op, codes.dims, codes.layout, graph.batched, restore)


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
