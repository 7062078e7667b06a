"""A .tflite file as plain values.  It is not believed: sizes are compared with the file before anything is made of them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim.formats import unpacked
from sim.importers.imported import ImporterError
from sim.text import printable

MOST_BYTES = 1 << 30
MOST_PARTS = 1 << 14
"""Tensors, operators, buffers or entries of a list: of real models thousands."""
MOST_NUMBERS = 1 << 26
"""Of one tensor of one image."""
MOST_AXES = 8
SHARED = 16
"""Constants may be read so many times the file's size in all: tensors may share a buffer."""
SCHEMA = 3
TYPES: Mapping[str, tuple[str, int]] = {
    "FLOAT32": ("float32", 32),
    "INT32": ("int32", 32),
    "UINT8": ("uint8", 8),
    "INT64": ("int64", 64),
    "BOOL": ("bool", 8),
    "INT16": ("int16", 16),
    "INT8": ("int8", 8),
    "INT4": ("int4", 4),
}
"""Types of tensors that are read: the numpy type, or int4, and bits of an element."""


@dataclass(frozen=True)
class Tensor:
    """Number, name, shape and type of a tensor; scales float32 and zero points int64, per slice along `axis` or one.

    `data` is None where an operator or the user writes it.
    """

    number: int
    name: str
    shape: tuple[int, ...]
    type: str
    scales: np.ndarray
    zeros: np.ndarray
    axis: int = 0
    data: np.ndarray | None = None

    def __str__(self) -> str:
        return f"tensor {self.number} ({self.name})"


@dataclass(frozen=True)
class Operator:
    """The position of an operator in its graph, its code's name, numbers of tensors (-1: none) and its options by name."""

    number: int
    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"node {self.number} ({self.code})"


@dataclass(frozen=True)
class Model:
    """One graph: tensors by number, operators in order, numbers of the tensors that go in and come out."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_file(path: Path) -> Model:
    """The one graph of a file.  Raises ImporterError for what is damaged or beyond limits, OSError."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ImporterError(f"{size:,} bytes are more than the {MOST_BYTES:,} that are read")
    content = path.read_bytes()
    try:
        return _Reader(content).model()
    except ImporterError:
        raise
    except Exception as error:  # the flatbuffers library follows damaged offsets until Python stops it, in many ways
        raise ImporterError(f"a damaged TensorFlow Lite model ({type(error).__name__})") from None


