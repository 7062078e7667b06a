"""The network as training hands it over: layers, connections and formats (`Graph`), plus float arrays (`NetworkSpec`).

A graph is a list of rows in order of execution.  Rows name the rows they read, so a residual connection is just a name.
Widths are roles, not numbers: `Precision` says how many bits each role has, so that one trained network can be lowered
at any width.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sim.formats import is_whole
from sim.quantizers import QUANTIZERS, Parameters, Quantizer, QuantizerError
from sim.values import Value, sizes

__all__ = ["Parameters", "QuantizerError"]  # what training needs of the quantizers' twins

FLOAT_BITS = 32
"""The width that stands for float32, no quantization."""

QUANTIZED_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
ROLES = ("inner", "boundary", "skip")
MAX_SIZE = 1 << 16
"""No image side, channel count or kernel side is larger: a description that says otherwise is not believed."""

LIMITS = (1e-6, 1e6)
"""Allowed clips of an activation."""

Shape = tuple[int, int, int]

LATER = {"later": True}
"""Of fields that came after files were written: at their default they are not stored, so that old digests stay."""


class NetworkError(ValueError):
    """A description that is not a network, with the row that is wrong."""


@dataclass(frozen=True)
class Precision:
    """Bits per role: `inner` layers, the first and last (`boundary`), the residual path (`skip`).  32 means float.

    `layers` are exceptions, (row, bits): what has the role inner in that row, its weights and its output, has that width.
    """

    inner: int
    boundary: int = 8
    skip: int = 8
    layers: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for role in ROLES:
            bits = getattr(self, role)
            if isinstance(bits, bool) or not isinstance(bits, int) or bits not in (*QUANTIZED_BITS, FLOAT_BITS):
                raise NetworkError(f"{role} bits: {bits!r} is not allowed, choose 1 to 8, 16 or 32 (float)")
        if self.boundary == 1:
            raise NetworkError("boundary bits: 1 is not allowed, the signed codes of the input need at least 2")
        if self.inner != FLOAT_BITS and self.skip == FLOAT_BITS:
            raise NetworkError("skip bits: a quantized network needs an integer residual path, choose 1 to 8 or 16")
        for name, bits in self.layers:
            if isinstance(bits, bool) or not isinstance(bits, int) or bits not in QUANTIZED_BITS:
                raise NetworkError(f"layer bits of {name}: {bits!r} is not allowed, choose 1 to 8 or 16")
        if len({name for name, _ in self.layers}) < len(self.layers):
            raise NetworkError("layer bits: a row is named twice")

    @classmethod
    def of(cls, bits: int, boundary: int = 8, skip: int = 8) -> "Precision":
        """`bits` in every inner layer; 32 makes the whole network float."""
        return cls(FLOAT_BITS, FLOAT_BITS, FLOAT_BITS) if bits == FLOAT_BITS else cls(bits, boundary, skip)

    def bits(self, role: str, row: str) -> int:
        """Bits of one role in one row."""
        return dict(self.layers).get(row, self.inner) if role == "inner" else int(getattr(self, role))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `layers` only if there are any."""
        roles = {role: getattr(self, role) for role in ROLES}
        return roles | ({"layers": [list(pair) for pair in self.layers]} if self.layers else {})

    def check(self, graph: "Graph") -> None:
        """Raise NetworkError unless every exception is for a row of the network with something of the role inner."""
        inner = [row.name for row in graph.rows if "inner" in (
            getattr(row, "role", ""), getattr(getattr(row, "activation", None), "role", ""))]
        for name, _ in self.layers:
            if name not in inner:
                raise NetworkError(f"layer bits: {name!r} is no inner row, choose from {', '.join(inner)}")

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
        layers = "".join(f", {name} {bits}" for name, bits in self.layers)
        return f"W{self.inner}A{self.inner}, first and last {boundary}, residual {self.skip}{layers}"


@dataclass(frozen=True)
class Activation:
    """ReLU, then an unsigned quantizer: code 2^bits - 1 stands for `limit`.  In a float network a plain ReLU."""

    role: str = "inner"
    limit: float = 1.0

    def __post_init__(self) -> None:
        _check_role(self.role)
        if not isinstance(self.limit, float) or not LIMITS[0] <= self.limit <= LIMITS[1]:
            raise NetworkError(f"activation: limit must be from {LIMITS[0]:g} to {LIMITS[1]:g}, not {self.limit!r}")


