"""Average pooling as ONNX Runtime has it: codes become float32, which are added one by one, divided, and quantized."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sim.ops.average import DIVISORS
from sim.ops.op import Op, ProgramError, Window, check_paddings, check_pairs, check_shape, check_sizes, check_zeros, read
from sim.values import LATER, sizes


@dataclass(frozen=True, eq=False, repr=False)
class FloatAverageOp(Op):
    """clamp(rint(f32(f32(A / s_y) + z_y))), A = f32(S / count), S = f32(... f32(f32((q - z) s_x) + ...)), row by row.

    `scales` are float32 [s_x, s_y].  A window has `taps`, moves by `strides`; what lies in `paddings` (top, bottom, left,
    right) is not added, and counted where `divisor` is "window".
    """

    kind: ClassVar[str] = "float_average"
    clamps: ClassVar[bool] = True
    taps: tuple[int, int]
    strides: tuple[int, int]
    paddings: tuple[int, int, int, int]
    divisor: str
    scales: np.ndarray
    source_zero: int = field(default=0, metadata=LATER)

    @property
    def window(self) -> Window:
        """Taps, strides and paddings."""
        return Window(self.taps, self.strides, 1, self.paddings)

    def details(self) -> list[str]:
        """Geometry and divisor."""
        return [f"window {sizes(self.taps)}", f"stride {sizes(self.strides)}",
                f"padding {', '.join(map(str, self.paddings))}", f"divided by the {self.divisor} count", "float32"]

    def check(self, before: Mapping[str, Op]) -> None:
        """A code in every window, a known divisor, scales within the range of float32."""
        check_sizes(self)
        check_pairs(taps=self.taps, strides=self.strides)
        check_paddings(self.paddings, self.taps)
        if self.divisor not in DIVISORS:
            raise ProgramError(f"its divisor must be {' or '.join(DIVISORS)}, not {self.divisor!r}")
        source = read(before, self.source)
        check_zeros(self.source_zero, source)
        if self.scales.dtype != np.float32 or self.scales.shape != (2,) or not ((self.scales > 1e-18) & (self.scales < 1e18)
                                                                                ).all():
            raise ProgramError("its scales must be two float32 between 1e-18 and 1e18")
        check_shape(self, (*self.window.sides(*source.shape[:2]), source.shape[2]))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """In plain Python numbers: of float32, sums, products and quotients rounded twice are as rounded once."""
        (rows, columns), (down, across), (top, bottom, left, right) = self.taps, self.strides, self.paddings
        x, (scale, step) = inputs[0], self.scales.tolist()
        height, width, channels = len(x), len(x[0]), len(x[0][0])
        assert self.format is not None
        low, high = self.limits or (self.format.min, self.format.max)
        result: Any = []
        for first in range(-top, height + bottom - rows + 1, down):
            result.append([])
            for start in range(-left, width + right - columns + 1, across):
                inside = [x[i][j] for i in range(first, first + rows) if 0 <= i < height
                          for j in range(start, start + columns) if 0 <= j < width]
                count = len(inside) if self.divisor == "valid" else rows * columns
                pixel = []
                for c in range(channels):
                    total = 0.0
                    for codes in inside:
                        total = _float32(total + _float32(_float32(codes[c] - self.source_zero) * scale))
                    steps = _float32(_float32(_float32(total / count) / step) + self.zero_point)
                    pixel.append(min(max(round(max(-1e12, min(1e12, steps))), low), high))
                result[-1].append(pixel)
        return result, None


def _float32(value: float) -> float:
    """The float32 nearest to a float64."""
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return rounded
