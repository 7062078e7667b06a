"""What every operation of an integer program is: constants, a check of them, its meaning in plain Python integers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat, Shape, is_whole
from sim.values import LATER, Value, sizes

MAX_SIZE = 1 << 16
"""No image side, channel count or kernel side is larger: a description that says otherwise is not believed."""
MAX_NUMBERS = 1 << 31
"""No tensor of one image is larger, nor would it fit any memory."""
MAX_CODE_BITS = 32
MAX_TABLE_BITS = 16
"""Of codes that are looked up: a table has an entry for each."""
MAX_SUM_BITS = 53
"""Integers of so many bits are exact in float64, where the torch model keeps its sums."""


class ProgramError(ValueError):
    """A program that cannot be run, and which operation is wrong."""


@dataclass(frozen=True, eq=False, repr=False)
class Op(Value):
    """An operation: its name, the operation it reads, the shape and format of its output (None: logits).

    `zero_point` is the code of its output that stands for 0: what borders and added channels hold.  `limits` are the least
    and the largest code that it gives, where these are not those of its format: clamp(R + zero_point, *limits).
    """

    kind: ClassVar[str]
    is_input: ClassVar[bool] = False
    """Whether it reads what the user hands over."""
    accumulates: ClassVar[bool] = False
    """Whether products go through a register: such an op has `accumulator`, `requant`, `bounds`, `safe_bits`, `factors`,
    and its first detail names the formats that it multiplies."""
    gives_logits: ClassVar[bool] = False
    """Whether it may end in numbers that are no codes."""
    reads: ClassVar[str] = "pixels"
    """What it reads if no operation."""
    clamps: ClassVar[bool] = False
    """Whether it makes new codes, which it can hold within `limits`."""
    name: str
    source: str
    shape: Shape
    format: IntFormat | None
    zero_point: int = field(default=0, kw_only=True, metadata=LATER)
    limits: tuple[int, ...] = field(default=(), kw_only=True, metadata=LATER)

    def __repr__(self) -> str:
        details = "".join(f", {detail}" for detail in self.details())
        return f"<{type(self).__name__} {self.name}: {self.source or self.reads} -> {sizes(self.shape)} " \
               f"{self.format or 'logits'}{details}>"

    def details(self) -> list[str]:
        """What else is worth a word, without arrays."""
        return []

    def sources(self) -> tuple[str, ...]:
        """Names of the operations it reads: `source`, and `other` if it has such a field."""
        return sources_of(self)

    @property
    def residual(self) -> str:
        """The name of the source that is added behind the registers, or nothing."""
        return ""

    @property
    def border(self) -> int:
        """Pixels that it reads around each image of its first source, those of the widest side."""
        return 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return 0

    @property
    def given(self) -> str:
        """What a user hands over to an input, in words."""
        raise NotImplementedError

    def accept(self, given: Any) -> np.ndarray:
        """What a user hands over to an input, as its step wants it: [N, H, W, C].  Raises InputError for anything else."""
        raise NotImplementedError

    def check(self, before: Mapping[str, "Op"]) -> None:
        """Raise ProgramError unless it fits the operations that it reads, and its constants are possible."""
        raise NotImplementedError

    def reference(self, *inputs: Any) -> tuple[Any, list[int] | None]:
        """Its results for one image in plain Python integers, and overflows per channel if it has a register.

        Tensors are nested lists [row][column][channel], in the order of `sources`; an input gets what the user hands over.
        """
        raise NotImplementedError


class PoolWindow:
    """Windows of `size` rows and `width` columns, as many as rows if that is 0: what pools share."""

    size: int
    width: int

    def __post_init__(self) -> None:
        if self.width == self.size and is_whole(self.width):
            object.__setattr__(self, "width", 0)  # one way to say the same, one digest

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        return self.size, self.width or self.size


def check_common(op: Op) -> None:
    """What holds for every operation."""
    if not isinstance(op.name, str) or not op.name:
        raise ProgramError("an operation without a name")
    if not isinstance(op.source, str) or (op.is_input and op.source):
        raise ProgramError(f"reads {op.source!r}: " + ("an input reads no operation" if op.is_input else "a name is wanted"))
    if op.format is None and not op.gives_logits:
        raise ProgramError("it gives codes, so it has a format")
    if op.format is not None and not 1 <= op.format.bits <= MAX_CODE_BITS:
        raise ProgramError(f"codes have 1 to {MAX_CODE_BITS} bits, not {op.format.bits}")
    least, most = (0, 0) if op.format is None else (op.format.min, op.format.max)
    if not is_whole(op.zero_point) or not least <= op.zero_point <= most:
        raise ProgramError(f"its zero point {op.zero_point!r} is none of its codes")
    if op.limits != ():
        if not op.clamps or op.format is None:
            raise ProgramError("it copies codes or gives logits: it has no limits")
        if not isinstance(op.limits, tuple) or len(op.limits) != 2 or not all(map(is_whole, op.limits)) \
                or not least <= op.limits[0] <= op.limits[1] <= most:
            raise ProgramError(f"its limits {op.limits!r} are not two codes of {op.format}, the smaller first")


def read(before: Mapping[str, Op], name: str) -> Op:
    """An operation before this one, which gives codes."""
    if name not in before:
        raise ProgramError(f"reads {name!r}, which is no operation before it")
    if before[name].format is None:
        raise ProgramError(f"reads {name!r}, which gives logits")
    return before[name]


def format_of(op: Op) -> IntFormat:
    """The format of an operation that gives codes."""
    if op.format is None:
        raise ProgramError(f"{op.name}: gives logits, no codes")
    return op.format


def check_sizes(op: Op, **sizes: int) -> None:
    """Sides, strides and the like."""
    for key, value in {**sizes, "height": op.shape[0], "width": op.shape[1], "channels": op.shape[2]}.items():
        if not is_whole(value) or not (0 if key == "padding" else 1) <= value <= MAX_SIZE:
            raise ProgramError(f"{key} must be a whole number up to {MAX_SIZE}, not {value!r}")
    if math.prod(op.shape) > MAX_NUMBERS:
        raise ProgramError(f"its {op.shape} are more than {MAX_NUMBERS} numbers")


def check_shape(op: Op, expected: Sequence[int]) -> None:
    """The declared shape against what follows."""
    if op.shape != tuple(expected):
        raise ProgramError(f"its shape is {op.shape}, it follows from its input as {tuple(expected)}")


def check_kept(op: Op, source: Op) -> None:
    """Raise ProgramError unless codes that are copied keep their format and zero point."""
    if (source.format, source.zero_point) != (op.format, op.zero_point):
        raise ProgramError(f"it keeps the format and the zero point of {source.name}, {source.format} and "
                           f"{source.zero_point}, not {op.format} and {op.zero_point}")


ROUNDINGS = ("half_away", "half_up", "half_even", "floor", "trunc")
"""Of a quotient: to the nearest integer, ties away from 0, toward plus infinity or to even; down; toward 0."""


def check_rounding(rounding: str) -> None:
    """Raise ProgramError unless there is such a rounding."""
    if rounding not in ROUNDINGS:
        raise ProgramError(f"its rounding must be one of {', '.join(ROUNDINGS)}, not {rounding!r}")


def check_pairs(**pairs: tuple[int, int]) -> None:
    """Rows and columns, or steps down and across."""
    for key, pair in pairs.items():
        is_pair = isinstance(pair, tuple) and len(pair) == 2
        if not is_pair or not all(is_whole(side) and 1 <= side <= MAX_SIZE for side in pair):
            raise ProgramError(f"{key} must be two whole numbers up to {MAX_SIZE}, not {pair!r}")


def check_paddings(paddings: Any, taps: tuple[int, int]) -> None:
    """Top, bottom, left and right, each less than the side of a window, so that a code is in every one."""
    if not isinstance(paddings, tuple) or len(paddings) != 4:
        raise ProgramError(f"its paddings must be top, bottom, left and right, not {paddings!r}")
    for value, side in zip(paddings, (taps[0], taps[0], taps[1], taps[1]), strict=True):
        if not is_whole(value) or not 0 <= value < side:
            raise ProgramError(f"padding {value!r} makes windows of padding alone, a window is {taps[0]}x{taps[1]}")


def check_sum(reach: int) -> None:
    """Raise ProgramError unless integers of such a magnitude are exact wherever they are computed."""
    if reach >= 2**MAX_SUM_BITS:
        raise ProgramError(f"its sums or products can pass {MAX_SUM_BITS} bits, beyond which float64 is not exact")


MAX_FLOAT_BITS = 22
"""Of results of `fp32`, whose rounding is one float32 addition."""


def check_requant(op: Op, requant: Any, reach: int) -> None:
    """Raise unless a requantizer, with constants per channel or one for all, takes sums up to `reach` to these codes."""
    check_results(op, requant)
    requant.check(1 if is_shared(requant) else op.shape[2], reach)


def is_shared(requant: Any) -> bool:
    """Whether a requantizer has one set of constants for all channels."""
    return max(len(array) for array in requant.arrays().values()) == 1


def check_results(op: Op, requant: Any) -> None:
    """Raise ProgramError if the results of a requantizer have not as many bits as the codes."""
    if op.format is not None and op.format.bits >= MAX_FLOAT_BITS and requant.name == "fp32":
        raise ProgramError(f"fp32 gives codes of less than {MAX_FLOAT_BITS} bits, not {op.format}")


def broadcast_shape(source: Op, other: Op) -> Shape:
    """The shape of both, where each may be of one row, column or channel for all of the other's."""
    if not all(a == b or 1 in (a, b) for a, b in zip(source.shape, other.shape, strict=True)):
        raise ProgramError(f"{source.name} is {source.shape} and {other.name} {other.shape}: along every axis they must be "
                           "equal, or one of them 1")
    height, width, channels = map(max, source.shape, other.shape)
    return height, width, channels