class _Reader:
    def __init__(self, content: bytes) -> None:
        try:
            import tflite
        except ImportError:
            raise ImporterError("reading .tflite needs the package tflite: pip install 'bittrue[import]'") from None
        self.tflite, self.content = tflite, content
        self.spent = 0
        self.codes = _names(tflite.BuiltinOperator)
        self.types = _names(tflite.TensorType)
        self.options = _names(tflite.BuiltinOptions)

    def model(self) -> Model:
        """Everything, checked."""
        if self.content[4:8] != b"TFL3":
            raise ImporterError("is no TensorFlow Lite model: TFL3 is missing at its fifth byte")
        root = self.tflite.Model.GetRootAs(self.content, 0)
        if root.Version() != SCHEMA:
            raise ImporterError(f"schema version {root.Version()}, supported is {SCHEMA}")
        if root.SubgraphsLength() != 1:
            raise ImporterError(f"{root.SubgraphsLength()} graphs, supported is a model of one")
        codes = [self._code(code) for code in self._parts("operator codes", root.OperatorCodesLength, root.OperatorCodes)]
        buffers = self._parts("buffers", root.BuffersLength, root.Buffers)
        graph = root.Subgraphs(0)
        tensors = tuple(
            self._tensor(number, tensor, buffers)
            for number, tensor in enumerate(self._parts("tensors", graph.TensorsLength, graph.Tensors))
        )
        operators = tuple(
            self._operator(number, operator, codes, len(tensors))
            for number, operator in enumerate(self._parts("operators", graph.OperatorsLength, graph.Operators))
        )
        inputs, outputs = (
            self._numbers("a list of the graph's tensors", part, len(tensors), 0)
            for part in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())
        )
        if not inputs or not outputs or not operators:
            raise ImporterError("a model has inputs, outputs and operators")
        return Model(tensors, operators, inputs, outputs)

    def _parts(self, what: str, length: Callable[[], int], part: Callable[[int], Any]) -> list[Any]:
        count = length()
        if not 0 <= count <= MOST_PARTS or 4 * count > len(self.content):
            raise ImporterError(f"{count} {what}, supported are up to {MOST_PARTS}, and no more than the file can hold")
        return [part(index) for index in range(count)]

    def _code(self, code: Any) -> str:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number not in self.codes:
            raise ImporterError(f"an operator of the unknown code {number}")
        name = self.codes[number]
        if name == "CUSTOM" and code.CustomCode():
            name = f"CUSTOM {printable(code.CustomCode()[:40].decode(errors='replace'))}"
        return name

    def _numbers(self, what: str, values: Any, count: int, least: int = -1) -> tuple[int, ...]:
        numbers = tuple(int(value) for value in _array(values, what)[: MOST_PARTS + 1])
        if len(numbers) > MOST_PARTS or not all(least <= number < count for number in numbers):
            raise ImporterError(f"{what} names tensors that there are not, of {count}")
        return numbers

    def _tensor(self, number: int, tensor: Any, buffers: list[Any]) -> Tensor:
        name = printable((tensor.Name() or b"")[:80].decode(errors="replace"))
        where = f"tensor {number} ({name})"
        shape = tuple(int(side) for side in _array(tensor.ShapeAsNumpy(), where)[: MOST_AXES + 1])
        kind = self.types.get(tensor.Type(), str(tensor.Type()))
        if len(shape) > MOST_AXES or min(shape, default=1) < 1 or math.prod(shape) > MOST_NUMBERS:
            raise ImporterError(
                f"{where}: its shape {list(shape)} is not supported: up to {MOST_AXES} known sides of 1 or more, "
                f"{MOST_NUMBERS:,} numbers"
            )
        if tensor.Sparsity() is not None:
            raise ImporterError(f"{where}: sparse tensors are not supported")
        scales, zeros, axis = self._quantization(where, tensor.Quantization())
        index = tensor.Buffer()
        if index >= len(buffers):
            raise ImporterError(f"{where}: its buffer {index} is none of {len(buffers)}")
        return Tensor(number, name, shape, kind, scales, zeros, axis, self._data(where, buffers[index], kind, shape))

    def _quantization(self, where: str, given: Any) -> tuple[np.ndarray, np.ndarray, int]:
        """Scales, zero points, and the axis along which there are several: who reads weights compares it with theirs."""
        if given is None or not given.ScaleLength():
            return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        scales, axis = _array(given.ScaleAsNumpy(), where).astype(np.float32), given.QuantizedDimension()
        zeros = _array(given.ZeroPointAsNumpy(), where).astype(np.int64)
        if not zeros.size:
            zeros = np.zeros(scales.size, np.int64)
        if zeros.size != scales.size:
            raise ImporterError(f"{where}: {scales.size} scales and {zeros.size} zero points")
        if not (np.isfinite(scales) & (scales > 0.0)).all():
            raise ImporterError(f"{where}: its scales must be positive and finite")
        return scales, zeros, axis

    def _data(self, where: str, buffer: Any, kind: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The constant that a buffer holds, checked against type and shape before it is taken."""
        offset, size = buffer.Offset(), buffer.Size()
        if offset > 1:  # 0 and 1 say that the data are in the buffer itself
            if offset + size > len(self.content):
                raise ImporterError(f"{where}: its buffer at {offset} of {size} bytes lies outside the file")
            data = np.frombuffer(self.content, np.uint8, size, offset)
        elif buffer.DataLength():
            data = np.frombuffer(buffer.DataAsNumpy(), np.uint8)
        else:
            return None
        if kind not in TYPES:
            raise ImporterError(f"{where}: constants of type {kind} are not supported, choose of {', '.join(TYPES)}")
        dtype, bits = TYPES[kind]
        wanted = -(-math.prod(shape) * bits // 8)
        if data.size != wanted:
            raise ImporterError(f"{where}: {data.size} bytes of data, its type and shape {list(shape)} ask for {wanted}")
        self.spent += wanted
        if self.spent > SHARED * len(self.content) + (1 << 20):
            raise ImporterError(f"{where}: constants of more than {SHARED} times the file's size share its buffers")
        return (
            unpacked(data, math.prod(shape)) if dtype == "int4" else data.view(np.dtype(dtype).newbyteorder("<"))
        ).reshape(shape)

    def _operator(self, number: int, operator: Any, codes: list[str], tensors: int) -> Operator:
        index = operator.OpcodeIndex()
        if index >= len(codes):
            raise ImporterError(f"node {number}: its operator code {index} is none of {len(codes)}")
        where = f"node {number} ({codes[index]})"
        inputs = self._numbers(f"{where}: its list of inputs", operator.InputsAsNumpy(), tensors)
        outputs = self._numbers(f"{where}: its list of outputs", operator.OutputsAsNumpy(), tensors, 0)
        return Operator(number, codes[index], inputs, outputs, self._options(operator))

    def _options(self, operator: Any) -> dict[str, Any]:
        """Every scalar and list of the options' table, by its name in the schema."""
        name, table = self.options.get(operator.BuiltinOptionsType(), "NONE"), operator.BuiltinOptions()
        if name == "NONE" or table is None:
            return {}
        kind = getattr(self.tflite, name)
        options = kind()
        options.Init(table.Bytes, table.Pos)
        found = {}
        for key, getter in vars(kind).items():
            if (
                key[0].isupper()
                and not key.startswith(("Init", "GetRootAs"))
                and not key.endswith(("HasIdentifier", "Length", "IsNone"))
            ):
                if f"{key}AsNumpy" in vars(kind):
                    values = getattr(options, f"{key}AsNumpy")()
                    found[key] = tuple(_array(values, name)[:MOST_AXES].tolist())
                elif not key.endswith("AsNumpy"):
                    found[key] = getter(options)
        return found


def _names(kind: type) -> dict[int, str]:
    return {number: name for name, number in vars(kind).items() if isinstance(number, int) and not name.startswith("_")}


def _array(values: Any, where: str) -> np.ndarray:
    """What the generated reader gives for a list: an array, or 0 where there is none."""
    if isinstance(values, np.ndarray):
        return values
    return np.zeros(0, np.int64)
