"""Depthwise convolutions through vpdpbusd, 16 channels of a few pixels at once, where there is AVX512-VNNI.

The instruction sums 4 neighboring bytes, but 4 taps of one channel lie a pixel apart: the bytes of 4 pixels are transposed.
Windows of up to 3 columns and stride 1, or 4 columns and stride 2, begin with every pair of pixels: each pair is loaded once
and is the second half of one transposition and the first of the next.  With stride 1 one transposition serves two outputs,
the second one with its weights moved by one tap.  Other windows transpose for each output and group of 4 taps.

To transpose costs more than to multiply: weights beyond a byte are sums of `terms` bytes, multiplied one after the other.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.finish import Ending, arguments_of, codes_at, finish_tile, sums_at, target_of
from sim.kernels.ir import I8, I32, I64, call, constant, load, loop, machine_code, offset, registers
from sim.kernels.jit import inline, specialize
from sim.kernels.layout import LANES

TAPS = 4
PIXELS = 4
_BYTES = LANES * TAPS


def outputs_of_pairs(columns: int, stride: int) -> int:
    """How many outputs the transposed bytes of two pairs of pixels serve; 0 where windows do not begin with pairs."""
    return 2 if stride == 1 and columns < TAPS else 1 if stride == 2 and columns <= TAPS else 0


def fewest_pixels(columns: int, stride: int) -> int:
    """Outputs that a line must have."""
    return 2 * outputs_of_pairs(columns, stride) or 1


WIDE_TERMS = 3
"""DoReFa's weights of 8 bits reach 255, for which two bytes are not enough."""


def fits(weights: np.ndarray, terms: int) -> bool:
    """Whether so many signed bytes can be every weight together."""
    return bool(weights.min(initial=0) >= -128 * terms and weights.max(initial=0) <= 127 * terms)


def pack(weights: np.ndarray, stride: int, terms: int = 1) -> np.ndarray:
    """int [KH, KW, 1, C] that fit so many terms -> int8 [blocks of 16 channels, KH, groups of taps, terms * 16, 4].

    Where two outputs share 4 pixels the groups are the weights of the first and of the second.
    """
    parts, rest = [], weights.astype(np.int64)
    for _ in range(terms):
        parts.append(_pack_bytes(part := np.clip(rest, -128, 127), stride))
        rest = rest - part
    return np.ascontiguousarray(np.concatenate(parts, 3))


