"""`tflite_single`: integers only.  A bias, a 31-bit multiplier and a right shift per channel, rounded once, half up.

In form it is MultiplyByQuantizedMultiplier of TensorFlow Lite with single rounding:

    x    = saturate_int32(sum + bias)
    code = clamp((x * multiplier + 2^(shift - 1)) >> shift)                            ARITHMETIC.md, equation 9

No convolution of TensorFlow Lite or LiteRT that was measured rounds so; ARITHMETIC.md says who does, and who how else.

A layer whose affine this cannot hold to within half a code (a gain above 1/2, or a bias beyond 30 bits) first scales the
sum by 2^pre_shift, which is 0 nearly always.  A residual is rescaled by a multiplier and shift of its own and added before
the clamp.  The last two are BitTrue's own.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.reference import shift_right
from sim.requantizers.multiplier import normalized
from sim.requantizers.requantizer import Affine, RequantizeError
from sim.requantizers.rule import LOGIT_FORMAT, Domain, Own, Rule, columns, line_of

INT32_MAX = 2**31 - 1
MAX_SHIFT = 62


@dataclass(frozen=True, eq=False, repr=False)
class TfliteSingle(Rule):
    """int64 arrays per channel, and of length 1 for the residual."""

    name: ClassVar[str] = "tflite_single"
    whole: ClassVar[tuple[str, ...]] = ("pre_shift", "bias", "multiplier", "shift")
    domain: ClassVar[Domain] = {"pre_shift": (-MAX_SHIFT, MAX_SHIFT), "bias": (-(2**61), 2**61),
                                "multiplier": (-INT32_MAX, INT32_MAX), "shift": (1, MAX_SHIFT)}
    pre_shift: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    skip_multiplier: np.ndarray
    skip_shift: np.ndarray

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "TfliteSingle":
        """Integers nearest to the affine, found in float64."""
        reach = max(map(abs, affine.bounds))
        span = max(target.bits, math.frexp(2.0**target.bits + (affine.skip_gain or 0.0) * affine.skip_max)[1])
        rows = [_channel(float(gain), float(offset), reach, span)
                for gain, offset in zip(affine.gain, affine.offset, strict=True)]
        return cls(*columns(rows), *columns([quantize_multiplier(affine.skip_gain or 0.0)]))

    def check(self, channels: int, reach: int) -> None:
        """And no sum that leaves 64 bits."""
        super().check(channels, reach)
        if self.skip_multiplier[0] < 0:
            raise RequantizeError(f"skip_multiplier must be from 0 to {INT32_MAX}")
        if reach.bit_length() + int(self.pre_shift.max()) > MAX_SHIFT - 1:
            raise RequantizeError(f"pre_shift {self.pre_shift.max()} can push a sum of {reach} out of 64 bits")

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers; reference.py has it, too."""
        pre_shift = own("pre_shift")
        x = x * 2**pre_shift if pre_shift >= 0 else shift_right(x, -pre_shift)
        x = max(-(2**31), min(2**31 - 1, x + own("bias")))
        return shift_right(x * own("multiplier"), own("shift"))


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real ~ multiplier / 2^shift, 2^30 <= |multiplier| < 2^31, 1 <= shift <= 62.

    Numbers too small for the largest shift become 0.  Raises RequantizeError from 2^30 on.
    """
    multiplier, exponent = normalized(real)
    shift = 31 - exponent
    if shift < 1:
        raise RequantizeError(f"a gain of {real:g} codes per unit is too large for a multiplier and a shift")
    if shift > MAX_SHIFT or multiplier == 0:
        return 0, 1
    return (multiplier if real > 0 else -multiplier), shift


def _channel(gain: float, offset: float, reach: int, span: int) -> tuple[int, int, int, int]:
    """(pre_shift, bias, multiplier, shift) of one channel; codes and residual together span `span` bits."""
    if span > LOGIT_FORMAT.bits + 1:
        raise RequantizeError(f"a residual of {span} bits is too large for tflite_single")
    plain = 0.0 < abs(gain) <= 0.5 and abs(offset / gain) <= 2.0**30 and reach + abs(offset / gain) < 2.0**31
    # Otherwise scale the sum so that its unit is worth between 2^-(margin + 1) and 2^-margin codes: fine enough for the
    # bias, yet coarse enough that a sum which saturates 32 bits is outside every code, whatever the residual adds.
    margin = max(28 - span, 1)
    pre_shift = 0 if plain else -MAX_SHIFT if gain == 0.0 else math.frexp(gain)[1] + margin
    if gain == 0.0 or pre_shift < -MAX_SHIFT:  # no sum below 2^61 can move the result
        pre_shift, scaled = -MAX_SHIFT, math.ldexp(1.0, -margin)
    else:
        scaled = math.ldexp(gain, -pre_shift)
    if pre_shift > 0 and reach.bit_length() + pre_shift > MAX_SHIFT - 1:
        raise RequantizeError(f"a gain of {gain:g} codes per unit is too large for tflite_single")
    bias = offset / scaled
    if abs(bias) >= 2.0**61:
        raise RequantizeError(f"an offset of {offset:g} codes is too large for tflite_single")
    return (pre_shift, round(bias), *quantize_multiplier(scaled))


@inline
def rescaled(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """x * multiplier / 2^shift, ties up."""
    return (x * whole[2, c] + (np.int64(1) << (whole[3, c] - 1))) >> whole[3, c]


@inline
def tflite_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation 9; a residual has no pre_shift and no bias.  |x| <= 2^31 and |multiplier| < 2^31 stay inside int64."""
    pre_shift = whole[0, c]
    if pre_shift > 0:
        x = x << pre_shift
    elif pre_shift < 0:
        x = (x + (np.int64(1) << (-pre_shift - 1))) >> -pre_shift
    x = min(max(x + whole[1, c], np.int64(-INT32_MAX - 1)), np.int64(INT32_MAX))
    return rescaled(x, whole, real, c)


TfliteSingle.line = line_of("tflite_single", tflite_rule, residual=rescaled)
