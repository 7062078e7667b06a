"""Average pooling as ONNX Runtime has it: codes become float32, which are added one by one, divided, and quantized."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sim import reference
from sim.ops.average import WindowAverage
from sim.ops.op import Op, ProgramError, check_zeros, read
from sim.reference import round_to_float32
from sim.values import LATER


@dataclass(frozen=True, eq=False, repr=False)
class FloatAverageOp(WindowAverage):
    """clamp(rint(f32(f32(A / s_y) + z_y))), A = f32(S / count), S = f32(... f32(f32((q - z) s_x) + ...)), row by row.

    `scales` are float32 [s_x, s_y].
    """

    kind: ClassVar[str] = "float_average"
    scales: np.ndarray
    source_zero: int = field(default=0, metadata=LATER)

    def details(self) -> list[str]:
        """Geometry and divisor."""
        return [*super().details(), "float32"]

    def check(self, before: Mapping[str, Op]) -> None:
        """And scales within the range of float32."""
        super().check(before)
        check_zeros(self.source_zero, read(before, self.source))
        if self.scales.dtype != np.float32 or self.scales.shape != (2,) or not ((self.scales > 1e-18) & (self.scales < 1e18)
                                                                                ).all():
            raise ProgramError("its scales must be two float32 between 1e-18 and 1e18")

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """In plain Python numbers: of float32, sums, products and quotients rounded twice are as rounded once."""
        scale, step = self.scales.tolist()
        low, high = reference.limits_of(self)

        def average(codes: Sequence[int], count: int) -> int:
            total = 0.0
            for code in codes:
                total = round_to_float32(total + round_to_float32(round_to_float32(code - self.source_zero) * scale))
            steps = round_to_float32(round_to_float32(round_to_float32(total / count) / step) + self.zero_point)
            return min(max(round(max(-1e12, min(1e12, steps))), low), high)

        return self.averages(inputs[0], average), None
