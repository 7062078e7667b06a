"""The network as training hands it over: layers, connections and formats (`Graph`), plus float arrays (`NetworkSpec`).

A graph is a list of rows (sim/ops) in order of execution.  Rows name the rows they read, so a residual connection is just a
name.  Widths are roles, not numbers: `Precision` says how many bits each role has, so that one trained network can be
lowered at any width.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.formats import IntFormat, Shape
from sim.ops import ROWS
from sim.ops.add import Add
from sim.ops.avgpool import AvgPool
from sim.ops.concat import Concat
from sim.ops.conv import BATCH_NORM_EPS, Conv
from sim.ops.embedding import Embedding
from sim.ops.globalpool import GlobalPool
from sim.ops.input import Input
from sim.ops.layernorm import LayerNorm
from sim.ops.linear import Linear
from sim.ops.lookup import Lookup
from sim.ops.masked import MaskedSoftmax
from sim.ops.matmul import MatMul
from sim.ops.maxpool import MaxPool
from sim.ops.move import Flatten, Heads, Sequence, Tokens
from sim.ops.multiply import Multiply
from sim.ops.op import MAX_NUMBERS, MAX_SIZE
from sim.ops.pad import Pad
from sim.ops.positions import Positions
from sim.ops.recode import Recode
from sim.ops.requantize import Requantize
from sim.ops.row import ROLES, Activation, NetworkError, Row, row_from_json, row_to_json
from sim.ops.segments import Segments
from sim.ops.select import Select
from sim.ops.shortcut import Shortcut
from sim.ops.softmax import Softmax
from sim.ops.token_input import TokenInput
from sim.quantizers import QUANTIZERS, Parameters, Quantizer, QuantizerError
from sim.values import Value, sizes

__all__ = [  # what describes a network, from one place
    "BATCH_NORM_EPS",
    "FLOAT_BITS",
    "MAX_SIZE",
    "QUANTIZED_BITS",
    "ROLES",
    "Activation",
    "Add",
    "AvgPool",
    "Concat",
    "Conv",
    "Embedding",
    "Flatten",
    "GlobalPool",
    "Graph",
    "Heads",
    "Input",
    "IntFormat",
    "LayerNorm",
    "Linear",
    "Lookup",
    "MaskedSoftmax",
    "MatMul",
    "MaxPool",
    "Multiply",
    "NetworkError",
    "NetworkSpec",
    "Pad",
    "Parameters",
    "Positions",
    "Precision",
    "QuantizerError",
    "Recode",
    "Requantize",
    "Row",
    "Segments",
    "Select",
    "Sequence",
    "Shape",
    "Shortcut",
    "Softmax",
    "TokenInput",
    "Tokens",
    "expected_arrays",
]

FLOAT_BITS = 32
"""The width that stands for float32, no quantization."""

QUANTIZED_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16)


@dataclass(frozen=True)
class Precision:
    """Bits per role: `inner` layers, the first and last (`boundary`), the residual path (`skip`).  32 means float.

    `activations` is the width of what has the role inner and is no weight, as `inner` if it is 0: Precision(4,
    activations=8) is W4A8.  `layers` are exceptions, (row, bits) or (row, bits of the weights, bits of the output): what has
    the role inner in that row has that width.
    """

    inner: int
    boundary: int = 8
    skip: int = 8
    layers: tuple[tuple[str, int] | tuple[str, int, int], ...] = ()
    activations: int = 0

    def __post_init__(self) -> None:
        for role in ROLES:
            bits = getattr(self, role)
            if isinstance(bits, bool) or not isinstance(bits, int) or bits not in (*QUANTIZED_BITS, FLOAT_BITS):
                raise NetworkError(f"{role} bits: {bits!r} is not allowed, choose 1 to 8, 16 or 32 (float)")
        if self.boundary == 1:
            raise NetworkError("boundary bits: 1 is not allowed, the signed codes of the input need at least 2")
        if self.inner != FLOAT_BITS and self.skip == FLOAT_BITS:
            raise NetworkError("skip bits: a quantized network needs an integer residual path, choose 1 to 8 or 16")
        for name, *widths in self.layers:
            for bits in widths:
                if isinstance(bits, bool) or not isinstance(bits, int) or bits not in QUANTIZED_BITS:
                    raise NetworkError(f"layer bits of {name}: {bits!r} is not allowed, choose 1 to 8 or 16")
            if len(widths) not in (1, 2):
                raise NetworkError(f"layer bits of {name}: one width, or that of the weights and that of the output")
        if len({name for name, *_ in self.layers}) < len(self.layers):
            raise NetworkError("layer bits: a row is named twice")
        allowed = (0,) if self.inner == FLOAT_BITS else (0, *QUANTIZED_BITS)
        if isinstance(self.activations, bool) or not isinstance(self.activations, int) or self.activations not in allowed:
            raise NetworkError(f"activation bits: {self.activations!r} is not allowed, " + (
                "a float network has none" if self.inner == FLOAT_BITS else "choose 1 to 8 or 16"))
        if self.activations == self.inner:
            object.__setattr__(self, "activations", 0)  # one way to say the same

    @classmethod
    def of(cls, bits: int, boundary: int = 8, skip: int = 8, activations: int = 0) -> "Precision":
        """`bits` in every inner layer; 32 makes the whole network float."""
        if bits == FLOAT_BITS:
            return cls(FLOAT_BITS, FLOAT_BITS, FLOAT_BITS)
        return cls(bits, boundary, skip, activations=activations)

    def weight_bits(self, role: str, row: str) -> int:
        """Bits of the weights that have this role in a row."""
        exceptions = {name: widths[0] for name, *widths in self.layers}
        return exceptions.get(row, self.inner) if role == "inner" else int(getattr(self, role))

    def activation_bits(self, role: str, row: str) -> int:
        """Bits of the codes that have this role in a row."""
        exceptions = {name: widths[-1] for name, *widths in self.layers}
        return exceptions.get(row, self.activations or self.inner) if role == "inner" else int(getattr(self, role))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `layers` and `activations` only if there are any."""
        return {role: getattr(self, role) for role in ROLES} | (
            {"layers": [list(pair) for pair in self.layers]} if self.layers else {}) | (
            {"activations": self.activations} if self.activations else {})

    @classmethod
    def from_json(cls, data: Any) -> "Precision":
        """The inverse of `to_json`; raises NetworkError on anything that it could not have written."""
        if not isinstance(data, dict) or not set(ROLES) <= data.keys() <= {*ROLES, "layers", "activations"}:
            raise NetworkError("precision must name inner, boundary and skip")
        layers = data.get("layers", [])
        if not isinstance(layers, list) or not all(isinstance(entry, list) and len(entry) in (2, 3)
                                                   and isinstance(entry[0], str) for entry in layers):
            raise NetworkError("layers of the precision must be pairs of a row and its bits")
        return cls(**{**data, "layers": tuple(tuple(entry) for entry in layers)})

    def check(self, graph: "Graph") -> None:
        """Raise NetworkError unless every exception is for a row of the network with something of the role inner, and signed
        codes have a level."""
        inner = [row.name for row in graph.rows if row.has_role("inner")]
        for name, *_ in self.layers:
            if name not in inner:
                raise NetworkError(f"layer bits: {name!r} is no inner row, choose from {', '.join(inner)}")
        for row in graph.rows:
            if (end := row.ends()) is not None and (bits := self.activation_bits(end.role, row.name)) != FLOAT_BITS:
                try:
                    end.format(bits)
                except NetworkError as error:
                    raise NetworkError(f"{row.name}: {error}") from None

    @property
    def is_float(self) -> bool:
        """Whether nothing is quantized."""
        return self.inner == self.boundary == self.skip == FLOAT_BITS

    @property
    def is_integer(self) -> bool:
        """Whether everything is quantized, so that the network can run on integers alone."""
        return FLOAT_BITS not in (self.inner, self.boundary, self.skip)

    def __str__(self) -> str:
        if self.is_float:
            return "float"
        boundary = "float" if self.boundary == FLOAT_BITS else self.boundary
        layers = "".join(f", {name} {'/'.join(map(str, widths))}" for name, *widths in self.layers)
        return f"{self.short}, first and last {boundary}, residual {self.skip}{layers}"

    @property
    def short(self) -> str:
        """Widths of the inner layers, as the field writes them.

        >>> Precision(4, activations=8).short
        'W4A8'
        """
        return f"W{self.inner}A{self.activations or self.inner}"


