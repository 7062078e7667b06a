"""An ONNX file as plain Python values: sizes are checked first, nothing in it runs, no reference leaves its folder."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim.importers import ImporterError
from sim.importers.proto import MOST_BYTES, read_proto
from sim.ops.op import MAX_NUMBERS
from sim.text import printable

MOST_NODES = 1 << 16
NUMBERS = {"float", "double", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
           "int4", "uint4", "int2", "uint2"}
"""Types of tensors that can be read; floats of 8 and 4 bits and of other kinds are no integers and no float32."""
NARROW = {"int4": (4, True), "uint4": (4, False), "int2": (2, True), "uint2": (2, False)}


@dataclass(frozen=True)
class Constant:
    """An array in the file and the ONNX type of its elements; codes of 4 and 2 bits are held in a byte each."""

    array: np.ndarray
    type: str


@dataclass(frozen=True)
class Info:
    """A tensor of the graph's surface: its sides, None where they are free, and the ONNX type of its elements."""

    name: str
    dims: tuple[int | None, ...]
    type: str


@dataclass(frozen=True)
class Node:
    """An operator: `title` is how messages call it, `inputs` are names, empty where an optional one is left out."""

    title: str
    kind: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def fail(self, message: str) -> ImporterError:
        """The error that this operator cannot be taken, to raise."""
        return ImporterError(f"{self.kind} {self.title}: {message}")


