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
from sim.requantizers.requantizer import Affine, RequantizeError, Requantizer, check_array

INT32_MAX = 2**31 - 1
MAX_SHIFT = 62
LOGIT_FORMAT = IntFormat(28, signed=True)


@dataclass(frozen=True, eq=False, repr=False)
class TfliteSingle(Requantizer):
    """int64 arrays per channel, and of length 1 for the residual."""

    name: ClassVar[str] = "tflite_single"
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
        columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
        skip = [np.array([number], np.int64) for number in quantize_multiplier(affine.skip_gain or 0.0)]
        return cls(*columns, *skip)

    @classmethod
    def build_logits(cls, affine: Affine) -> tuple["TfliteSingle", float]:
        """Integer logits on one scale for all classes, so coarse that no gain is above 1/2 and no logit leaves 28 bits."""
        largest = float((np.abs(affine.gain) * max(map(abs, affine.bounds)) + np.abs(affine.offset)).max())
        unit = max(2.0 * float(np.abs(affine.gain).max()), largest / (LOGIT_FORMAT.max // 2)) or 1.0
        return cls.build(Affine(affine.gain / unit, affine.offset / unit, None, affine.bounds), LOGIT_FORMAT), unit

    def line_arguments(self, target: IntFormat, repeat: int) -> tuple[Any, ...]:
        """Constants for so many pixels in a row, and the limits."""
        per_channel = (self.pre_shift, self.bias, self.multiplier, self.shift)
        return (*(np.tile(array, repeat) for array in per_channel), self.skip_multiplier[0], self.skip_shift[0],
                np.int64(target.min), np.int64(target.max))

    def logits(self, sums: np.ndarray) -> np.ndarray:
        """Integer logits (int32)."""
        return self.codes(sums, None, LOGIT_FORMAT)

    def check(self, channels: int, reach: int) -> None:
        """Types, shapes, and shifts and multipliers that the arithmetic allows."""
        for name, shape in (("pre_shift", (channels,)), ("bias", (channels,)), ("multiplier", (channels,)),
                            ("shift", (channels,)), ("skip_multiplier", (1,)), ("skip_shift", (1,))):
            check_array(name, getattr(self, name), "int64", shape)
        for name, least, most in (("pre_shift", -MAX_SHIFT, MAX_SHIFT), ("bias", -(2**61), 2**61),
                                  ("multiplier", -INT32_MAX, INT32_MAX), ("shift", 1, MAX_SHIFT),
                                  ("skip_multiplier", 0, INT32_MAX), ("skip_shift", 1, MAX_SHIFT)):
            array = getattr(self, name)
            if array.min() < least or array.max() > most:
                raise RequantizeError(f"{name} must be from {least} to {most}")
        if reach.bit_length() + int(self.pre_shift.max()) > MAX_SHIFT - 1:
            raise RequantizeError(f"pre_shift {self.pre_shift.max()} can push a sum of {reach} out of 64 bits")


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real ~ multiplier / 2^shift, 2^30 <= |multiplier| < 2^31, 1 <= shift <= 62.

    Numbers too small for the largest shift become 0.  Raises RequantizeError from 2^30 on.
    """
    fraction, exponent = math.frexp(abs(real))
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
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
def _rescale(x: Any, multiplier: Any, shift: Any) -> Any:
    """x * multiplier / 2^shift, ties up.  |x| <= 2^31 and |multiplier| < 2^31 keep the product inside int64."""
    return (np.int64(x) * np.int64(multiplier) + (np.int64(1) << np.int64(shift - 1))) >> np.int64(shift)


@inline
def tflite_codes(  # noqa: PLR0913 - a kernel sees arrays, not objects
        constants: Any, sums: np.ndarray, width: int, columns: int, repeat: int, first: int, count: int,
        skip: np.ndarray, n: int, i: int, skip_pad: int, residual: Any, out: np.ndarray, pad: int) -> None:
    """Equation 9."""
    pre_shift, bias, multiplier, shift, skip_multiplier, skip_shift, low, high = constants
    has_skip, sign = residual
    channels, span = out.shape[3], repeat * count
    out_row, skip_row = out[n, i + pad].reshape(-1), skip[n * has_skip, (i + skip_pad) * has_skip].reshape(-1)
    pre_shift, bias = pre_shift[first : first + span], bias[first : first + span]
    multiplier, shift = multiplier[first : first + span], shift[first : first + span]
    for j in range(0, columns, repeat):
        start = (pad + j) * channels + first
        codes, line = out_row[start : start + span], sums[j * width : j * width + span]
        start = (skip_pad + j) * channels + first
        residue = skip_row[start : start + span]
        for c in range(span):
            x = np.int64(line[c])
            if pre_shift[c] > 0:
                x = x << pre_shift[c]
            elif pre_shift[c] < 0:
                x = (x + (np.int64(1) << (-pre_shift[c] - 1))) >> -pre_shift[c]
            x = min(max(x + bias[c], np.int64(-INT32_MAX - 1)), np.int64(INT32_MAX))
            code = _rescale(x, multiplier[c], shift[c])
            if has_skip:
                code += _rescale((np.int64(residue[c]) ^ np.int64(sign)) - np.int64(sign), skip_multiplier, skip_shift)
            codes[c] = min(max(code, low), high)


TfliteSingle.line = staticmethod(tflite_codes)
