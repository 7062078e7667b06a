"""An ONNX file of integers as plain Python values: nodes in order, whole constants, shapes.  Nothing in it is executed.

Deeploy, QuantLab, DORY and NEMO write integers as float32: every constant must be a whole number.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.importers.imported import ImporterError
from sim.importers.proto import read_proto, text

MOST_BYTES = 1 << 30
"""Of a file."""
MOST_WHOLE = 1 << 53
"""Magnitude that no constant reaches: integers below it are exact in float64."""
MOST_AXES = 8
ELEMENTS = {2: (8, False), 3: (8, True), 4: (16, False), 5: (16, True), 6: (32, True), 9: (1, False)}
"""ONNX's numbers of integer types up to 32 bits: (bits, signed)."""


@dataclass(frozen=True)
class Node:
    """One operator: what it reads and gives, by names, and its attributes as Python values and whole arrays."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def refuse(self, reason: str) -> ImporterError:
        """What to raise: one line that begins with the node."""
        return ImporterError(f"{self.kind} {printable(self.name)}: {reason}")

    def whole(self, name: str, default: int | None = None) -> int:
        """An attribute of one whole number."""
        value = self.attributes.get(name, default)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = int(value.ravel()[0])
        if isinstance(value, float) and value.is_integer() and abs(value) < MOST_WHOLE:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= MOST_WHOLE:
            raise self.refuse(f"its {name} must be a whole number below 2^53 in magnitude, not {_short(value)}")
        return value

    def numbers(self, name: str, default: tuple[int, ...], length: int | None = None) -> tuple[int, ...]:
        """An attribute of several whole numbers."""
        value = self.attributes.get(name, default)
        if isinstance(value, np.ndarray):
            value = tuple(value.ravel().tolist())
        value = (value,) if isinstance(value, int) else value
        if not isinstance(value, tuple) or not all(isinstance(v, int) and abs(v) < MOST_WHOLE for v in value) \
                or length not in (None, len(value)):
            how_many = "whole numbers" if length is None else f"{length} whole numbers"
            raise self.refuse(f"its {name} must be {how_many}, not {_short(value)}")
        return value


@dataclass(frozen=True)
class Given:
    """An input of the graph: its shape with 1 for a batch axis of any length, and its format as (bits, signed), if any.

    A side may be 0: then there is nothing to hand over, such as a cache before its first token.
    """

    name: str
    shape: tuple[int, ...]
    element: tuple[int, bool] | None


@dataclass(frozen=True)
class Model:
    """A graph: inputs that are no constants, outputs, nodes in an order in which all can be computed, whole constants."""

    inputs: tuple[Given, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]

    def uses(self) -> Counter[str]:
        """How often each tensor is read, outputs of the graph counted as read once more."""
        return Counter([name for node in self.nodes for name in node.inputs] + list(self.outputs))


def read_model(path: Path) -> Model:
    """The graph of a file.  Raises OSError, or ImporterError with the path and what is wrong."""
    try:
        return model_of(read_proto(path, MOST_BYTES))
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from None


def model_of(proto: Any) -> Model:
    """The graph of an onnx.ModelProto."""
    graph = proto.graph
    constants = {text(tensor.name): _array(tensor) for tensor in graph.initializer}
    inputs = tuple(_given(value) for value in graph.input if text(value.name) not in constants)
    nodes = [_node(node) for node in graph.node]
    outputs = tuple(text(value.name) for value in graph.output)
    ordered = _ordered(nodes, {"", *constants, *(value.name for value in inputs)})
    made = {name for node in nodes for name in node.outputs}
    for name in outputs:
        if name not in made and name not in constants and all(value.name != name for value in inputs):
            raise ImporterError(f"its output {printable(name)} is no tensor of the graph")
    if not outputs:
        raise ImporterError("a graph without outputs")
    return Model(inputs, outputs, ordered, {name: value for name, value in constants.items() if value is not None})


def whole(values: np.ndarray, what: str) -> np.ndarray:
    """int64 of whole numbers of any type.  Raises ImporterError naming `what`."""
    if values.dtype.kind in "iub" and values.dtype.itemsize < 8:
        return values.astype(np.int64)
    if values.dtype.kind not in "iuf":
        raise ImporterError(f"{what} holds {values.dtype}, no numbers")
    with np.errstate(invalid="ignore"):
        if values.size and not (np.abs(values.astype(np.float64)) < MOST_WHOLE).all():
            raise ImporterError(f"{what} holds numbers of 2^53 or more, or no numbers")
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        raise ImporterError(f"{what} holds numbers that are not whole: this is no integer model of Deeploy's or DORY's")
    return values.astype(np.int64)


def printable(name: str) -> str:
    """A name for a message: short, on one line."""
    return "".join(c if c.isprintable() else "?" for c in name[:80])


def _array(tensor: Any) -> np.ndarray:
    """A TensorProto as int64; its size is checked against its bytes before memory is taken."""
    from onnx import TensorProto, helper, numpy_helper

    what = f"the constant {printable(text(tensor.name))}"
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ImporterError(f"{what} lies in another file: save the model in one")
    if len(tensor.dims) > MOST_AXES or any(side < 0 for side in tensor.dims):
        raise ImporterError(f"{what} has the shape {_short(list(tensor.dims))}: at most {MOST_AXES} sides of 0 and more")
    count = math.prod(tensor.dims)
    try:
        width = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        there = len(tensor.raw_data) // width if tensor.HasField("raw_data") else sum(
            map(len, (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)))
        if there != count:
            raise ImporterError(f"{what} has {there} numbers where its shape says {count}")
        values = numpy_helper.to_array(tensor)
    except ImporterError:
        raise
    except Exception:  # parsers of damaged bytes fail in every way there is
        raise ImporterError(f"{what} cannot be read: a type that is not supported, or damaged") from None
    return whole(values, what)


def _given(value: Any) -> Given:
    tensor = value.type.tensor_type
    sides = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if sides and sides[0] in (None, 0):
        sides[0] = 1  # a batch of any length
    if len(sides) > MOST_AXES or any(side is None or side < 0 for side in sides):
        raise ImporterError(f"the input {printable(text(value.name))} has the shape {_short(sides)}: every side but the "
                            "batch's must be a number")
    return Given(text(value.name), tuple(side for side in sides if side is not None), ELEMENTS.get(tensor.elem_type))


def _node(node: Any) -> Node:
    outputs = tuple(map(text, node.output))
    if not outputs or not outputs[0]:
        raise ImporterError(f"an operator {printable(text(node.op_type))} that gives nothing")
    name = text(node.name) or outputs[0]
    made = Node(printable(text(node.op_type)), name, tuple(map(text, node.input)), outputs, {})
    attributes = {}
    for attribute in node.attribute:
        try:
            attributes[text(attribute.name)] = _value(attribute)
        except ImporterError as error:
            raise made.refuse(str(error)) from None
    return Node(made.kind, name, made.inputs, made.outputs, attributes)


def _value(attribute: Any) -> Any:
    """Ints, floats, texts, tuples of them, int64 arrays; graphs and the like are only named."""
    from onnx import AttributeProto

    readers: dict[int, Callable[[], Any]] = {
        AttributeProto.INT: lambda: int(attribute.i), AttributeProto.FLOAT: lambda: float(attribute.f),
        AttributeProto.STRING: lambda: text(attribute.s),
        AttributeProto.TENSOR: lambda: _array(attribute.t), AttributeProto.INTS: lambda: tuple(map(int, attribute.ints)),
        AttributeProto.FLOATS: lambda: tuple(map(float, attribute.floats))}
    return readers.get(attribute.type, lambda: f"an attribute of ONNX's type {attribute.type}")()


def _ordered(nodes: list[Node], known: set[str]) -> tuple[Node, ...]:
    """In an order in which every input is there: exporters do not always write one."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.outputs}
    if len(makers) != sum(len(node.outputs) for node in nodes) or makers.keys() & (known - {""}):
        raise ImporterError("a tensor that is made twice")
    missing = [{makers.get(name, -1) for name in node.inputs if name not in known} for node in nodes]
    for node, makes in zip(nodes, missing, strict=True):
        if -1 in makes:
            lost = next(name for name in node.inputs if name not in known and name not in makers)
            raise node.refuse(f"reads {printable(lost)}, which nothing makes")
    readers: dict[int, list[int]] = {}
    for index, makes in enumerate(missing):
        for maker in makes:
            readers.setdefault(maker, []).append(index)
    ready = [index for index, makes in enumerate(missing) if not makes]  # ascending: a heap, which keeps the file's order
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for reader in readers.get(index, ()):
            missing[reader].discard(index)
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise ImporterError("a graph with a circle")
    return tuple(order)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
