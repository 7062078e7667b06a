"""`mlas_add` and `mlas_multiply`: ONNX Runtime's QLinearAdd and QLinearMul as processors with AVX2 and FMA run them.

Both add the zero point of the output as a float32, before they round, and the addition has fused multiply-adds:

    add       z = f32(z_y - fma(r_a, z_a, f32(r_b z_b)));  R = rint(fma(q_a, r_a, fma(q_b, r_b, z))) - z_y
    multiply  R = rint(f32(f32(f32(x) scale) + z_y)) - z_y                      x = (q_a - z_a) (q_b - z_b)

                                                                                               ARITHMETIC.md, R14 and R15
with r_a = f32(s_a / s_y), r_b = f32(s_b / s_y), scale = f32(f32(s_a s_b) / s_y).  `ort_add` is the same in real numbers, and
without zero points the same to nearly every code; with them up to some percent of the codes differ by one.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from sim.kernels.jit import inline
from sim.reference import round_to_float32
from sim.requantizers.addition import Addition, ratios
from sim.requantizers.nearest import nearest_code, plain_nearest
from sim.requantizers.requantizer import Affine, RequantizeError
from sim.requantizers.rule import Domain, Own, Rule, line_of

_CODES = (-(2**15), 2**16)


@dataclass(frozen=True, eq=False, repr=False)
class MlasAdd(Addition):
    """float32 [C] `scale_a`, `scale_b`, `fixed`; int64 [C] `zero_a`, `zero_b`, `zero`: the three zero points."""

    name = "mlas_add"
    whole: ClassVar[tuple[str, ...]] = ("zero_a", "zero_b", "zero")
    real: ClassVar[tuple[str, ...]] = ("scale_a", "scale_b", "fixed")
    domain: ClassVar[Domain] = {"zero_a": _CODES, "zero_b": _CODES, "zero": _CODES}
    scale_a: np.ndarray
    scale_b: np.ndarray
    fixed: np.ndarray
    zero_a: np.ndarray
    zero_b: np.ndarray
    zero: np.ndarray

    @classmethod
    def from_scales(  # type: ignore[override]
            cls, a: Any, b: Any, target: Any, channels: int, sign: int = 1) -> "MlasAdd":
        """Of float32 scales; zero points of 0."""
        return cls.of(a, b, target, (0, 0, 0), channels, sign)

    @classmethod
    def of(cls, a: Any, b: Any, target: Any, zeros: tuple[int, int, int], channels: int, sign: int = 1) -> "MlasAdd":
        """Of float32 scales and the zero points of both operands and of the output."""
        first, second = ratios(a, b, target)
        second *= np.float32(sign)
        shift = exact_fma(float(first), zeros[0], round_to_float32(float(second) * zeros[1]))
        fixed = np.float32(zeros[2]) - np.float32(shift)
        reals = (np.full(channels, number, np.float32) for number in (first, second, fixed))
        return cls(*reals, *(np.full(channels, zero, np.int64) for zero in zeros))

    @classmethod
    def joined(cls, x: int, skip: int | None, own: Own, other: Own) -> int:
        """The rule in plain Python numbers."""
        inner = exact_fma((skip or 0) + int(own("zero_b")), float(own("scale_b")), float(own("fixed")))
        steps = exact_fma(x + int(own("zero_a")), float(own("scale_a")), inner)
        return plain_nearest(steps) - int(own("zero"))


@dataclass(frozen=True, eq=False, repr=False)
class MlasMultiply(Rule):
    """float32 [C] `scale`, int64 [C] `zero`: the output's zero point."""

    name = "mlas_multiply"
    whole: ClassVar[tuple[str, ...]] = ("zero",)
    real: ClassVar[tuple[str, ...]] = ("scale",)
    domain: ClassVar[Domain] = {"zero": _CODES}
    scale: np.ndarray
    zero: np.ndarray

    @classmethod
    def of(cls, a: Any, b: Any, target: Any, zero: int, channels: int) -> "MlasMultiply":
        """Of float32 scales of both operands and of the output, and its zero point."""
        scale = np.float32(a) * np.float32(b) / np.float32(target)
        return cls(np.full(channels, scale, np.float32), np.full(channels, zero, np.int64))

    @classmethod
    def build(cls, affine: Affine, target: Any) -> "MlasMultiply":
        """Products of our own have no offset; a residual is not the rule's."""
        if affine.skip_gain is not None or affine.offset.any():
            raise RequantizeError("mlas_multiply has no offset and no residual: it is for products of two tensors")
        return cls(affine.gain.astype(np.float32), np.zeros(len(affine.gain), np.int64))

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python numbers."""
        product = round_to_float32(round_to_float32(x) * float(own("scale")))
        return plain_nearest(round_to_float32(product + int(own("zero")))) - int(own("zero"))


def exact_fma(a: float, b: float, c: float) -> float:
    """float32(a b + c) in fractions, rounded once; numbers within float32's range."""
    value = Fraction(a) * Fraction(b) + Fraction(c)
    if not value:
        return 0.0
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    if abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    return float(round(value / unit) * unit)  # Python rounds half to even


@inline
def fused(a: Any, b: Any, c: Any) -> Any:
    """float32(a b + c), rounded once: the sum in float64 is made odd where it is not exact, then it is rounded again."""
    product, addend = np.float64(a) * np.float64(b), np.float64(c)
    total = np.float64(product + addend)
    back = np.float64(total - product)
    error = np.float64(product - np.float64(total - back)) + np.float64(addend - back)
    bits = np.int64(total.view(np.int64))
    if error != 0.0 and (bits & 1) == 0:
        bits += 1 if (error > 0.0) == (total > 0.0) else -1
    return np.float32(np.int64(bits).view(np.float64))


@inline
def mlas_add_rule(x: Any, more: Any, whole: Any, real: Any, c: Any) -> Any:
    """The first equation."""
    inner = fused(np.float32(more + whole[1, c]), real[1, c], real[2, c])
    return nearest_code(fused(np.float32(x + whole[0, c]), real[0, c], inner)) - whole[2, c]


@inline
def mlas_multiply_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """The second."""
    product = np.float32(np.float32(x) * real[0, c])
    return nearest_code(np.float32(product + np.float32(whole[0, c]))) - whole[0, c]


MlasAdd.line = line_of("mlas_add", mlas_add_rule, operands=2)
MlasMultiply.line = line_of("mlas_multiply", mlas_multiply_rule)
