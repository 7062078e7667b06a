"""Rules of requantizers on vectors of 16 int32 sums: equations 8, R1, R2, R3 and R5 of ARITHMETIC.md, as sim/requantizers.

Each float32 product and sum is rounded on its own, then to the nearest integer, ties to even, by the conversion of the
processor.  Integers wrap as those equations say.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from sim.kernels.ir import F32, I16, I32, call, every, halves, joined
from sim.kernels.isa import has_wide_registers

LANES = 16
SUMS, REALS, WIDE = (ir.VectorType(kind, LANES) for kind in (I32, F32, ir.IntType(64)))
_NEAREST_EVEN = 8
"""Rounding control: to nearest, ties to even, no exceptions."""


def rounded(builder: Any, steps: Any) -> Any:
    """float32 to the nearest int32, ties to even; what registers of 256 bits do, set up as every processor starts."""
    if not has_wide_registers():
        half = ir.VectorType(I32, LANES // 2)
        parts = [call(builder, "llvm.x86.avx.cvt.ps2dq.256", half, [part]) for part in halves(builder, steps)]
        return joined(builder, parts)
    return call(builder, "llvm.x86.avx512.mask.cvtps2dq.512", SUMS, [
        steps, ir.Constant(SUMS, None), ir.Constant(I16, -1), ir.Constant(I32, _NEAREST_EVEN)])


def _fp32(builder: Any, total: Any, constants: Sequence[Any]) -> Any:
    """Equation 8, not rounded to codes yet."""
    gain, more = (builder.bitcast(constant, REALS) for constant in constants)
    return builder.fadd(builder.fmul(builder.sitofp(total, REALS), gain), more)


def _nearest(builder: Any, total: Any, constants: Sequence[Any]) -> Any:
    """Equation R5."""
    scale, bias = constants
    return rounded(builder, builder.fmul(builder.sitofp(builder.add(total, bias), REALS), builder.bitcast(scale, REALS)))


def _product(builder: Any, x: Any, multiplier: Any, half: Any, shift: Any) -> Any:
    """(x multiplier + half) >> shift of vectors of int32, in 64 bits between."""
    product = builder.mul(builder.sext(x, WIDE), builder.sext(multiplier, WIDE))
    return builder.trunc(builder.ashr(builder.add(product, half), shift), SUMS)


def _single(builder: Any, total: Any, constants: Sequence[Any]) -> Any:
    """Equation R2."""
    multiplier, bias, right = constants
    shift = builder.zext(right, WIDE)
    half = builder.shl(every(1, WIDE), builder.sub(shift, every(1, WIDE)))
    return _product(builder, builder.add(total, bias), multiplier, half, shift)


def _high(builder: Any, total: Any, constants: Sequence[Any]) -> Any:
    """The first rounding of equations R1 and R3."""
    multiplier, bias, left, _ = constants
    x = builder.shl(builder.add(total, bias), left)
    return _product(builder, x, multiplier, every(2**30, WIDE), every(31, WIDE))


def _double(builder: Any, total: Any, constants: Sequence[Any]) -> Any:
    """Equation R1: what the shift drops is compared with its half, above which a number below 0 is rounded down."""
    high, right, one = _high(builder, total, constants), constants[3], every(1, SUMS)
    mask = builder.sub(builder.shl(one, right), one)
    below = builder.lshr(high, every(31, SUMS))
    half = builder.add(builder.lshr(mask, one), below)
    is_more = builder.icmp_signed(">", builder.and_(high, mask), half)
    return builder.add(builder.ashr(high, right), builder.zext(is_more, SUMS))


def _ruy(builder: Any, total: Any, constants: Sequence[Any]) -> Any:
    """Equation R3: the shift, and the highest bit that it drops."""
    high, right, one = _high(builder, total, constants), constants[3], every(1, SUMS)
    half = builder.lshr(builder.shl(one, right), one)
    is_more = builder.icmp_unsigned("!=", builder.and_(high, half), ir.Constant(SUMS, None))
    return builder.add(builder.ashr(high, right), builder.zext(is_more, SUMS))


def _gained(builder: Any, residue: Any, constants: Sequence[Any]) -> Any:
    """The residual of equation 8."""
    return builder.fmul(builder.sitofp(residue, REALS), builder.bitcast(constants[0], REALS))


class TileRule(NamedTuple):
    """How many rows of constants there are, and what makes steps of int32 sums: int32, or float32 to be rounded together."""

    rows: int
    steps: Callable[..., Any]
    residual: Callable[..., Any]


RULES: Mapping[str, TileRule] = {
    "fp32": TileRule(2, _fp32, _gained), "nearest": TileRule(2, _nearest, _nearest), "single": TileRule(3, _single, _single),
    "double": TileRule(4, _double, _double), "ruy": TileRule(4, _ruy, _ruy)}
"""Rows, 32 bits of each channel: fp32 gain, offset; nearest scale, bias; single multiplier, bias, right shift; double and
ruy multiplier, bias, left shift, right shift."""
