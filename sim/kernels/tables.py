"""Exact sums of products of few bits by tables of bytes: one lookup (vpshufb of AVX2) is 32 sums of four products.

A code is unsigned, and a weight a sum of digits: w = sum of 2^e (2 n - 1) over bits n, or half of that, as in planes.py.
Of every four codes of a pixel a table holds the sums of all their subsets: entry n is the sum over i of (bit i of n) a_i.
The four bits n of an output channel are an index, and with equations of all digits

    sum w a = 2 sum 2^e (sum n a) - (sum 2^e) sum a

whose last part is one number of the pixel.  A lookup gives 16 channels of two tables, which lie side by side, each number
4 (2^k - 1) at most: so many are added in bytes as cannot pass 255, then in words of 16 bits, which no sum over half a window
may pass.  Of two digits the bytes of a channel lie side by side, and vpmaddubsw weighs and adds them.

Signed codes have 2^(k-1) added when the tables are made; a constant of the channel takes off what that adds to sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.finish import LANES, Ending, arguments_of, finish_tile
from sim.kernels.ir import I8, I16, I32, I64, call, constant, every, load, loop, machine_code, offset, registers, splat
from sim.kernels.planes import Digits

GROUP, TABLE, BYTES = 4, 16, 32
"""Codes of a table, its bytes, and those of a register."""
SLACK = 64
"""Bytes behind the last table that are read and written; a cache line."""
NOTHING = 128
"""The index of what is 0 whatever a table holds."""
MOST, MOST_WORD = 2**8 - 1, 2**16 - 1
TABLES, WORDS = ir.VectorType(I8, BYTES), ir.VectorType(I16, BYTES // 2)


@dataclass(frozen=True)
class Form:
    """What a tile is compiled for: `pixels` x `units`, registers of 16 digits of channels, which are `digits` each.

    `has_words`: bytes do not hold the sums of a window.  `is_lifted`: codes have something added to them.
    """

    pixels: int
    units: int
    digits: Digits
    has_words: bool = False
    is_lifted: bool = False

    @property
    def of_unit(self) -> int:
        """Channels of a unit."""
        return LANES // len(self.digits.exponents)

    @property
    def channels(self) -> int:
        """Channels of a tile."""
        return self.units * self.of_unit

    def __str__(self) -> str:
        words = ("w", *map(str, self.digits.exponents), "half" if self.digits.is_halved else "",
                 "words" if self.has_words else "", "lifted" if self.is_lifted else "", f"_{self.pixels}x{self.channels}")
        return "".join(words)


def groups_of(depth: int) -> int:
    """Tables of a pixel."""
    return -(-depth // GROUP)


def lookups_that_fit(largest: int) -> int:
    """So many sums of four codes up to `largest` never pass a byte."""
    return MOST // (GROUP * max(largest, 1))


def pack(weights: np.ndarray, form: Form, channels: int) -> np.ndarray:
    """int [KH, KW, C, Cout] -> uint8 [tiles, KH * steps, units, 32], for so many channels, surplus included.

    A step is two tables, for the lanes of a register.  Of one digit a lane has channels 0, 8, 1, 9 ..., so that its even
    bytes are 8 channels in a row, as its odd ones are; of two it has those of channel 0, then of channel 1 ...
    """
    bits = form.digits.bits(weights)
    digits, rows, columns, depth, count = bits.shape
    padded = np.zeros((digits, rows, columns, groups_of(depth) * GROUP, channels), np.uint8)
    padded[..., :depth, :count] = bits
    grouped = padded.reshape(digits, rows, columns * groups_of(depth), GROUP, channels)
    index = (grouped << np.arange(GROUP, dtype=np.uint8)[:, None]).sum(3, dtype=np.uint8)
    index = np.pad(index, ((0, 0), (0, 0), (0, index.shape[2] % 2), (0, 0)), constant_values=NOTHING)
    steps, tiles = rows * index.shape[2] // 2, channels // form.channels
    lanes = index.reshape(digits, steps, 2, tiles, form.units, 2 // digits, LANES // 2).transpose(3, 1, 4, 2, 6, 5, 0)
    return np.ascontiguousarray(lanes).reshape(tiles, steps, form.units, BYTES)


def constants(weights: np.ndarray, channels: int, lift: int) -> np.ndarray:
    """int32 [KH, KH, channels]: what `lift`, added to every code, adds to sums, by the rows left out above and below."""
    rows = len(weights)
    by_row = lift * weights.astype(np.int64).sum((1, 2))
    totals = np.zeros((rows, rows, channels), np.int32)
    for above in range(rows):
        for below in range(rows - above):
            totals[above, below, : by_row.shape[1]] = by_row[above : rows - below].sum(0)
    return totals


def make_tile(form: Form, ending: Ending | None = None) -> Callable[..., None]:
    """The inner loop of one tile, as machine code.

    tile((x, pixel_stride, offsets, w, steps, run, codes, codes_stride, constants, *those of its end)): addresses and bytes.
    `offsets` points to int64 [steps], where the tables of each step lie from `x` on, `w` to uint8 [steps, units, 32]; bytes
    hold `run` steps.  `codes` points to what make_window_sums stores, `constants` to int32 [channels].
    """
    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, pixel_stride, offsets, w, steps, run, codes, codes_stride, base, *rest = arguments
        sums = registers(builder, TABLES, form.pixels, form.units)
        offsets_at, weights_at = registers(builder, I64, 2)
        builder.store(offsets, offsets_at)
        builder.store(w, weights_at)

        def emit_steps(count: Any) -> None:
            with loop(builder, count):
                there, at = builder.load(weights_at), builder.load(offsets_at)
                here = builder.add(x, load(builder, at, I64, 8))
                index = [load(builder, offset(builder, there, u, BYTES), TABLES, BYTES) for u in range(form.units)]
                for p, pixel in enumerate(sums):
                    table = load(builder, offset(builder, here, p, pixel_stride), TABLES, 1)
                    for u, total in enumerate(pixel):
                        builder.store(builder.add(builder.load(total), look_up(builder, table, index[u])), total)
                builder.store(offset(builder, at, 1, 8), offsets_at)
                builder.store(offset(builder, there, form.units, BYTES), weights_at)

        if form.has_words:
            words = registers(builder, WORDS, form.pixels, form.units, 2 // len(form.digits.exponents))
            runs = builder.udiv(builder.add(steps, builder.sub(run, constant(1))), run)
            with loop(builder, runs) as each:
                left = builder.sub(steps, builder.mul(each.index, run))
                emit_steps(builder.select(builder.icmp_signed("<", left, run), left, run))
                for p, pixel in enumerate(sums):
                    for u, total in enumerate(pixel):
                        for word, more in zip(words[p][u], _widened(builder, form, builder.load(total)), strict=True):
                            builder.store(builder.add(builder.load(word), more), word)
                        builder.store(ir.Constant(TABLES, None), total)
            found = [[_settled(builder, [builder.load(word) for word in unit]) for unit in pixel] for pixel in words]
        else:
            emit_steps(steps)
            found = [[_settled(builder, _widened(builder, form, builder.load(total))) for total in pixel] for pixel in sums]
        of_pixels = [offset(builder, codes, p, codes_stride) for p in range(form.pixels)]
        finish_tile(builder, _emit_sums(builder, form, found, of_pixels, base), None, rest, ending)

    return machine_code(9 + arguments_of(ending), emit)


def look_up(builder: Any, table: Any, index: Any) -> Any:
    """32 bytes of two tables of 16."""
    return call(builder, "llvm.x86.avx2.pshuf.b", TABLES, [table, index])


def _widened(builder: Any, form: Form, total: Any) -> list[Any]:
    """Bytes -> words of both lanes: of two digits the one register of their weighted sums, of one those of the odd bytes and
    what has 256 times these added to the even ones, which _settled takes off once.
    """
    if len(form.digits.exponents) == 1:
        both = builder.bitcast(total, WORDS)
        return [both, builder.lshr(both, every(8, WORDS))]
    weights = ir.Constant(TABLES, [1 << exponent for exponent in form.digits.exponents] * TABLE)
    return [call(builder, "llvm.x86.avx2.pmadd.ub.sw", WORDS, [total, weights])]


def _settled(builder: Any, words: list[Any]) -> list[Any]:
    """Sums of words that _widened gives, now of even bytes alone and of odd ones."""
    if len(words) == 1:
        return words
    both, odd = words
    return [builder.sub(both, builder.shl(odd, every(8, WORDS))), odd]


def _emit_sums(builder: Any, form: Form, words: Any, of_pixels: Sequence[Any], base: Any) -> Any:
    """Variables of int32 sums [pixels][blocks of 16] of words [pixels][units][1 or 2] of both lanes.

    All is done in words where bytes have held the sums of a window, as twice these fit.
    """
    kind = ir.VectorType(I32, LANES)
    halves = [ir.Constant(kind, [*range(first, first + 8), *range(first + 16, first + 24)]) for first in (0, 8)]
    blocks = form.channels // LANES
    sums = registers(builder, kind, form.pixels, blocks)
    for p, pixel in enumerate(words):
        codes = splat(builder, load(builder, of_pixels[p], I32 if form.has_words else I16, 4), LANES)
        flat = [word for unit in pixel for word in unit]  # two of 8 channels each make a block
        for block in range(blocks):
            pair = flat[2 * block : 2 * block + 2]
            lanes = [builder.shuffle_vector(*pair, half) for half in halves]
            if form.has_words:
                lanes = [builder.zext(lane, kind) for lane in lanes]
            total = builder.add(*lanes)
            if not form.digits.is_halved:
                total = builder.shl(total, every(1, total.type))
            total = builder.sub(total, codes)
            total = total if form.has_words else builder.sext(total, kind)
            if form.is_lifted:
                total = builder.sub(total, load(builder, offset(builder, base, block, 4 * LANES), kind, 4))
            builder.store(total, sums[p][block])
    return sums
