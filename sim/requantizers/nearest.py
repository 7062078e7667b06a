"""What `xnnpack` and `ort` share: one float32 product, rounded half to even.

    x = wrap32(sum + bias);  R = rint(f32(f32(x) scale)), scale = f32(f32(s_x s_w) / s_y)           ARITHMETIC.md, R5

XNNPACK clamps before it rounds and ONNX Runtime behind; limits are integers, so that the codes are the same.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.reference import round_to_float32
from sim.requantizers.requantizer import InRegisters, RequantizeError
from sim.requantizers.rule import Domain, Own, ScalingRule, biased, none, plain_biased, wrapped

FARTHEST = np.float32(2.0**40)
"""No code is near it: where floats are cut before they become integers."""


@dataclass(frozen=True, eq=False, repr=False)
class Nearest(ScalingRule):
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
    def from_scales(cls, source: Any, weights: np.ndarray, target: Any, bias: np.ndarray) -> "Nearest":
        """Product and quotient in float32, as both runtimes take them."""
        product = np.float32(source) * np.asarray(weights, np.float32)
        return cls.from_real(product / np.float32(target), bias)

    @classmethod
    def constants(cls, reals: np.ndarray) -> tuple[np.ndarray]:
        """Real multipliers are rounded to float32 once."""
        scales = reals.astype(np.float32)
        if not (np.abs(scales) < cls.most).all():
            raise RequantizeError(f"{cls.name}: a scale of {np.abs(scales).max():g} is too large, {cls.most:g} and more are "
                                  "not allowed")
        return (scales,)

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
        return plain_nearest(round_to_float32(round_to_float32(plain_biased(x, own)) * own("scale")))


def plain_nearest(steps: float) -> int:
    """`nearest_code` of oracles, in plain Python numbers."""
    return round(max(-(2.0**40), min(2.0**40, steps)))  # Python rounds half to even


@inline
def nearest_code(steps: Any) -> Any:
    """A float32 as an integer, half to even, cut where no code is near."""
    return np.int64(np.rint(min(max(steps, -FARTHEST), FARTHEST)))


@inline
def nearest_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R5."""
    return nearest_code(np.float32(np.float32(biased(x, whole[0, c], whole[1, c])) * real[0, c]))
