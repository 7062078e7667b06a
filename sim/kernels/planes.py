"""Exact sums of products below 8 bits by bit planes: exclusive or, population count, add (AVX512-VPOPCNTDQ and BITALG).

A code is unsigned, a = sum of 2^i a_i over its planes.  A weight is a sum of digits of either sign: w = sum of 2^e (2 n - 1)
over bits n, or half of that.  As a_i + n - 2 a_i n = a_i xor n, the sum of all products of a digit is

    sum (2 n - 1) a = (2^k - 1) sum n - sum over planes of 2^i popcount(a_i xor n)

whose first part is a constant of the channel: nothing depends on the codes but the counts, and a border of zeros adds what
any code 0 adds, nothing.  DoReFa's odd weights of k bits are k digits of rising weight, and -1, 0, 1 half of two equal ones.
Signed codes have 2^(k-1) added, as their packing flips the highest bit; the constant takes off what that adds.

One broadcast gives 32 channels of a pixel to 16 outputs.  Where a pixel has 16 channels, it gives those of two neighbors,
and counts stay in 16 bits.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.finish import LANES, Ending, arguments_of, finish_tile
from sim.kernels.ir import I8, I16, I32, I64, call, constant, load, loop, machine_code, offset, registers, splat, store

WORD, HALF = 32, 16
"""Bits of a step, and what the bits of a pixel are a multiple of."""
BYTES = 64
"""Codes that are packed at once."""
_WORDS, _HALVES, _CODES = ir.VectorType(I32, LANES), ir.VectorType(I16, 2 * LANES), ir.VectorType(I8, BYTES)


@dataclass(frozen=True)
class Digits:
    """Weights as sums of 2^e or -2^e over `exponents`, or as half of them."""

    exponents: tuple[int, ...]
    is_halved: bool = False

    @property
    def reach(self) -> int:
        """The largest sum."""
        return sum(1 << exponent for exponent in self.exponents)

    def bits(self, weights: np.ndarray) -> np.ndarray:
        """Which digits are positive, bool [digits, ...]."""
        if self.is_halved:
            return np.stack([weights >= 0, weights > 0])
        return np.stack([(weights + self.reach) >> (1 + exponent) & 1 for exponent in self.exponents]).astype(bool)


def digits_of(weights: np.ndarray) -> Digits | None:
    """The fewest digits that these weights are made of; None if one or two do not do."""
    most = int(np.abs(weights.astype(np.int64)).max(initial=0))
    if most <= 3 and bool((weights & 1).all()):
        return Digits((0,)) if most == 1 else Digits((0, 1))
    return Digits((0, 0), is_halved=True) if most <= 1 else None


@dataclass(frozen=True)
class Form:
    """What a tile is compiled for: `pixels` (pairs of them where `is_paired`) x `blocks` of 16 channels of outputs, so many
    `planes` of codes and these `digits`.  `is_ragged`: a row ends in half a word."""

    pixels: int
    blocks: int
    planes: int
    digits: Digits
    is_paired: bool = False
    is_ragged: bool = False

    @property
    def at_once(self) -> int:
        """Pixels of a tile."""
        return self.pixels * (1 + self.is_paired)

    @property
    def channels(self) -> int:
        """Channels of a tile."""
        return LANES * self.blocks

    def __str__(self) -> str:
        words = (f"a{self.planes}w", *map(str, self.digits.exponents), "half" if self.digits.is_halved else "",
                 "pairs" if self.is_paired else "", "ragged" if self.is_ragged else "", f"_{self.at_once}x{self.channels}")
        return "".join(words)


def pixel_bits(depth: int) -> int:
    """Bits that the channels of a pixel take in a plane."""
    return -(-depth // HALF) * HALF


def pack(weights: np.ndarray, form: Form, channels: int) -> np.ndarray:
    """int [KH, KW, C, Cout] -> int32 [tiles, KH, steps, digits, blocks, 16], for so many channels, surplus included."""
    bits = form.digits.bits(weights)
    digits, rows, columns, depth, count = bits.shape
    padded = np.zeros((digits, rows, columns, pixel_bits(depth), channels), bool)
    padded[..., :depth, :count] = bits
    if form.is_paired:  # the same weights for both pixels
        padded = np.concatenate([padded, padded], 3)
    run = padded.reshape(digits, rows, -1, channels)
    run = np.pad(run, ((0, 0), (0, 0), (0, -run.shape[2] % WORD), (0, 0)))
    words = np.packbits(run.reshape(digits, rows, -1, WORD, channels), 3, bitorder="little")
    words = np.ascontiguousarray(words.swapaxes(3, 4)).view("<u4")[..., 0]
    tiles = words.reshape(digits, rows, -1, channels // form.channels, form.blocks, LANES)
    return np.ascontiguousarray(tiles.transpose(3, 1, 2, 0, 4, 5)).view(np.int32)


def constants(weights: np.ndarray, form: Form, channels: int, signed: bool) -> np.ndarray:
    """int32 [tiles, KH, KH, channels of a tile]: what counts are taken from, by the rows left out above and below."""
    rows = len(weights)
    doubled = weights.astype(np.int64).sum((1, 2)) << form.digits.is_halved
    counts = np.tensordot([1 << e for e in form.digits.exponents], form.digits.bits(weights).sum((2, 3), dtype=np.int64), 1)
    by_row = ((1 << form.planes) - 1) * counts - (doubled << (form.planes - 1) if signed else 0)
    totals = np.zeros((rows, rows, channels), np.int64)
    for above in range(rows):
        for below in range(rows - above):
            totals[above, below, : by_row.shape[1]] = by_row[above : rows - below].sum(0)
    tiles = totals.reshape(rows, rows, -1, form.channels).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(tiles).astype(np.int32)


def make_tile(form: Form, ending: Ending | None = None) -> Callable[..., None]:
    """The inner loop of one tile, as machine code.

    tile((x, pixel_stride, plane_stride, row_stride, step, w, rows, steps, constants, *those of its end)): addresses and
    bytes; `w` points to int32 [rows, steps, digits, blocks, 16], `steps` counts whole words of a row, `step` bytes apart.
    """
    lanes = _HALVES if form.is_paired else _WORDS
    count_ones = f"llvm.ctpop.v{lanes.count}i{lanes.element.width}"
    digits = form.digits.exponents
    levels = form.planes + max(digits)

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, pixel_stride, plane_stride, row_stride, step, w, rows, steps, base, *rest = arguments
        counts = registers(builder, lanes, form.pixels, form.blocks, levels)
        codes_at, weights_at = registers(builder, I64, 2)
        builder.store(w, weights_at)
        apart = builder.mul(pixel_stride, constant(1 + form.is_paired))

        def emit_step(mask: Any) -> None:
            here, there = builder.load(codes_at), builder.load(weights_at)
            weights = [[load(builder, offset(builder, there, d * form.blocks + block, BYTES), _WORDS, BYTES)
                        for block in range(form.blocks)] for d in range(len(digits))]
            for p in range(form.pixels):
                for plane in range(form.planes):
                    at = offset(builder, offset(builder, here, p, apart), plane, plane_stride)
                    codes = splat(builder, load(builder, at, I32, 1), LANES)
                    codes = codes if mask is None else builder.and_(codes, mask)
                    for d, exponent in enumerate(digits):
                        for block in range(form.blocks):
                            differ = builder.bitcast(builder.xor(codes, weights[d][block]), lanes)
                            count = counts[p][block][plane + exponent]
                            ones = call(builder, count_ones, lanes, [differ])
                            builder.store(builder.add(builder.load(count), ones), count)
            builder.store(builder.add(here, step), codes_at)
            builder.store(offset(builder, there, len(digits) * form.blocks, BYTES), weights_at)

        with loop(builder, rows) as row:
            builder.store(offset(builder, x, row.index, row_stride), codes_at)
            with loop(builder, steps):
                emit_step(None)
            if form.is_ragged:
                emit_step(ir.Constant(_WORDS, [(1 << HALF) - 1] * LANES))
        finish_tile(builder, _emit_sums(builder, form, counts, base), None, rest, ending)

    return machine_code(9 + arguments_of(ending), emit)


def _emit_sums(builder: Any, form: Form, counts: Any, base: Any) -> Any:
    """Variables of int32 sums [pixels][blocks] from the counts of ones [pixels][blocks][levels] and the constants."""
    sums = registers(builder, _WORDS, form.at_once, form.blocks)
    for block in range(form.blocks):
        most = load(builder, offset(builder, base, block, BYTES), _WORDS, 4)
        for p, pixel in enumerate(counts):
            ones = builder.load(pixel[block][0])
            for level in range(1, len(pixel[block])):
                shift = ir.Constant(ones.type, [level] * ones.type.count)
                ones = builder.add(ones, builder.shl(builder.load(pixel[block][level]), shift))
            ones = builder.bitcast(ones, _WORDS)
            both = [ones]
            if form.is_paired:
                both = [builder.and_(ones, ir.Constant(_WORDS, [(1 << HALF) - 1] * LANES)),
                        builder.lshr(ones, ir.Constant(_WORDS, [HALF] * LANES))]
            for k, each in enumerate(both):
                total = builder.sub(most, each)
                if form.digits.is_halved:
                    total = builder.ashr(total, ir.Constant(_WORDS, [1] * LANES))
                builder.store(total, sums[p * len(both) + k][block])
    return sums


def make_packer(planes: int, through_table: bool) -> Callable[..., None]:
    """Bytes to bit planes: pack((codes, target, plane_stride, count, channels, flip, thresholds)), as machine code.

    `count` pixels of so many channels, each of which begins a new half word.  `flip` are the bits that change first.  With
    `through_table` unsigned bytes go through a table that rises first: a code is how many of its 2^planes - 1 `thresholds`,
    bytes in rising order, are below the byte.
    """
    def emit_bits(builder: Any, found: Any, limits: Sequence[Any]) -> list[Any]:
        if limits:  # as these rise, bit i tells whether of every 2^i-th of them an odd number is passed
            passed = [builder.icmp_unsigned(">", found, limit) for limit in limits]
            return [functools.reduce(builder.xor, passed[(1 << plane) - 1 :: 1 << plane]) for plane in range(planes)]
        return [builder.icmp_unsigned("!=", builder.and_(found, ir.Constant(_CODES, [1 << plane] * BYTES)),
                                      ir.Constant(_CODES, None)) for plane in range(planes)]

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        codes, target, plane_stride, count, channels, flip, thresholds = arguments
        limits = [splat(builder, load(builder, offset(builder, thresholds, k, 1), I8, 1), BYTES)
                  for k in range((1 << planes) - 1 if through_table else 0)]
        flips = splat(builder, builder.trunc(flip, I8), BYTES)
        full = builder.lshr(builder.sub(channels, constant(1)), constant(6))
        rest = builder.sub(channels, builder.shl(full, constant(6)))
        mask = builder.lshr(constant(-1), builder.sub(constant(BYTES), rest))
        halves = builder.lshr(builder.add(channels, constant(HALF - 1)), constant(4))

        def emit_register(at: Any, place: Any, kept: Any) -> None:
            found = builder.xor(load(builder, at, _CODES, 1), flips)
            for plane, bit in enumerate(emit_bits(builder, found, limits)):
                bits = builder.bitcast(bit, I64)
                bits = bits if kept is None else builder.and_(bits, kept)
                store(builder, bits, offset(builder, place, plane, plane_stride), 1)

        with loop(builder, count) as pixel:
            here = offset(builder, codes, pixel.index, channels)
            there = offset(builder, target, pixel.index, builder.shl(halves, constant(1)))
            with loop(builder, full) as step:
                emit_register(offset(builder, here, step.index, BYTES), offset(builder, there, step.index, BYTES // 8), None)
            # what lies behind the pixel is written now and again with the next one
            emit_register(offset(builder, here, full, BYTES), offset(builder, there, full, BYTES // 8), mask)

    return machine_code(7, emit)