@dataclass(frozen=True)
class Model:
    """A graph: operators in order, constants by name, what goes in and comes out, the version of the operators.

    `annotations` are QONNX's types of tensors by name, such as "BIPOLAR".
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    inputs: tuple[Info, ...]
    outputs: tuple[Info, ...]
    opset: int
    annotations: Mapping[str, str]


def load(path: Path) -> Model:
    """The graph of an ONNX file.  Raises ImporterError for what is damaged, hostile or not supported, OSError."""
    return model_of(proto(path), path.parent)


def proto(path: Path) -> Any:
    """The onnx.ModelProto of a file, without arrays that lie in other files."""
    found = read_proto(path)
    if not found.graph.node:
        raise ImporterError("an ONNX model without any operator")
    return found


def model_of(model: Any, folder: Path) -> Model:
    """The same of an onnx.ModelProto; arrays outside it are read from `folder` and nowhere else."""
    try:
        return _model(model, folder)
    except ImporterError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, UnicodeError) as error:
        raise ImporterError(f"a damaged ONNX model ({printable(str(error))[:120]})") from None


def _model(model: Any, folder: Path) -> Model:
    graph = model.graph
    if len(graph.node) > MOST_NODES:
        raise ImporterError(f"{len(graph.node)} operators, at most {MOST_NODES} are taken")
    if graph.sparse_initializer or model.functions:
        raise ImporterError("sparse arrays and functions of a model's own are not supported")
    constants = {tensor.name: constant_of(tensor, folder) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" and not node.domain:
            constants[node.output[0]] = _constant_node(node, folder)
        else:
            nodes.append(_node(node, folder))
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return Model(tuple(nodes), constants, tuple(_info(value) for value in graph.input if value.name not in constants),
                 tuple(_info(value) for value in graph.output), max(opsets, default=1), dict(_annotations(graph)))


def _annotations(graph: Any) -> Iterable[tuple[str, str]]:
    for entry in graph.quantization_annotation:
        for part in entry.quant_parameter_tensor_names:
            if part.key == "finn_datatype":
                yield entry.tensor_name, part.value


def _node(node: Any, folder: Path) -> Node:
    title = printable(node.name or (node.output[0] if node.output else "") or "without a name")[:80]
    made = Node(title, printable(node.op_type)[:80], node.domain, tuple(node.input), tuple(node.output))
    attributes = {entry.name: _attribute(made, entry, folder) for entry in node.attribute}
    return Node(made.title, made.kind, made.domain, made.inputs, made.outputs, attributes)


def _attribute(node: Node, entry: Any, folder: Path) -> Any:
    read = {1: lambda: float(entry.f), 2: lambda: int(entry.i), 3: lambda: entry.s.decode(errors="replace"),
            4: lambda: constant_of(entry.t, folder), 6: lambda: tuple(map(float, entry.floats)),
            7: lambda: tuple(map(int, entry.ints)), 8: lambda: tuple(s.decode(errors="replace") for s in entry.strings)}
    if entry.type not in read:
        raise node.fail(f"its attribute {printable(entry.name)[:40]} is a graph or another thing that is not supported")
    return read[entry.type]()


def _constant_node(node: Any, folder: Path) -> Constant:
    made = _node(node, folder)
    if len(made.attributes) != 1 or len(made.outputs) != 1:
        raise made.fail("one value is wanted")
    (name, value), = made.attributes.items()
    types = {"value_float": "float", "value_floats": "float", "value_int": "int64", "value_ints": "int64"}
    if isinstance(value, Constant):
        return value
    if name not in types:
        raise made.fail("constants of text or of sparse arrays are not supported")
    return Constant(np.array(value, np.float32 if types[name] == "float" else np.int64), types[name])


def _info(value: Any) -> Info:
    if not value.type.HasField("tensor_type"):
        raise ImporterError(f"{printable(value.name)}: is no tensor")
    tensor = value.type.tensor_type
    dims = tuple(int(side.dim_value) if side.HasField("dim_value") else None for side in tensor.shape.dim)
    for side in dims:
        if side is not None and not 0 < side <= MAX_NUMBERS:
            raise ImporterError(f"{printable(value.name)}: a side of {side} is not possible")
    return Info(value.name, dims, type_name(tensor.elem_type))


def type_name(number: int) -> str:
    """The ONNX name of a type of elements, in small letters."""
    import onnx

    try:
        return str(onnx.TensorProto.DataType.Name(number)).lower()
    except ValueError:
        return f"type {number}"


def constant_of(tensor: Any, folder: Path) -> Constant:
    """An onnx.TensorProto as an array.  Raises ImporterError before memory is taken for what is not there."""
    from onnx import TensorProto, numpy_helper

    name, kind = printable(tensor.name)[:80] or "a constant", type_name(tensor.data_type)
    if kind not in NUMBERS:
        raise ImporterError(f"{name}: numbers of type {kind} are not supported")
    count = math.prod(tensor.dims)
    if any(side < 0 for side in tensor.dims) or count > MAX_NUMBERS:
        raise ImporterError(f"{name}: {list(tensor.dims)[:8]} is no shape, or more than {MAX_NUMBERS} numbers")
    if tensor.data_location == TensorProto.EXTERNAL:
        return Constant(_beside(tensor, name, kind, count, folder), kind)
    if tensor.HasField("segment"):
        raise ImporterError(f"{name}: arrays in segments are not supported")
    try:
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # parsers of damaged bytes fail in every way there is
        raise ImporterError(f"{name}: not {list(tensor.dims)} numbers of type {kind} ({type(error).__name__})") from None
    return Constant(np.array(array, np.int8 if kind in ("int4", "int2") else np.uint8) if kind in NARROW else array, kind)


def _beside(tensor: Any, name: str, kind: str, count: int, folder: Path) -> np.ndarray:
    """An array in another file of the same folder."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    if kind in NARROW:
        raise ImporterError(f"{name}: codes of {kind} in another file are not supported")
    location, base = where.get("location", ""), folder.resolve()
    path = (base / location).resolve()
    if not location or "\0" in location or not path.is_relative_to(base) or not path.is_file():
        raise ImporterError(f"{name}: lies in {printable(location)[:80]!r}, which is no file in the model's folder")
    dtype = np.dtype({"float": "float32", "double": "float64"}.get(kind, kind)).newbyteorder("<")
    offset, length = int(where.get("offset") or 0), int(where.get("length") or count * dtype.itemsize)
    if offset < 0 or length != count * dtype.itemsize or offset + length > path.stat().st_size or length > MOST_BYTES:
        raise ImporterError(f"{name}: {length} bytes from {offset} on of {printable(location)[:80]!r} are not its numbers")
    with path.open("rb") as file:
        file.seek(offset)
        return np.frombuffer(file.read(length), dtype).astype(dtype.newbyteorder("=")).reshape(tuple(tensor.dims))