def _pack_bytes(weights: np.ndarray, stride: int) -> np.ndarray:
    rows, columns, _, channels = weights.shape
    shared = outputs_of_pairs(columns, stride) == 2
    groups = 2 if shared else -(-columns // TAPS)
    packed = np.zeros((rows, groups * TAPS, -(-channels // LANES) * LANES), np.int8)
    for start in (0, TAPS + 1) if shared else (0,):
        packed[:, start : start + columns, :channels] = weights[:, :, 0]
    blocks = packed.reshape(rows, groups, TAPS, -1, LANES).transpose(3, 0, 1, 4, 2)
    return np.ascontiguousarray(blocks)


def _make_pairs(outputs: int, quads: int, blocks: int, signed: bool, terms: int, ending: Ending | None) -> Any:
    """tile((x, tap_stride, row_stride, w, w_block_stride, rows, surplus, out, out_stride)): sums of blocks of 16 channels.

    `quads` times two neighboring pairs of pixels serve `outputs` outputs each.  `x` are bytes, `w` int8
    [rows, outputs, terms, 16, 4] for each block, `surplus` and `out` int32.  With an `ending` as in vnni.make_tile.
    """
    words = ir.VectorType(I32, LANES)
    channels = blocks * LANES
    codes = ir.VectorType(I8, channels)
    concatenate = ir.Constant(ir.VectorType(I32, 2 * channels), list(range(2 * channels)))
    transpose = [ir.Constant(ir.VectorType(I32, _BYTES), [tap * channels + b * LANES + lane for lane in range(LANES)
                                                          for tap in range(TAPS)]) for b in range(blocks)]

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, tap_stride, row_stride, w, w_block_stride, rows, surplus, *rest = arguments
        sums = registers(builder, words, quads * outputs, blocks)

        def pair(at: Any, number: int) -> Any:
            first, second = (load(builder, offset(builder, at, 2 * number + k, tap_stride), codes, 1) for k in (0, 1))
            both = builder.shuffle_vector(first, second, concatenate)
            return builder.xor(both, ir.Constant(both.type, [-128] * 2 * channels)) if signed else both

        with loop(builder, rows) as row:
            x_row = offset(builder, x, row.index, row_stride)
            w_row = offset(builder, w, row.index, outputs * terms * _BYTES)
            weights = [[_load_terms(builder, offset(builder, offset(builder, w_row, b, w_block_stride), k, terms * _BYTES),
                                    words, terms) for b in range(blocks)] for k in range(outputs)]
            before = pair(x_row, 0)
            for q in range(quads):
                after = pair(x_row, q + 1)
                for b in range(blocks):
                    quad = builder.bitcast(builder.shuffle_vector(before, after, transpose[b]), words)
                    for k in range(outputs):
                        register = sums[q * outputs + k][b]
                        builder.store(_dot(builder, builder.load(register), quad, weights[k][b]), register)
                before = after
        finish_tile(builder, sums, surplus if signed else None, rest, ending)

    return machine_code(7 + arguments_of(ending), emit)


def _load_terms(builder: Any, address: Any, words: Any, terms: int) -> list[Any]:
    return [load(builder, offset(builder, address, term, _BYTES), words, _BYTES) for term in range(terms)]


def _dot(builder: Any, total: Any, quads: Any, terms: Sequence[Any]) -> Any:
    for weights in terms:
        total = call(builder, "llvm.x86.avx512.vpdpbusd.512", total.type, [total, quads, weights])
    return total


def _make_apart(pixels: int, signed: bool, terms: int, ending: Ending | None) -> Any:
    """tile((x, pixel_stride, row_stride, tap_stride, w, rows, groups, surplus, out, out_stride)): sums of 16 channels.

    `x` are bytes, `w` int8 [rows, groups, terms, 16, 4], `surplus` and `out` int32.  With an `ending` as in vnni.make_tile.
    """
    codes, words = ir.VectorType(I8, LANES), ir.VectorType(I32, LANES)

    def transposed(builder: Any, address: Any, tap_stride: Any) -> Any:
        """The bytes of 4 pixels, those of a channel side by side."""
        taps = [load(builder, offset(builder, address, t, tap_stride), codes, 1) for t in range(TAPS)]
        for size in (LANES, 2 * LANES):
            mask = ir.Constant(ir.VectorType(I32, 2 * size), list(range(2 * size)))
            taps = [builder.shuffle_vector(first, second, mask) for first, second in zip(taps[::2], taps[1::2], strict=True)]
        order = [t * LANES + lane for lane in range(LANES) for t in range(TAPS)]
        mixed = builder.shuffle_vector(taps[0], taps[0], ir.Constant(ir.VectorType(I32, _BYTES), order))
        quads = builder.bitcast(mixed, words)
        return builder.xor(quads, ir.Constant(words, [0x80808080] * LANES)) if signed else quads

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        x, pixel_stride, row_stride, tap_stride, w, rows, groups, surplus, *rest = arguments
        sums = registers(builder, words, pixels)
        position = registers(builder, I64)
        builder.store(w, position)
        with loop(builder, rows) as row:
            x_row = offset(builder, x, row.index, row_stride)
            with loop(builder, groups) as group:
                at = builder.load(position)
                weights = _load_terms(builder, at, words, terms)
                builder.store(offset(builder, at, terms, _BYTES), position)
                first_tap = offset(builder, x_row, builder.mul(group.index, constant(TAPS)), tap_stride)
                for p, register in enumerate(sums):
                    quads = transposed(builder, offset(builder, first_tap, p, pixel_stride), tap_stride)
                    builder.store(_dot(builder, builder.load(register), quads, weights), register)
        finish_tile(builder, [[register] for register in sums], surplus if signed else None, rest, ending)

    return machine_code(8 + arguments_of(ending), emit)


_tile_4_2 = _tile_4_1 = _tile_2_2 = _tile_2_1 = _make_pairs(1, 2, 1, False, 1, None)
_tile_4 = _tile_1 = _make_apart(1, False, 1, None)
_at: Any = sums_at
_outputs = 1
_pairs_1 = _pairs_2 = _apart = _at
"""`specialize` puts the real tiles and functions in place of these names: machine code cannot be looked up in a table."""


def _pairs(x: int, tap: int, row: int, w: np.ndarray, surplus: int, count: int, target: Any, columns: int) -> None:
    """All channels, 32 at once where there are more than 16; the last tile begins early enough to end with the line."""
    quads = 4 if columns >= 4 * _outputs else 2
    at_once, pixel = quads * _outputs, tap * (3 - _outputs)
    for first in range(0, count, 2 * LANES):
        weights = w.ctypes.data + first // LANES * w.strides[0]
        is_double = count - first > LANES
        for start in range(0, columns, at_once):
            j = min(start, columns - at_once)
            place = (x + first + j * pixel, tap, row, weights, w.strides[0], w.shape[1], surplus + 4 * first)
            arguments = place + _at(target, first, j, start - j)
            if quads == 4:
                if is_double:
                    _tile_4_2(arguments)
                else:
                    _tile_4_1(arguments)
            elif is_double:
                _tile_2_2(arguments)
            else:
                _tile_2_1(arguments)


def _each(x: int, pixel: int, tap: int, row: int, w: np.ndarray, surplus: int, count: int, target: Any,
          columns: int) -> None:
    """The same for windows that share nothing."""
    at_once = PIXELS if columns >= PIXELS else 1
    for first in range(0, count, LANES):
        weights = w.ctypes.data + first // LANES * w.strides[0]
        for start in range(0, columns, at_once):
            j = min(start, columns - at_once)
            place = (x + first + j * pixel, pixel, row, tap, weights, w.shape[1], w.shape[2], surplus + 4 * first)
            arguments = place + _at(target, first, j, start - j)
            if at_once == PIXELS:
                _tile_4(arguments)
            else:
                _tile_1(arguments)


def _channels(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any, target: Any,
        columns: int) -> None:
    """A line of the channels from `channel` on; reads up to 3 pixels and 15 bytes behind a line."""
    w, surplus, outputs, count, _ = operands
    tap, row = x.strides[2], x.strides[1]
    corner = x.ctypes.data + n * x.strides[0] + top * row + left * tap + channel
    blocks, extra = w[channel // LANES :], surplus.ctypes.data + 4 * channel
    if outputs == 2:
        _pairs_2(corner, tap, row, blocks, extra, count[part], target, columns)
    elif outputs == 1:
        _pairs_1(corner, tap, row, blocks, extra, count[part], target, columns)
    else:
        _apart(corner, stride * tap, tap, row, blocks, extra, count[part], target, columns)


_unsigned: Any = _channels
_signed: Any = _channels


def _line(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any,
          sums: np.ndarray) -> None:
    """`sums` int32 [columns, width] of a line whose first window begins at x[n, top, left]."""
    columns, width = sums.shape
    target = (sums.ctypes.data, 4 * width)
    if operands[4]:
        _signed(x, n, top, left, stride, channel, part, operands, target, columns)
    else:
        _unsigned(x, n, top, left, stride, channel, part, operands, target, columns)


def _line_to_codes(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any, constants: Any,
        first: int, count: int, skip: np.ndarray, skip_n: int, skip_row: int, skip_pad: int, out: np.ndarray, out_row: int,
        pad: int, counts: np.ndarray) -> None:
    """Codes of `count` channels from `first` on, of the line whose first window begins at x[n, top, left]."""
    target = target_of(constants, first, count, skip, skip_n, skip_row, skip_pad, out, n, out_row, pad, counts)
    _unsigned(x, n, top, left, stride, channel, part, operands, target, out.shape[2] - 2 * pad)


def _specialize_channels(signed: bool, ending: Ending | None, terms: int) -> Any:
    name, variants = f"depthwise_{'wide_' if terms > 1 else ''}{ending or 'sums'}_{signed}", {}
    at = codes_at if ending else sums_at
    for outputs in (1, 2):
        tiles = {f"_tile_{quads}_{blocks}": _make_pairs(outputs, quads, blocks, signed, terms, ending)
                 for quads in (2, 4) for blocks in (1, 2)}
        variants[f"_pairs_{outputs}"] = specialize(
            _pairs, f"{name}_pairs_{outputs}", inline, _outputs=outputs, _at=at, **tiles)
    variants["_apart"] = specialize(_each, f"{name}_apart", inline, _at=at, _tile_4=_make_apart(4, signed, terms, ending),
                                    _tile_1=_make_apart(1, signed, terms, ending))
    return specialize(_channels, name, inline, **variants)


def _specialize_line(name: str, terms: int) -> Any:
    return specialize(_line, name, inline, _unsigned=_specialize_channels(False, None, terms),
                      _signed=_specialize_channels(True, None, terms))


LINES = {1: _specialize_line("depthwise_vnni_line", 1), WIDE_TERMS: _specialize_line("depthwise_vnni_wide_line", WIDE_TERMS)}
"""Lines of sums, by the terms of weights."""


@cache
def line_to_codes(signed: bool, ending: Ending, terms: int = 1) -> Any:
    """Lines from codes to codes; `signed` as the input is."""
    return specialize(_line_to_codes, f"depthwise_vnni_{'wide_' if terms > 1 else ''}{ending}_{signed}", inline,
                      _unsigned=_specialize_channels(signed, ending, terms))