def check_table(op: Op, table: np.ndarray, shape: tuple[int, ...]) -> None:
    """Codes of the output's format."""
    if op.format is None or table.shape != shape or table.dtype != op.format.dtype or not op.format.contains(table):
        raise ProgramError(f"its table must be {shape} codes of {op.format}")


def output_side(side: int, kernel: int, stride: int, padding: int) -> int:
    """Positions of a window along one side; strides that leave a rest drop it, as everywhere in the field."""
    return (side + 2 * padding - kernel) // stride + 1


@dataclass(frozen=True)
class Window:
    """How a window moves over an image: rows and columns of its taps, strides, dilation, and what is around the image.

    `paddings` are top, bottom, left, right.

    >>> Window((3, 3), (2, 2), 1, (0, 1, 0, 1)).sides(224, 224)
    (112, 112)
    """

    taps: tuple[int, int]
    strides: tuple[int, int]
    dilation: int
    paddings: tuple[int, ...]

    @classmethod
    def of(cls, taps: tuple[int, int], row: Any) -> "Window":
        """Of something with stride, padding, and the fields that say more: stride_width, dilation, paddings."""
        return cls(taps, (row.stride, row.stride_width or row.stride), row.dilation, row.paddings or (row.padding,) * 4)

    @property
    def is_plain(self) -> bool:
        """Whether both strides and all paddings are equal, and nothing is dilated."""
        return self.dilation == 1 and len(set(self.strides)) == len(set(self.paddings)) == 1

    @property
    def steps(self) -> tuple[int, int, int]:
        """Strides down and across, dilation: as kernels take them."""
        return (*self.strides, self.dilation)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Positions down and across; strides that leave a rest drop it.  Below 1 if the window does not fit."""
        top, bottom, left, right = self.paddings
        reach = [(taps - 1) * self.dilation + 1 for taps in self.taps]
        return ((height + top + bottom - reach[0]) // self.strides[0] + 1,
                (width + left + right - reach[1]) // self.strides[1] + 1)


def settle_window(op: Any) -> None:
    """One way to say the same, one digest: `stride_width` 0 where it is as `stride`, `padding` for four equal `paddings`."""
    if is_whole(op.stride_width) and op.stride_width == op.stride:
        object.__setattr__(op, "stride_width", 0)
    paddings = op.paddings if isinstance(op.paddings, tuple) else ()
    if len(paddings) == 4 and len(set(paddings)) == 1 and op.padding == 0:
        object.__setattr__(op, "padding", paddings[0])
        object.__setattr__(op, "paddings", ())


def check_zeros(zero: int, source: Op) -> None:
    """Raise ProgramError unless an operation takes from the codes that it reads what stands for 0 there."""
    if zero != source.zero_point or isinstance(zero, bool):
        raise ProgramError(f"takes {zero!r} for the zero point of {source.name}, which is {source.zero_point}")


def reach_of(op: Op) -> int:
    """Magnitude that no code of an operation passes, less its zero point."""
    form = format_of(op)
    return max(form.max - op.zero_point, op.zero_point - form.min)


def sources_of(reader: Any) -> tuple[str, ...]:
    """What a row or an operation reads as its fields say."""
    if hasattr(reader, "other"):
        return reader.source, reader.other
    return (reader.source,) if reader.source else ()


def read_both(op: Any, before: Mapping[str, Op]) -> tuple[Op, Op]:
    """What an operation of two tensors reads; ProgramError unless zero points and its shape follow from them."""
    source, other = read(before, op.source), read(before, op.other)
    check_zeros(op.source_zero, source)
    check_zeros(op.other_zero, other)
    check_shape(op, broadcast_shape(source, other))
    return source, other
