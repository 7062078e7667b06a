"""One token of a sequence, such as the first, which BERT classifies by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sim.formats import Shape, is_whole
from sim.ops.op import Op, ProgramError, check_shape, read
from sim.ops.row import NetworkError, Row

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Select(Row):
    """Token `index` of (tokens, 1, features) -> (1, 1, features).

    >>> Select("first", "encoder", 0).output_shape({"encoder": (128, 1, 64)})
    (1, 1, 64)
    """

    kind: ClassVar[str] = "select"
    index: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.index) or self.index < 0:
            raise NetworkError(f"{self.name}: index must be a whole number from 0, not {self.index!r}")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """One token."""
        tokens, width, features = shapes[self.source]
        if width != 1 or self.index >= tokens:
            raise NetworkError(f"{self.name}: {shapes[self.source]} has no token {self.index}")
        return 1, 1, features

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Codes are copied, so format, scale and zero point stay."""
        source = to.ops[self.source]
        return (SelectOp(self.name, self.source, to.shapes[self.name], source.format, self.index,
                         zero_point=source.zero_point), to.scales[self.source])


@dataclass(frozen=True, eq=False, repr=False)
class SelectOp(Op):
    """Row `index` of an image: (height, width, channels) -> (1, width, channels)."""

    kind: ClassVar[str] = "select"
    index: int

    def details(self) -> list[str]:
        """Which."""
        return [f"row {self.index}"]

    def check(self, before: Mapping[str, Op]) -> None:
        """The format and zero point of the input, which has such a row."""
        source = read(before, self.source)
        if (source.format, source.zero_point) != (self.format, self.zero_point):
            raise ProgramError("a copy keeps the format and the zero point of its input")
        if not is_whole(self.index) or not 0 <= self.index < source.shape[0]:
            raise ProgramError(f"{source.shape} has no row {self.index!r}")
        check_shape(self, (1, *source.shape[1:]))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Copy."""
        return [inputs[0][self.index]], None
