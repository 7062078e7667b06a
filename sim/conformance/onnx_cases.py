"""ONNX's own backend tests of quantization: NAME.onnx with NAME.npz, arrays in0, ... and out0, ... in the graph's order.

Scales, zero points and weights are inputs of these graphs; a program has them as constants, so all inputs but the first
become some here.  A graph of one quantizer alone is no program, as its codes come from or go to real numbers outside: there
codes go to real numbers and back once more, which changes none and makes a program of it.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sim.conformance.case import Case, Golden, UnsupportedError
from sim.conformance.folder import Folder, read_archive
from sim.conformance.networks import refusing
from sim.importers.onnx import convert
from sim.importers.onnx.model import NARROW, model_of, proto
from sim.profiles import profile

PROFILE = "onnxruntime"
QUANTIZE, RESTORE = "QuantizeLinear", "DequantizeLinear"
REAL, AGAIN = "real", "again"


def find(folder: Folder) -> Iterator[Case]:
    """Models beside an archive of their name with in0 and out0."""
    models = set(folder.ending(".onnx"))
    for path, names in folder.archives.items():
        model = path.with_suffix(".onnx")
        if names >= {"in0", "out0"} and model in models:
            operation = path.stem.removeprefix("test_").partition("_")[0]
            yield Case(path.stem, operation, refusing(partial(_make, model, path)))


def _make(model: Path, path: Path) -> Golden:
    arrays = read_archive(path)
    content = proto(model)
    graph = content.graph
    inputs, outputs = list(graph.input), list(graph.output)
    if any(f"in{index}" not in arrays for index in range(len(inputs))):
        raise UnsupportedError(f"it has {len(inputs)} inputs, not all of them are stored")
    given = {value.name: _numbers(arrays[f"in{index}"], value) for index, value in enumerate(inputs)}
    expected = {value.name: _numbers(arrays[f"out{index}"], value) for index, value in enumerate(outputs)
                if f"out{index}" in arrays}
    for value in inputs[1:]:
        graph.input.remove(value)
        graph.initializer.append(_constant(value, given[value.name]))
    first = inputs[0].name
    if [node.op_type for node in graph.node] in ([QUANTIZE], [RESTORE]):
        _go_round(graph)
    done = convert(model_of(content, model.parent), profile(PROFILE))
    outlets = {outlet.name: outlet for outlet in done.outlets}
    expected = {outlet: array for outlet, array in zip(outlets, expected.values(), strict=True)}
    return Golden(PROFILE, done.program, done.accept({first: given[first]}), expected,
                  {name: outlet.op for name, outlet in outlets.items()},
                  {name: outlet.give for name, outlet in outlets.items()})


def _go_round(graph: Any) -> None:
    """Codes of a quantizer restored and quantized again, by the scale 1 and the zero point 0."""
    from onnx import TensorProto, helper

    (node,) = graph.node
    value = graph.output[0] if node.op_type == QUANTIZE else graph.input[0]
    graph.initializer.append(helper.make_tensor("one", TensorProto.FLOAT, (), [1.0]))
    graph.initializer.append(helper.make_tensor("nothing", value.type.tensor_type.elem_type, (), [0]))
    restore = helper.make_node(RESTORE, [value.name, "one", "nothing"], [REAL])
    quantize = helper.make_node(QUANTIZE, [REAL, "one", "nothing"], [AGAIN])
    if node.op_type == QUANTIZE:
        graph.node.extend([restore, quantize])
        graph.output[0].name = AGAIN
    else:
        node.input[0] = AGAIN
        graph.node.insert(0, quantize)
        graph.node.insert(0, restore)


def _numbers(array: np.ndarray, value: Any) -> np.ndarray:
    """An array as it is, or integers of the bytes without a type as which archives keep codes of few bits."""
    if array.dtype.kind != "V":
        return array
    from onnx import TensorProto

    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    if kind not in NARROW or array.dtype.itemsize != 1:
        raise UnsupportedError(f"numbers of the type {kind}")
    bits, is_signed = NARROW[kind]
    codes = array.view(np.uint8).astype(np.int16) & ((1 << bits) - 1)
    half = (1 << (bits - 1)) * is_signed
    return ((codes ^ half) - half).astype(np.int8 if is_signed else np.uint8)


def _constant(value: Any, array: np.ndarray) -> Any:
    from onnx import helper

    kind = value.type.tensor_type.elem_type
    return helper.make_tensor(value.name, kind, array.shape, array.ravel().tolist())
