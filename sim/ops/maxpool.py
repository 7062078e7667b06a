"""Maximum pooling: the largest code stands for the largest value, so codes are copied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sim import reference
from sim.formats import Shape, is_whole
from sim.ops.op import Op, PoolWindow, ProgramError, Window, check_paddings, check_shape, check_sizes, read, settle_window
from sim.ops.row import NetworkError, Row, window_sides
from sim.values import LATER, sizes

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class MaxPool(Row):
    """Largest value of windows; padding is no part of them, so it must be less than a window's sides.

    A window has `kernel` rows and `kernel_width` columns, as many as rows if that is 0 (or the same number).

    >>> MaxPool("pool", "stem", kernel=3, stride=2, padding=1).window
    (3, 3)
    """

    kind: ClassVar[str] = "maxpool"
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    kernel_width: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes(kernel=self.kernel, stride=self.stride, padding=self.padding)
        if is_whole(self.kernel_width) and self.kernel_width in (0, self.kernel):
            object.__setattr__(self, "kernel_width", 0)  # one way to say the same
        else:
            self._sizes(kernel_width=self.kernel_width)
        if self.padding >= min(self.window):
            raise NetworkError(f"{self.name}: padding {self.padding} would make windows of padding alone, it must be less "
                               f"than {min(self.window)}")

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        return self.kernel, self.kernel_width or self.kernel

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """As a convolution's."""
        height, width, channels = shapes[self.source]
        return (*window_sides(self, self.window, height, width), channels)

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Codes are copied, so format and scale stay."""
        source = to.ops[self.source]
        return (MaxPoolOp(self.name, self.source, to.shapes[self.name], source.format, self.kernel, self.stride,
                          self.padding, self.kernel_width, zero_point=source.zero_point), to.scales[self.source])


@dataclass(frozen=True, eq=False, repr=False)
class MaxPoolOp(PoolWindow, Op):
    """The largest code of windows of `size` rows and `width` columns (0: as many as rows), less what lies in the padding.

    `stride_width` is 0 where it is as `stride`, `paddings` (top, bottom, left, right) empty where all are `padding`.
    """

    kind: ClassVar[str] = "maxpool"
    size: int
    stride: int
    padding: int
    width: int = 0
    stride_width: int = field(default=0, metadata=LATER)
    paddings: tuple[int, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        settle_window(self)

    @property
    def geometry(self) -> Window:
        """Taps, strides and paddings."""
        return Window(self.window, (self.stride, self.stride_width or self.stride), 1, self.paddings or (self.padding,) * 4)

    def details(self) -> list[str]:
        """Geometry."""
        across = f" x {self.stride_width}" if self.stride_width else ""
        return [f"window {sizes(self.window)}", f"stride {self.stride}{across}",
                f"padding {', '.join(map(str, self.paddings)) or self.padding}"]

    def check(self, before: Mapping[str, Op]) -> None:
        """The format and zero point of the input, a code in every window."""
        check_sizes(self, size=self.size, stride=self.stride, padding=self.padding, window_width=self.window[1],
                    stride_width=self.stride_width or self.stride)
        source = read(before, self.source)
        if (source.format, source.zero_point) != (self.format, self.zero_point):
            raise ProgramError("maximum pooling keeps the format and the zero point of its input")
        if not isinstance(self.paddings, tuple) or len(self.paddings) not in (0, 4) or (self.paddings and self.padding):
            raise ProgramError("its paddings must be top, bottom, left and right, or one padding for all")
        check_paddings(self.geometry.paddings, self.window)
        check_shape(self, (*self.geometry.sides(*source.shape[:2]), source.shape[2]))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """The largest code."""
        found = reference.windows(inputs[0], self.window, self.geometry.strides, self.geometry.paddings)
        return [[[max(codes) for codes in zip(*inside, strict=True)] for inside in row] for row in found], None
