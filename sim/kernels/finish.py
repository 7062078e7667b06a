"""Requantizers on registers: sums become bytes where they are, without a way through memory.

The arithmetic is in tile_rules.py.  Clamping comes after rounding, which changes nothing, as limits are integers: the
conversion to bytes saturates, and the smaller byte costs a quarter of the smaller float32, whose port is the one that
conversions wait for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I8, I16, I32, call, constant, halves, joined, load, machine_code, offset, splat, store
from sim.kernels.isa import has_wide_registers
from sim.kernels.jit import inline
from sim.kernels.overflow import emit_register
from sim.kernels.tile_rules import LANES, REALS, RULES, SUMS, rounded

_SUMS, _REALS, _BYTES = SUMS, REALS, ir.VectorType(I8, LANES)
_HALVES, _ALL = ir.VectorType(I16, 2 * LANES), ir.VectorType(I8, 4 * LANES)
_SUMS_ARGUMENTS, _CODES_ARGUMENTS = 2, 11
"""(rows, bytes from row to row, limits, residual, its stride, out, its stride, channels, spare, counts, done): addresses
and numbers.

`rows` are what tile_rules.py wants of each channel.  `limits` are int32: smallest code, largest code, zero point, then the
constants of the residual in the order of the rows, of which its bias or offset is 0.  `channels` are those that are written,
where these are not whole registers.  A limited register is `spare` bits narrower than 32; `counts` int32 [channels] grow by
the sums that do not fit it, but not by those of the first `done` pixels, which another tile has counted.
"""
_OF_RESIDUAL = 3


@dataclass(frozen=True)
class Ending:
    """How a tile can end in codes.

    `rule`: a name of tile_rules.RULES.  `overflow`: what registers do with a whole sum that does not fit, "" if none comes.
    `residual`: "", "unsigned" or "signed" bytes.  `signed`: the codes that are written.  `partial`: not all channels of the
    registers are.  `shifted`: codes have a zero point, or other ends than their format.
    """

    overflow: str = ""
    residual: str = ""
    signed: bool = False
    partial: bool = False
    rule: str = "fp32"
    shifted: bool = False

    def __str__(self) -> str:
        """Part of the name of what is compiled for it."""
        words = ("" if self.rule == "fp32" else self.rule, self.overflow, self.residual,
                 "residual" if self.residual else "", "to", "some" if self.partial else "",
                 "shifted" if self.shifted else "", "signed" if self.signed else "", "codes")
        return "_".join(filter(None, words))


@inline
def sums_at(target: Any, channel: int, pixel: int, done: int) -> Any:
    """The last arguments of a tile that stores int32 sums: `target` is (address, bytes from pixel to pixel) of a line."""
    sums, step = target
    return sums + 4 * channel + pixel * step, step


@inline
def codes_at(target: Any, channel: int, pixel: int, done: int) -> Any:
    """The same for one that stores codes: `target` is what `target_of` gives."""
    rows, step, limits, skip, out, channels, count, spare, counts = target
    return (rows + 4 * channel, step, limits, skip + channel + pixel * channels, channels,
            out + channel + pixel * channels, channels, count - channel, spare, counts + 4 * channel, done)


@inline
def target_of(  # noqa: PLR0913 - a kernel sees arrays, not objects
        constants: Any, first: int, count: int, skip: np.ndarray, skip_n: int, skip_row: int, skip_pad: int, out: np.ndarray,
        n: int, row: int, pad: int, counts: np.ndarray) -> Any:
    """Addresses for `count` channels from `first` on of a line of codes and of its residual: (rows, bytes from row
    to row, limits, residual, out, channels of both, `count`, spare bits, counts)."""
    rows, limits, spare = constants
    channels = out.shape[3]
    target = out.ctypes.data + n * out.strides[0] + row * out.strides[1] + pad * channels + first
    residue = skip.ctypes.data + skip_n * skip.strides[0] + skip_row * skip.strides[1] + skip_pad * channels + first
    return (rows.ctypes.data + 4 * first, rows.strides[0], limits.ctypes.data, residue, target, channels,
            count, spare, counts.ctypes.data)


def arguments_of(ending: Ending | None) -> int:
    """How many integers a tile with this end takes for it."""
    return _CODES_ARGUMENTS if ending else _SUMS_ARGUMENTS


def finish_tile(builder: Any, sums: Sequence[Sequence[Any]], surplus: Any, arguments: Sequence[Any],
                ending: Ending | None) -> None:
    """The end of a tile: registers of sums [pixels][blocks], less the `surplus` at an address, go to memory.

    Without an `ending` they are int32 sums at (out, bytes from pixel to pixel).
    """
    totals = [[builder.load(register) for register in pixel] for pixel in sums]
    kind = totals[0][0].type
    size = 4 * kind.count
    if surplus is not None:
        more = [load(builder, offset(builder, surplus, b, size), kind, 4) for b in range(len(totals[0]))]
        totals = [[builder.sub(total, more[b]) for b, total in enumerate(pixel)] for pixel in totals]
    if ending:
        if ending.overflow:
            totals = _emit_registers(builder, totals, arguments[8:], ending.overflow)
        _emit_codes(builder, totals, arguments[:8], ending)
        return
    out, step = arguments
    for p, pixel in enumerate(totals):
        for b, total in enumerate(pixel):
            store(builder, total, offset(builder, offset(builder, out, p, step), b, size), 4)


def make_end(ending: Ending) -> Any:
    """end((sums, ...)): what a tile with this end does, for int32 sums of 16 channels of a pixel at an address."""
    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        sums, *rest = arguments
        _emit_codes(builder, [[load(builder, sums, _SUMS, 4)]], rest[:8], ending)

    return machine_code(1 + _CODES_ARGUMENTS, emit)


def _emit_registers(builder: Any, sums: Sequence[Sequence[Any]], arguments: Sequence[Any],
                    overflow: str) -> list[list[Any]]:
    """What limited registers hold; counts the sums that do not fit."""
    spare, counts, done = arguments
    spare = builder.trunc(spare, I32)
    with builder.if_then(builder.icmp_signed(">", done, constant(0)), likely=False):
        _emit_discount(builder, sums, spare, counts, done)
    contents: list[list[Any]] = [[] for _ in sums]
    for b in range(len(sums[0])):
        address = offset(builder, counts, b, 4 * LANES)
        count = load(builder, address, _SUMS, 4)
        for p, pixel in enumerate(sums):
            kept = emit_register(builder, pixel[b], spare, overflow)
            count = builder.sub(count, builder.sext(builder.icmp_signed("!=", pixel[b], kept), _SUMS))
            contents[p].append(kept)
        store(builder, count, address, 4)
    return contents


def _emit_discount(builder: Any, sums: Sequence[Sequence[Any]], spare: Any, counts: Any, done: Any) -> None:
    """Take the first `done` pixels from the counts, before all are counted.

    The test is another one than where all are counted: else LLVM keeps the results of every pixel for both.
    """
    one = ir.Constant(I32, 1)
    half = builder.lshr(ir.Constant(I32, -(2**31)), spare)
    most = splat(builder, builder.sub(builder.shl(half, one), one), LANES)
    none = ir.Constant(ir.VectorType(ir.IntType(1), LANES), None)
    for b in range(len(sums[0])):
        address = offset(builder, counts, b, 4 * LANES)
        count = load(builder, address, _SUMS, 4)
        for p, pixel in enumerate(sums[:-1]):
            differs = builder.icmp_unsigned(">", builder.add(pixel[b], splat(builder, half, LANES)), most)
            is_old = builder.icmp_signed(">", done, constant(p))
            count = builder.add(count, builder.sext(builder.select(is_old, differs, none), _SUMS))
        store(builder, count, address, 4)


def _emit_codes(builder: Any, sums: Sequence[Sequence[Any]], arguments: Sequence[Any], ending: Ending) -> None:
    """Vectors of 16 sums [pixels][blocks] -> bytes at `out`."""
    rows, step, limits, skip, skip_stride, out, out_stride, channels = arguments
    blocks, rule = len(sums[0]), RULES[ending.rule]
    places = [offset(builder, rows, row, step) for row in range(rule.rows)]
    own = [[load(builder, offset(builder, place, b, 4 * LANES), _SUMS, 4) for place in places] for b in range(blocks)]

    def limit(place: int) -> Any:
        return load(builder, offset(builder, limits, place, 4), I32, 4)

    low, high = (splat(builder, builder.trunc(limit(place), I8), 4 * LANES) for place in (0, 1))
    zero = splat(builder, limit(2), LANES)
    other = [splat(builder, limit(_OF_RESIDUAL + row), LANES) for row in range(len(places))] if ending.residual else []
    whole = []
    for p, pixel in enumerate(sums):
        for b, total in enumerate(pixel):
            steps = rule.steps(builder, total, own[b])
            if ending.residual:
                address = offset(builder, offset(builder, skip, p, skip_stride), b, LANES)
                widen = builder.sext if ending.residual == "signed" else builder.zext
                more = rule.residual(builder, widen(load(builder, address, _BYTES, 1), _SUMS), other)
                steps = (builder.fadd if steps.type == _REALS else builder.add)(steps, more)
            steps = rounded(builder, steps) if steps.type == _REALS else steps
            whole.append(builder.add(steps, zero) if ending.shifted else steps)
    codes: list[Any] = []
    pack = _packed if has_wide_registers() else _packed_in_halves
    for first in range(0, len(whole), 4):
        mixed = pack(builder, [whole[min(first + k, len(whole) - 1)] for k in range(4)], ending.signed)
        if ending.signed:
            mixed = call(builder, f"llvm.smax.v{4 * LANES}i8", _ALL, [mixed, low])
            mixed = call(builder, f"llvm.smin.v{4 * LANES}i8", _ALL, [mixed, high])
        else:
            mixed = call(builder, f"llvm.umin.v{4 * LANES}i8", _ALL, [mixed, high])
            if ending.shifted:
                mixed = call(builder, f"llvm.umax.v{4 * LANES}i8", _ALL, [mixed, low])
        codes.append(mixed)
    mask = _first_lanes(builder, channels, blocks * LANES) if ending.partial else None
    _emit_stores(builder, codes, len(whole), blocks, out, out_stride, mask)


def _packed(builder: Any, four: Sequence[Any], signed: bool) -> Any:
    """Four vectors of int32 as saturated bytes."""
    words = [call(builder, "llvm.x86.avx512.packssdw.512", _HALVES, four[k : k + 2]) for k in (0, 2)]
    mixed = call(builder, f"llvm.x86.avx512.pack{'ss' if signed else 'us'}wb.512", _ALL, words)
    # packing works in lanes of 16 bytes: 4 bytes of each register in turn
    order = [4 * lane + register for register in range(4) for lane in range(4)]
    words = builder.bitcast(mixed, _SUMS)
    return builder.bitcast(builder.shuffle_vector(words, words, ir.Constant(_SUMS, order)), _ALL)


def _packed_in_halves(builder: Any, four: Sequence[Any], signed: bool) -> Any:
    """The same with registers of 256 bits."""
    words_type, bytes_type, sums_type = (ir.VectorType(kind, lanes) for kind, lanes in ((I16, 16), (I8, 32), (I32, 8)))
    to_bytes, parts = f"llvm.x86.avx2.pack{'ss' if signed else 'us'}wb", []
    for two in (four[:2], four[2:]):
        words = [call(builder, "llvm.x86.avx2.packssdw", words_type, halves(builder, vector)) for vector in two]
        mixed = builder.bitcast(call(builder, to_bytes, bytes_type, words), sums_type)
        order = ir.Constant(sums_type, [0, 4, 1, 5, 2, 6, 3, 7])  # 4 bytes of each half in turn, in two lanes
        parts.append(builder.bitcast(builder.shuffle_vector(mixed, mixed, order), bytes_type))
    return joined(builder, parts)


def _first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """A bit for each lane, set in the first `count` or in all."""
    count = builder.select(builder.icmp_signed("<", count, constant(lanes)), count, constant(lanes))
    bits = builder.lshr(constant(-1), builder.sub(constant(64), count))
    return builder.bitcast(builder.trunc(bits, ir.IntType(lanes)), ir.VectorType(ir.IntType(1), lanes))


def _emit_stores(
        builder: Any, codes: Sequence[Any], registers: int, blocks: int, out: Any, stride: Any, mask: Any) -> None:
    """Vectors of codes, those of 4 `registers` each, to pixels of so many blocks that are `stride` bytes apart.

    With a `mask` only to the channels that it names.
    """
    size = blocks * LANES

    def put(first: int, count: int, address: Any) -> None:
        places = [first % 4 * LANES + place for place in range(count * LANES)]
        part = builder.shuffle_vector(*2 * [codes[first // 4]], ir.Constant(ir.VectorType(I32, len(places)), places))
        if mask is None:
            store(builder, part, address, 1)
        else:
            place = builder.inttoptr(address, part.type.as_pointer())
            call(builder, f"llvm.masked.store.v{len(places)}i8.p0", ir.VoidType(), [part, place, ir.Constant(I32, 1), mask])

    def put_pixels() -> None:
        for first in range(0, registers, blocks):
            put(first, blocks, offset(builder, out, first // blocks, stride))

    if blocks == 4 or mask is not None:
        put_pixels()
        return
    with builder.if_else(builder.icmp_signed("==", stride, constant(size))) as (touching, apart):
        with touching:  # fewer stores, and no vector to take apart
            for first in range(0, registers, 4):
                put(first, min(4, registers - first), offset(builder, out, first, LANES))
        with apart:
            put_pixels()
