"""Padding: rows and columns of zeros around an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sim.formats import Shape, is_whole
from sim.ops.op import MAX_SIZE, Op, ProgramError, check_shape, check_sizes, read
from sim.ops.row import NetworkError, Row
from sim.values import sizes

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Pad(Row):
    """So many rows and columns of 0 at the (top, bottom, left, right)."""

    kind: ClassVar[str] = "pad"
    paddings: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not are_paddings(self.paddings):
            raise NetworkError(f"{self.name}: paddings must be four whole numbers from 0 to {MAX_SIZE}, top, bottom, left "
                               f"and right, not {self.paddings!r}")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Larger by the paddings."""
        return padded(shapes[self.source], self.paddings)

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Codes are copied, so format and scale stay."""
        source = to.ops[self.source]
        return (PadOp(self.name, self.source, to.shapes[self.name], source.format, self.paddings,
                      zero_point=source.zero_point), to.scales[self.source])


@dataclass(frozen=True, eq=False, repr=False)
class PadOp(Op):
    """The codes of its input, with codes of 0 at the (top, bottom, left, right)."""

    kind: ClassVar[str] = "pad"
    paddings: tuple[int, int, int, int]

    def details(self) -> list[str]:
        """The paddings."""
        return [f"padding {sizes(self.paddings)}"]

    def check(self, before: Mapping[str, Op]) -> None:
        """The format and zero point of the input."""
        check_sizes(self)
        source = read(before, self.source)
        if not are_paddings(self.paddings):
            raise ProgramError(f"its paddings {self.paddings!r} are no four sizes")
        if (source.format, source.zero_point) != (self.format, self.zero_point):
            raise ProgramError("padding keeps the format and the zero point of its input")
        check_shape(self, padded(source.shape, self.paddings))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Copy."""
        top, bottom, left, right = self.paddings
        _, width, channels = self.shape

        def zeros(rows: int, columns: int) -> list[list[list[int]]]:
            return [[[self.zero_point] * channels for _ in range(columns)] for _ in range(rows)]

        inside = [[*zeros(1, left)[0], *row, *zeros(1, right)[0]] for row in inputs[0]]
        return [*zeros(top, width), *inside, *zeros(bottom, width)], None


def are_paddings(values: Any) -> bool:
    """Whether it is a tuple of four sizes, which may be 0."""
    return isinstance(values, tuple) and len(values) == 4 and all(is_whole(v) and 0 <= v <= MAX_SIZE for v in values)


def padded(shape: Shape, paddings: tuple[int, int, int, int]) -> Shape:
    """A shape with paddings (top, bottom, left, right)."""
    top, bottom, left, right = paddings
    return top + shape[0] + bottom, left + shape[1] + right, shape[2]