@dataclass(frozen=True)
class Graph:
    """Rows in order of execution; the first is the input.

    `outputs` names the rows whose results the network gives: the last one, if it is empty.  A row without activation gives
    logits, real numbers, and must be among them.
    """

    rows: tuple[Row, ...]
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.rows or not self.rows[0].is_input:
            raise NetworkError("a network begins with its input row")
        if self.outputs == (self.rows[-1].name,):
            object.__setattr__(self, "outputs", ())  # one way to say the same
        seen: dict[str, Row] = {}
        for row in self.rows:
            if row.name in seen:
                raise NetworkError(f"two rows are called {row.name}")
            if row.is_input != (not seen) or not (row.sources() or row.is_input or row.is_constant):
                raise NetworkError(f"{row.name}: only the first row is an input, every other one reads a row")
            for source in row.sources():
                if source not in seen:
                    raise NetworkError(f"{row.name}: reads {source!r}, which is no row before it")
                if seen[source].gives_logits and seen[source].ends() is None:
                    raise NetworkError(f"{source}: has no activation, so it gives logits, which {row.name} cannot read")
                if seen[source].gives_ids != (source in row.id_sources()):
                    raise NetworkError(f"{row.name}: an embedding reads ids of tokens, and nothing else does")
            seen[row.name] = row
        self._check_outputs()
        self.shapes()

    def _check_outputs(self) -> None:
        names = {row.name for row in self.rows}
        for name in self.outputs:
            if name not in names:
                raise NetworkError(f"output {name!r} is no row of the network")
        for row in self.rows:
            if row.gives_logits and row.ends() is None and row.name not in self.output_names:
                raise NetworkError(f"{row.name}: has no activation, only outputs give logits")
        if len(set(self.outputs)) < len(self.outputs):
            raise NetworkError("an output is named twice")

    def shapes(self) -> dict[str, Shape]:
        """(height, width, channels) of every row's output."""
        shapes: dict[str, Shape] = {}
        for row in self.rows:
            shapes[row.name] = shape = row.output_shape(shapes)
            if math.prod(shape) > MAX_NUMBERS:
                raise NetworkError(f"{row.name}: {sizes(shape)} are more than {MAX_NUMBERS} numbers")
        return shapes

    @property
    def input(self) -> Input:
        """The first row, if it reads images; a NetworkError if it reads something else."""
        first = self.rows[0]
        if not isinstance(first, Input):
            raise NetworkError(f"{first.name}: an input of images is wanted here, this network reads {first.kind}")
        return first

    @property
    def output_names(self) -> tuple[str, ...]:
        """Rows whose results the network gives."""
        return self.outputs or (self.rows[-1].name,)

    @property
    def classes(self) -> int:
        """Channels of the first output."""
        return self.shapes()[self.output_names[0]][2]

    def check_classifier(self) -> None:
        """Raise NetworkError unless it gives logits for an image: one output, without activation, of one pixel."""
        name = self.output_names[0]
        row = next(row for row in self.rows if row.name == name)
        height, width, _ = self.shapes()[name]
        if len(self.output_names) > 1:
            raise NetworkError(f"a classifier has one output, not {', '.join(self.output_names)}")
        if not row.gives_logits or row.ends() is not None:
            raise NetworkError(f"a classifier ends with a row without activation, the logits, not {name}")
        if (height, width) != (1, 1):
            raise NetworkError(f"{name}: logits must be 1x1 pixel, these are {height}x{width}")

    def check_spans(self) -> None:
        """Raise NetworkError unless it gives two logits for each token that it reads: begin and end of an answer."""
        shapes, name = self.shapes(), self.output_names[0]
        tokens = shapes[self.rows[0].name][0]
        if len(self.output_names) > 1 or self.rows[-1].ends() is not None or shapes[name] != (tokens, 1, 2):
            raise NetworkError(f"{name}: a network that finds answers ends with two logits for each of {tokens} tokens, not "
                               f"with {sizes(shapes[name])}")

    def to_json(self) -> Any:
        """Rows as plain dictionaries; with `outputs` beside them if they are not the last row alone."""
        rows = [row_to_json(row) for row in self.rows]
        return {"rows": rows, "outputs": list(self.outputs)} if self.outputs else rows

    @classmethod
    def from_json(cls, data: Any) -> "Graph":
        """The inverse of `to_json`; raises NetworkError on anything that it could not have written."""
        outputs: Any = []
        if isinstance(data, dict) and data.keys() == {"rows", "outputs"}:
            data, outputs = data["rows"], data["outputs"]
        if not isinstance(data, list):
            raise NetworkError("the network description is not a list of rows")
        if not isinstance(outputs, list) or not all(isinstance(name, str) for name in outputs):
            raise NetworkError("outputs of the network description are no list of names")
        return cls(tuple(row_from_json(ROWS, row) for row in data), tuple(outputs))


