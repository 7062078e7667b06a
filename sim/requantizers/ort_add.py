"""`ort_add`: ONNX Runtime's QLinearAdd.  Two float32 products and their float32 sum, each rounded, then half to even.

    R = rint(f32(f32(f32(a) f32(s_a / s_y)) +- f32(f32(b) f32(s_b / s_y))))                         ARITHMETIC.md, R13
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.kernels.jit import inline
from sim.reference import round_to_float32
from sim.requantizers.addition import Addition, ratios
from sim.requantizers.nearest import nearest_code, plain_nearest
from sim.requantizers.rule import Own, line_of


@dataclass(frozen=True, eq=False, repr=False)
class OrtAdd(Addition):
    """float32 [C] each: `scale_a`, `scale_b` (negative: a - b)."""

    name = "ort_add"
    real: ClassVar[tuple[str, ...]] = ("scale_a", "scale_b")
    scale_a: np.ndarray
    scale_b: np.ndarray

    @classmethod
    def from_scales(  # type: ignore[override]
            cls, a: Any, b: Any, target: Any, channels: int, sign: int = 1) -> "OrtAdd":
        """Of float32 scales, quotients in float32."""
        first, second = ratios(a, b, target)
        return cls(*(np.full(channels, ratio, np.float32) for ratio in (first, np.float32(sign) * second)))

    @classmethod
    def joined(cls, x: int, skip: int | None, own: Own, other: Own) -> int:
        """The rule in plain Python numbers; products of two float32 are exact in float64, sums rounded twice are as once."""
        first, second = (round_to_float32(round_to_float32(codes) * own(scale))
                         for codes, scale in ((x, "scale_a"), (skip or 0, "scale_b")))
        return plain_nearest(round_to_float32(first + second))


@inline
def ort_add_rule(x: Any, more: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R13."""
    first, second = np.float32(np.float32(x) * real[0, c]), np.float32(np.float32(more) * real[1, c])
    return nearest_code(np.float32(first + second))


OrtAdd.line = line_of("ort_add", ort_add_rule, operands=2)
