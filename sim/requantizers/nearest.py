"""What `xnnpack` and `ort` share: one float32 product, rounded half to even.

    x = wrap32(sum + bias);  R = rint(f32(f32(x) scale)), scale = f32(f32(s_x s_w) / s_y)           ARITHMETIC.md, R5

XNNPACK clamps before it rounds and ONNX Runtime behind; limits are integers, so that the codes are the same.
"""

import struct
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.requantizers.requantizer import Affine, InRegisters, RequantizeError
from sim.requantizers.rule import Domain, Own, Rule, biased, join_bias, none, wrapped

FARTHEST = np.float32(2.0**40)
"""No code is near it: where floats are cut before they become integers."""


@dataclass(frozen=True, eq=False, repr=False)
class Nearest(Rule):
    """int64 `bias` [C], float32 `scale` [C]; float32 `skip_scale` [1] for the residual."""

    whole: ClassVar[tuple[str, ...]] = ("bias", "fraction")
    real: ClassVar[tuple[str, ...]] = ("scale",)
    domain: ClassVar[Domain] = {"bias": (-(2**31), 2**31 - 1)}
    most: ClassVar[float] = float("inf")
    """Scales are below it."""
    bias: np.ndarray
    scale: np.ndarray
    skip_scale: np.ndarray = field(default_factory=lambda: np.zeros(1, np.float32))
    fraction: np.ndarray = field(default_factory=none)

    @classmethod
    def from_real(cls, real: np.ndarray, bias: np.ndarray) -> "Nearest":
        """Real multipliers are rounded to float32 once."""
        return cls(np.asarray(bias, np.int64), cls._scales(np.atleast_1d(real)))

    @classmethod
    def from_scales(cls, source: Any, weights: np.ndarray, target: Any, bias: np.ndarray) -> "Nearest":
        """Product and quotient in float32, as both runtimes take them."""
        product = np.float32(source) * np.asarray(weights, np.float32)
        return cls.from_real(product / np.float32(target), bias)

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "Nearest":
        """The float32 and integers nearest to the affine."""
        gain, bias, fraction = join_bias(cls.name, affine, target)
        return cls(bias, cls._scales(gain), cls._scales(np.array([affine.skip_gain or 0.0])), fraction)

    @classmethod
    def _scales(cls, real: np.ndarray) -> np.ndarray:
        scales = np.asarray(real).astype(np.float32)
        if not (np.abs(scales) < cls.most).all():
            raise RequantizeError(f"{cls.name}: a scale of {np.abs(scales).max():g} is too large, {cls.most:g} and more are "
                                  "not allowed")
        return scales

    def in_registers(self, target: IntFormat, reach: int, less: np.ndarray | None, zero: int) -> InRegisters | None:
        """None if a product could pass what int32 holds."""
        bias = self.bias if less is None else self.bias - less
        most = min(reach + int(np.abs(bias).max()), 2**31) * float(np.abs(self.scale).max())
        if self.fraction[0] or most + 255 * abs(float(self.skip_scale[0])) >= 2**30:
            return None
        rows = np.stack([self.scale.view(np.int32), wrapped(bias)])
        return InRegisters("nearest", rows, np.array([*self.skip_scale.view(np.int32), 0], np.int32))

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python numbers: a product of two float32 is exact in float64."""
        x = (x * 2 ** own("fraction") + own("bias") + 2**31) % 2**32 - 2**31
        product = float32(float32(x) * own("scale"))
        return round(max(-(2.0**40), min(2.0**40, product)))  # Python rounds half to even


def float32(value: float) -> float:
    """The float32 nearest to a float64, ties to even; infinite beyond the range."""
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return rounded


@inline
def nearest_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R5."""
    product = np.float32(np.float32(biased(x, whole[0, c], whole[1, c])) * real[0, c])
    return np.int64(np.rint(min(max(product, -FARTHEST), FARTHEST)))
