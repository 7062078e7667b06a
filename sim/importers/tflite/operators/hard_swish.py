"""HARD_SWISH of 8-bit codes as TensorFlow Lite's kernels have it: 16-bit fixed point, the same in every runtime measured."""

import numpy as np

from sim.requantizers.multiplier import multiplier_of

HIRES_BITS = 7
"""Codes are computed with so many fractional bits."""
LEAST, MOST = -(1 << 15), (1 << 15) - 1


def hard_swish_code(code: int, scale: np.float32, zero: int, target: np.float32, target_zero: int) -> int:
    """The output code, before it is clamped to its format.  Raises ValueError where the output's scale is too fine.

    With x = 128 (q - z):  u = high(x, m_out), the value in units of the output but for its exponent;
    w = (clamp(x 2^e m_3, 16 bits) + 2^15) >> 1, (x + 3) / 6 with 15 fractional bits;  u w 2^-15 toward 0, then shifted
    by the exponent, half away from 0.
    """
    fine = np.float32(1.0 / (1 << HIRES_BITS)) * np.float32(scale)
    out_multiplier, out_exponent = _sixteen(float(fine / np.float32(target)))
    multiplier, exponent = _sixteen(float(fine / np.float32(3.0 / 32768.0)))
    if out_exponent > 0:
        raise ValueError(f"an output scale of {target:g} is too fine for one of {scale:g}")
    x = (code - zero) << HIRES_BITS
    value = _high(x, out_multiplier)
    gate = _saturated(x << exponent - 1) if exponent > 0 else x
    gate = _high(gate, multiplier)
    gate = _saturated(gate << 1) if exponent > 0 else _divided(gate, -exponent)
    product = (gate + (1 << 15) >> 1) * value
    toward_zero = _saturated((abs(product) >> 15) * (1 if product >= 0 else -1))
    return target_zero + _divided(toward_zero, -out_exponent)


def _sixteen(real: float) -> tuple[int, int]:
    """A multiplier of 15 bits and its exponent, half up from 31 bits."""
    multiplier, exponent = multiplier_of(real, "hard_swish")
    return min((multiplier + (1 << 15)) >> 16, MOST), exponent


def _saturated(x: int) -> int:
    return min(max(x, LEAST), MOST)


def _high(a: int, b: int) -> int:
    """a b / 2^15, half away from 0, as SaturatingRoundingDoublingHighMul of 16 bits divides."""
    product = a * b + ((1 << 14) if a * b >= 0 else 1 - (1 << 14))
    return _saturated(product // (1 << 15) if product >= 0 else -(-product // (1 << 15)))


def _divided(x: int, bits: int) -> int:
    """x / 2^bits, half away from 0."""
    return (abs(x) + (1 << bits >> 1) >> bits) * (1 if x >= 0 else -1)
