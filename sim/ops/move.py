"""Copies in another order: heads of attention, tokens of them, an image as tokens, a tensor as one pixel."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sim import reference
from sim.formats import Shape, is_whole
from sim.ops.op import Op, ProgramError, check_sizes, read
from sim.ops.row import NetworkError, Row
from sim.values import sizes

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Move(Row):
    """What all rows here share: codes are copied, so format, scale and zero point stay."""

    def split(self, shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sides as which an input of `shape` is read, and the order in which these are written."""
        raise NotImplementedError

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """A copy."""
        source = to.ops[self.source]
        split, order = self.split(to.shapes[self.source])
        return (MoveOp(self.name, self.source, to.shapes[self.name], source.format, split, order,
                       zero_point=source.zero_point), to.scales[self.source])


@dataclass(frozen=True)
class Heads(Move):
    """Tokens (tokens, 1, features) -> (heads, tokens, features / heads): head h has the h-th part of the features.

    >>> Heads("q", "query", 4).output_shape({"query": (10, 1, 32)})
    (4, 10, 8)
    """

    kind: ClassVar[str] = "heads"
    heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes(heads=self.heads)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """One image row for each head."""
        tokens, width, features = shapes[self.source]
        if width != 1 or features % self.heads:
            raise NetworkError(f"{self.name}: {self.heads} heads need tokens (tokens, 1, features) of a multiple of so many "
                               f"features, not {shapes[self.source]}")
        return self.heads, tokens, features // self.heads

    def split(self, shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Features by heads, which come first."""
        return (shape[0], self.heads, shape[2] // self.heads), (1, 0, 2)


@dataclass(frozen=True)
class Tokens(Move):
    """The inverse of Heads: (heads, tokens, depth) -> (tokens, 1, heads depth)."""

    kind: ClassVar[str] = "tokens"

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """All heads of a token side by side."""
        heads, tokens, depth = shapes[self.source]
        return tokens, 1, heads * depth

    def split(self, shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens come first."""
        return shape, (1, 0, 2)


@dataclass(frozen=True)
class Flatten(Move):
    """(height, width, channels) -> (1, 1, height width channels) in torch's order: channel, row, column."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """One pixel."""
        return 1, 1, math.prod(shapes[self.source])

    def split(self, shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Channels come first."""
        return shape, (2, 0, 1)


@dataclass(frozen=True)
class Sequence(Move):
    """An image as tokens, row by row: (height, width, channels) -> (height width, 1, channels)."""

    kind: ClassVar[str] = "sequence"

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """A token for each pixel."""
        height, width, channels = shapes[self.source]
        return height * width, 1, channels

    def split(self, shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """As it lies."""
        return shape, (0, 1, 2)


@dataclass(frozen=True, eq=False, repr=False)
class MoveOp(Op):
    """The input read as a tensor of the sides `split`, whose axes are written in `order`: x.reshape(split).transpose(order).

    This for every image; the result is read as the operation's shape.
    """

    kind: ClassVar[str] = "move"
    split: tuple[int, ...]
    order: tuple[int, ...]

    def details(self) -> list[str]:
        """How."""
        return [f"as {sizes(self.split)}", f"axes {' '.join(map(str, self.order))}"]

    def check(self, before: Mapping[str, Op]) -> None:
        """As many numbers everywhere, and the format and zero point of the input."""
        check_sizes(self)
        source = read(before, self.source)
        if (source.format, source.zero_point) != (self.format, self.zero_point):
            raise ProgramError("a copy keeps the format and the zero point of its input")
        whole = all(is_whole(number) for number in (*self.split, *self.order))
        if not whole or min(self.split) < 1 or sorted(self.order) != list(range(len(self.split))):
            raise ProgramError(f"{self.split} in the order {self.order} is no tensor with its axes in another order")
        if not math.prod(self.split) == math.prod(self.shape) == math.prod(source.shape):
            raise ProgramError(f"{source.shape} as {self.split}, written as {self.shape}, is not as many numbers")

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Number by number."""
        return reference.rearrange(inputs[0], self.split, self.order, self.shape), None
