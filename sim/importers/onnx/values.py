"""What the names of an ONNX graph stand for while it becomes a program: codes, constants, real numbers made of codes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.formats import IntFormat, Shape
from sim.importers.builder import image_of
from sim.importers.onnx.model import NARROW, Node

Dims = tuple[int, ...]
"""Sides of a tensor as ONNX orders them, without the batch axis where there is one."""
MOST_BITS = 32
"""Of a quantizer's codes."""
IMAGE, PLAIN = "image", "plain"
"""How it lies in the program: channels last, of ONNX's (channels, height, width) or (channels, length), or as it is."""


def stored_shape(dims: Dims, layout: str) -> Shape:
    """The shape of the operation that holds such a tensor.

    >>> stored_shape((3, 8, 9), IMAGE), stored_shape((3, 9), IMAGE), stored_shape((5, 7), PLAIN)
    ((8, 9, 3), (1, 9, 3), (5, 1, 7))
    """
    if layout == IMAGE:
        return (1, dims[1], dims[0]) if len(dims) == 2 else (dims[1], dims[2], dims[0])
    return image_of(dims)


def arranged(codes: np.ndarray, dims: Dims, layout: str, batched: bool) -> np.ndarray:
    """Codes [N, H, W, C] of a program as the ONNX tensor [N, *dims], or [*dims] where nothing is a batch axis."""
    if layout == IMAGE:
        codes = codes.transpose(0, 3, 1, 2)
    return codes.reshape((len(codes), *dims) if batched else dims)


def stored(array: np.ndarray, dims: Dims, layout: str, batched: bool) -> np.ndarray:
    """The inverse: [N, H, W, C]."""
    array = array.reshape((-1, *dims)) if batched else array.reshape((1, *dims))
    if layout == IMAGE:
        array = np.moveaxis(array, 1, -1)
    return np.ascontiguousarray(array).reshape((len(array), *stored_shape(dims, layout)))


@dataclass(frozen=True)
class Codes:
    """Integers that an operation of the program gives; `zero` is the one that stands for 0."""

    op: str
    dims: Dims
    layout: str
    form: IntFormat
    zero: int = 0

    @property
    def channels(self) -> int:
        """Those of the operation."""
        return stored_shape(self.dims, self.layout)[2]

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return self.form.min, self.form.max


Emit = Callable[..., str]


@dataclass(frozen=True, eq=False)
class Sums:
    """Exact sums of products whose operation is made when it is known what becomes of them.

    `emit(name, requant, form, zero, scale)` makes it and gives its name; `bounds` hold every sum, also a register's that
    is too narrow.  `kind` is that of the profile's rule.
    """

    emit: Emit
    dims: Dims
    layout: str
    bounds: tuple[int, int]
    kind: str = "conv"
    made: dict[str, Codes] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Those of the operation."""
        return stored_shape(self.dims, self.layout)[2]


@dataclass(frozen=True, eq=False)
class Real:
    """float32((code - zero) scale), one scale for all or one per channel of the operation; `scale` may have 64 bits."""

    codes: Codes | Sums
    scale: np.ndarray
    zero: int = 0

    @property
    def dims(self) -> Dims:
        """Of its codes."""
        return self.codes.dims

    def values(self, codes: np.ndarray) -> np.ndarray:
        """float32 of integers [..., channels]: a product that is rounded once."""
        product: np.ndarray = (codes - self.zero).astype(self.scale.dtype) * self.scale
        return product.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Weights:
    """Constant codes int64 and their scales and zero points, which broadcast against them; `form` is that of the file."""

    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    form: IntFormat

    @property
    def array(self) -> np.ndarray:
        """As float32."""
        product: np.ndarray = (self.codes - self.zero).astype(np.float32) * self.scale.astype(np.float32)
        return product


@dataclass(frozen=True, eq=False)
class Outside:
    """A float32 input of the graph, before it is quantized: what happens to it happens outside the program."""

    name: str
    dims: Dims


@dataclass(frozen=True, eq=False)
class Computed:
    """A float32 operator that waits for what closes it; `inputs` are values and arrays of constants."""

    node: Node
    inputs: tuple[Any, ...]
    dims: Dims
    depth: int = 1


Value = Codes | Sums | Real | Weights | Outside | Computed | np.ndarray


def form_of(kind: str) -> IntFormat | None:
    """The format of an ONNX integer type.

    >>> form_of("uint8"), form_of("int4"), form_of("float")
    (IntFormat(u8), IntFormat(s4), None)
    """
    if kind in NARROW:
        return IntFormat(*NARROW[kind])
    if kind in ("int8", "int16", "int32", "uint8", "uint16"):
        return IntFormat(int(kind.removeprefix("u").removeprefix("int")), not kind.startswith("u"))
    return None


def whole_range(low: int, high: int) -> tuple[int, int]:
    """The codes of the narrowest register that holds both: a sum that overflows it stays inside.

    >>> whole_range(-5, 9), whole_range(0, 0)
    ((-16, 15), (-1, 0))
    """
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0)
    return -(1 << bits), (1 << bits) - 1


def count(dims: Dims) -> int:
    """How many numbers."""
    return math.prod(dims)