@dataclass(frozen=True, eq=False, repr=False)
class NetworkSpec(Value):
    """A trained network in the float domain: what a checkpoint holds and what lowering reads.

    `arrays` maps "row.array" (for instance "stem.norm.running_var") to float32 arrays; `precision` is the one it was
    trained at; `quantizer` names the rule that turns floats into codes.
    """

    graph: Graph
    arrays: Mapping[str, np.ndarray]
    precision: Precision
    quantizer: str

    def __post_init__(self) -> None:
        self.precision.check(self.graph)
        expected = expected_arrays(self.graph, self.quantizer)
        if missing := sorted(expected.keys() - self.arrays.keys()):
            raise NetworkError(f"array {missing[0]} is missing")
        if extra := sorted(self.arrays.keys() - expected.keys()):
            raise NetworkError(f"array {extra[0]} belongs to no row")
        for name, shape in expected.items():
            array = self.arrays[name]
            if array.shape != shape or array.dtype != np.float32:
                raise NetworkError(f"array {name} is {array.dtype} {array.shape}, expected float32 {shape}")
            if not np.isfinite(array).all():
                raise NetworkError(f"array {name} holds values that are not finite")
            if name.endswith("running_var") and (array < 0).any():
                raise NetworkError(f"array {name} holds a negative variance")

    def __repr__(self) -> str:
        shapes, count = self.graph.shapes(), sum(array.size for array in self.arrays.values())
        return (f"<NetworkSpec: {sizes(shapes[self.graph.rows[0].name])} -> {self.graph.classes} classes, "
                f"{len(self.graph.rows)} rows, {self.precision}, {self.quantizer}, {count:,} numbers>")

    def at(self, precision: Precision) -> "NetworkSpec":
        """The same float weights at another precision; learned ranges stay, so learned steps change with the width."""
        arrays = dict(self.arrays)
        rules = QUANTIZERS.get(self.quantizer, Quantizer())
        for row in self.graph.rows:
            if row.weight_role is not None:
                widths = [p.weight_bits(row.weight_role, row.name) for p in (self.precision, precision)]
                self._rescale(arrays, row, "", rules.weight_parameters(1), widths)
            if (end := row.ends()) is not None:
                widths = [p.activation_bits(end.role, row.name) for p in (self.precision, precision)]
                if FLOAT_BITS not in widths:
                    widths = [end.magnitude_bits(bits) for bits in widths]
                self._rescale(arrays, row, "activate.", rules.activation_parameters(), widths)
        return dataclasses.replace(self, precision=precision, arrays=arrays)

    def _rescale(self, arrays: dict[str, np.ndarray], row: Row, prefix: str, names: Parameters, widths: list[int]) -> None:
        old, new = widths
        if old == new or 1 in widths or FLOAT_BITS in widths:
            return
        rules = QUANTIZERS.get(self.quantizer, Quantizer())
        for name in names:
            key = f"{row.name}.{prefix}{name}"
            arrays[key] = rules.at_width(name, self.arrays[key], old, new)

    def array(self, row: Row, name: str) -> np.ndarray:
        """One array of one row."""
        return self.arrays[f"{row.name}.{name}"]

    def learned(self, row: Row, names: Parameters, prefix: str = "") -> dict[str, np.ndarray]:
        """What the quantizer learned about a row."""
        return {name: self.array(row, prefix + name) for name in names}


def expected_arrays(graph: Graph, quantizer: str = "dorefa") -> Parameters:
    """Every array a network of this graph and quantizer has, and its shape.

    What the quantizer learned about weights is called "row.name", about an activation "row.activate.name".
    """
    shapes = graph.shapes()
    arrays: Parameters = {}
    learns = QUANTIZERS.get(quantizer, Quantizer())  # an unknown one is an error of whoever runs the network
    for row in graph.rows:
        own = row.array_shapes(shapes)
        if row.weight_role is not None:
            own = own | learns.weight_parameters(row.weight_channels)
        if row.ends() is not None:
            own = own | {f"activate.{key}": shape for key, shape in learns.activation_parameters().items()}
        arrays |= {f"{row.name}.{key}": shape for key, shape in own.items()}
    return arrays