@dataclass(frozen=True)
class Row:
    """What every row has: a name, unique in its graph, and the row it reads."""

    kind: ClassVar[str]
    name: str
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", self.name):
            raise NetworkError(f"row name {self.name!r} must be lower-case letters, digits and _, at most 64")

    def sources(self) -> tuple[str, ...]:
        """Names of the rows this one reads."""
        return (self.source,) if self.source else ()

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """(height, width, channels) of the output, given those of the sources."""
        raise NotImplementedError

    def _sizes(self, **sizes: int) -> None:
        for key, (value, least) in {k: (v, 0 if k == "padding" else 1) for k, v in sizes.items()}.items():
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_SIZE:
                raise NetworkError(f"{self.name}: {key} must be a whole number from {least} to {MAX_SIZE}, not {value!r}")


@dataclass(frozen=True)
class Input(Row):
    """uint8 pixels, normalized per channel to (p / 255 - mean) / std, then signed codes of the boundary width."""

    kind: ClassVar[str] = "input"
    height: int = 0
    width: int = 0
    channels: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes(height=self.height, width=self.width, channels=self.channels)
        values = (*self.mean, *self.std)
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise NetworkError(f"{self.name}: mean and std need one number for each of {self.channels} channels")
        if not all(isinstance(v, float) and math.isfinite(v) for v in values) or min(self.std) <= 0:
            raise NetworkError(f"{self.name}: mean and std must be finite and std positive")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """As declared."""
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class Conv(Row):
    """Convolution, optional batch norm, optional residual `skip`, then an activation; without one the sums are logits.

    A fully connected layer is a convolution whose kernel covers its whole input.
    Weights are [channels, in_channels / groups, kernel, kernel].
    """

    kind: ClassVar[str] = "conv"
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    role: str = "inner"
    norm: bool = True
    bias: bool = False
    skip: str = ""
    activation: Activation | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_role(self.role)
        self._sizes(channels=self.channels, kernel=self.kernel, stride=self.stride,
                    padding=self.padding, groups=self.groups)
        if self.channels % self.groups:
            raise NetworkError(f"{self.name}: {self.groups} groups do not divide {self.channels} channels")
        if self.norm and self.bias:
            raise NetworkError(f"{self.name}: batch norm already has a bias, set one of norm and bias")

    def sources(self) -> tuple[str, ...]:
        """The input and, if there is one, the residual."""
        return (self.source, self.skip) if self.skip else (self.source,)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Strides that leave a rest drop it, as everywhere in the field."""
        height, width, channels = shapes[self.source]
        if channels % self.groups:
            raise NetworkError(f"{self.name}: {self.groups} groups do not divide {channels} input channels")
        shape = (*_window(self, (self.kernel, self.kernel), height, width), self.channels)
        if self.skip and shapes[self.skip] != shape:
            raise NetworkError(f"{self.name}: residual {self.skip} is {shapes[self.skip]}, the output {shape}")
        if self.skip and self.activation is None:
            raise NetworkError(f"{self.name}: a layer with a residual needs an activation")
        return shape

    def array_shapes(self, in_channels: int) -> dict[str, tuple[int, ...]]:
        """The float arrays that belong to this row, by name, and their shapes."""
        arrays: dict[str, tuple[int, ...]] = {
            "weight": (self.channels, in_channels // self.groups, self.kernel, self.kernel)}
        if self.bias:
            arrays["bias"] = (self.channels,)
        if self.norm:
            arrays |= {f"norm.{key}": (self.channels,) for key in ("weight", "bias", "running_mean", "running_var")}
        return arrays


@dataclass(frozen=True)
class Requantize(Row):
    """The same values in another format: from the wide residual path to the width of a layer's input."""

    kind: ClassVar[str] = "requantize"
    activation: Activation = field(default_factory=Activation)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Unchanged."""
        return shapes[self.source]


@dataclass(frozen=True)
class Shortcut(Row):
    """The parameter-free shortcut of CIFAR ResNets: every `stride`-th pixel, new channels filled with 0.

    Source: He et al. 2015, option A.  The added channels stand half before, half after the old ones.
    """

    kind: ClassVar[str] = "shortcut"
    channels: int = 0
    stride: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes(channels=self.channels, stride=self.stride)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Strides round up: pixel 0 is always kept."""
        height, width, channels = shapes[self.source]
        if self.channels < channels:
            raise NetworkError(f"{self.name}: a shortcut can add channels, not drop them ({channels} to {self.channels})")
        return -(-height // self.stride), -(-width // self.stride), self.channels


@dataclass(frozen=True)
class AvgPool(Row):
    """Average over windows; padding counts as 0 and the divisor is always the whole window.

    A window has `kernel` rows and `kernel_width` columns, as many as rows if that is 0 (or the same number).

    >>> AvgPool("pool", "conv", kernel=7, kernel_width=4).window, AvgPool("pool", "conv", kernel=7).window
    ((7, 4), (7, 7))
    """

    kind: ClassVar[str] = "avgpool"
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    activation: Activation = field(default_factory=lambda: Activation("boundary"))
    kernel_width: int = field(default=0, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes(kernel=self.kernel, stride=self.stride, padding=self.padding)
        if is_whole(self.kernel_width) and self.kernel_width in (0, self.kernel):
            object.__setattr__(self, "kernel_width", 0)  # one way to say the same
        else:
            self._sizes(kernel_width=self.kernel_width)

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        return self.kernel, self.kernel_width or self.kernel

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """As a convolution's."""
        height, width, channels = shapes[self.source]
        return (*_window(self, self.window, height, width), channels)


ROW_KINDS: dict[str, type[Row]] = {row.kind: row for row in (Input, Conv, Requantize, Shortcut, AvgPool)}


@dataclass(frozen=True)
class Graph:
    """Rows in order of execution; the first is the input, the last gives the logits."""

    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if not self.rows or not isinstance(self.rows[0], Input):
            raise NetworkError("a network begins with its input row")
        last = self.rows[-1]
        if not isinstance(last, Conv) or last.activation is not None:
            raise NetworkError(f"a network ends with a convolution without activation, the logits, not {last.name}")
        seen: dict[str, Row] = {}
        for row in self.rows:
            if row.name in seen:
                raise NetworkError(f"two rows are called {row.name}")
            if isinstance(row, Input) != (not row.sources()) or (isinstance(row, Input) and seen):
                raise NetworkError(f"{row.name}: only the first row is an input, every other one reads a row")
            for source in row.sources():
                if source not in seen:
                    raise NetworkError(f"{row.name}: reads {source!r}, which is no row before it")
            if isinstance(row, Requantize | Shortcut | AvgPool) and isinstance(seen[row.source], Input):
                raise NetworkError(f"{row.name}: only a convolution reads the signed codes of the input")
            if isinstance(row, Conv) and row.activation is None and row is not last:
                raise NetworkError(f"{row.name}: has no activation, only the last row gives logits")
            if isinstance(row, Conv) and row.skip and isinstance(seen[row.skip], Input):
                raise NetworkError(f"{row.name}: the input cannot be a residual")
            seen[row.name] = row
        if (shape := self.shapes()[last.name])[:2] != (1, 1):
            raise NetworkError(f"{last.name}: logits must be 1x1 pixel, these are {shape[0]}x{shape[1]}")

    def shapes(self) -> dict[str, Shape]:
        """(height, width, channels) of every row's output."""
        shapes: dict[str, Shape] = {}
        for row in self.rows:
            shapes[row.name] = row.output_shape(shapes)
        return shapes

    @property
    def input(self) -> Input:
        """The first row."""
        first = self.rows[0]
        assert isinstance(first, Input)
        return first

    @property
    def classes(self) -> int:
        """Channels of the logits."""
        return self.shapes()[self.rows[-1].name][2]

    def to_json(self) -> list[dict[str, Any]]:
        """Rows as plain dictionaries."""
        return [_row_to_json(row) for row in self.rows]

    @classmethod
    def from_json(cls, rows: Any) -> "Graph":
        """The inverse of `to_json`; raises NetworkError on anything that it could not have written."""
        if not isinstance(rows, list):
            raise NetworkError("the network description is not a list of rows")
        return cls(tuple(_row_from_json(row) for row in rows))


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
        image, count = self.graph.input, sum(array.size for array in self.arrays.values())
        return (f"<NetworkSpec: {sizes((image.height, image.width, image.channels))} -> {self.graph.classes} classes, "
                f"{len(self.graph.rows)} rows, {self.precision}, {self.quantizer}, {count:,} numbers>")

    def at(self, precision: Precision) -> "NetworkSpec":
        """The same float weights at another precision; learned ranges stay, so learned steps change with the width."""
        arrays = dict(self.arrays)
        rules = QUANTIZERS.get(self.quantizer, Quantizer())
        for row in self.graph.rows:
            names = {name: (name, row.role) for name in rules.weight_parameters(1)} if isinstance(row, Conv) else {}
            if (activation := getattr(row, "activation", None)) is not None:
                names |= {f"activate.{name}": (name, activation.role) for name in rules.activation_parameters()}
            for key, (name, role) in names.items():
                old, new = (p.bits(role, row.name) for p in (self.precision, precision))
                if old != new and 1 not in (old, new) and FLOAT_BITS not in (old, new):
                    arrays[f"{row.name}.{key}"] = rules.at_width(name, self.array(row, key), old, new)
        return dataclasses.replace(self, precision=precision, arrays=arrays)

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
        if isinstance(row, Conv):
            own = row.array_shapes(shapes[row.source][2]) | learns.weight_parameters(row.channels)
            arrays |= {f"{row.name}.{key}": shape for key, shape in own.items()}
        if getattr(row, "activation", None) is not None:
            arrays |= {f"{row.name}.activate.{key}": shape for key, shape in learns.activation_parameters().items()}
    return arrays


def _check_role(role: Any) -> None:
    if role not in ROLES:
        raise NetworkError(f"role {role!r} is unknown, choose one of {', '.join(ROLES)}")


def _window(row: Conv | AvgPool, window: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    rows, columns = ((side + 2 * row.padding - size) // row.stride + 1
                     for side, size in zip((height, width), window, strict=True))
    if min(rows, columns) < 1:
        size = row.kernel if window == (row.kernel, row.kernel) else sizes(window)
        raise NetworkError(f"{row.name}: kernel {size} is larger than its padded input {height}x{width}")
    return rows, columns


def is_stored(entry: "dataclasses.Field[Any]", value: Any) -> bool:
    """Whether a field's value goes into files and digests."""
    return not entry.metadata.get("later") or value != entry.default


def _row_to_json(row: Row) -> dict[str, Any]:
    values = dataclasses.asdict(row)
    stored = [f.name for f in dataclasses.fields(row) if is_stored(f, values[f.name])]
    return {"kind": row.kind, **{name: values[name] for name in stored}}


def _row_from_json(data: Any) -> Row:
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str) or data["kind"] not in ROW_KINDS:
        raise NetworkError(f"a row of unknown kind, choose one of {', '.join(ROW_KINDS)}")
    kind = ROW_KINDS[data["kind"]]
    values = {key: value for key, value in data.items() if key != "kind"}
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(map(str, values.keys() - fields.keys())):
        raise NetworkError(f"{data.get('name')}: unknown entry {unknown[0]!r}")
    if isinstance(activation := values.get("activation"), dict):
        if activation.keys() != {"role", "limit"}:
            raise NetworkError(f"{data.get('name')}: an activation has exactly a role and a limit")
        values["activation"] = Activation(**activation)
    for key in ("mean", "std"):
        if key in values:
            values[key] = tuple(values[key]) if isinstance(values[key], list | tuple) else ()
    for key, value in values.items():
        wanted = {"name": str, "source": str, "skip": str, "role": str, "norm": bool, "bias": bool}.get(key)
        if wanted and not isinstance(value, wanted):
            raise NetworkError(f"{data.get('name')}: {key} must be a {wanted.__name__}, not {value!r}")
    needs_activation = kind in (Requantize, AvgPool)
    if "activation" in values and not isinstance(values["activation"], Activation) and (
            needs_activation or values["activation"] is not None):
        raise NetworkError(f"{data.get('name')}: not an activation: {values['activation']!r}")
    try:
        return kind(**values)
    except TypeError as error:
        raise NetworkError(f"{data.get('name')}: {error}") from None
