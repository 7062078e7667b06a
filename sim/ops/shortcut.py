"""The parameter-free shortcut of CIFAR ResNets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sim.formats import Shape
from sim.ops.op import Op, ProgramError, check_shape, check_sizes, read
from sim.ops.row import NetworkError, Row

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


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

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Codes are copied, so format and scale stay."""
        source = to.ops[self.source]
        return (ShortcutOp(self.name, self.source, to.shapes[self.name], source.format, self.stride,
                           zero_point=source.zero_point), to.scales[self.source])


@dataclass(frozen=True, eq=False, repr=False)
class ShortcutOp(Op):
    """Every `stride`-th pixel, codes of 0 in the added channels, half of them before the old ones."""

    kind: ClassVar[str] = "shortcut"
    stride: int

    def check(self, before: Mapping[str, Op]) -> None:
        """The format and zero point of the input, no fewer channels."""
        check_sizes(self, stride=self.stride)
        source = read(before, self.source)
        if (source.format, source.zero_point) != (self.format, self.zero_point):
            raise ProgramError("a shortcut keeps the format and the zero point of its input")
        check_shape(self, (-(-source.shape[0] // self.stride), -(-source.shape[1] // self.stride),
                           max(self.shape[2], source.shape[2])))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Copy."""
        added = self.shape[2] - len(inputs[0][0][0])
        before, after = [self.zero_point] * (added // 2), [self.zero_point] * (added - added // 2)
        return [[before + pixel + after for pixel in row[:: self.stride]] for row in inputs[0][:: self.stride]], None
