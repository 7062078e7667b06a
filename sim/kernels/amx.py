"""Exact dot products of codes and weights through AMX: tdpbusd and tdpbssd on tiles of up to 16 rows of 64 bytes.

A tile of codes is up to 16 neighboring pixels x 64 bytes of their windows, read straight from the padded image; one of
weights is 64 products x 16 channels; one instruction multiplies both and adds to a tile of 32-bit sums, which wrap and
never saturate.  What lies behind a window is multiplied by zero weights.  Weights beyond 8 bits are two byte planes, as in
vnni.py: between the planes the sums go through memory to be shifted.

`Processor` emits the instructions; `Emulation` does to tiles in memory what the manual says they do, so that everything but
the silicon can be tested on any machine.
Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, LDTILECFG, TILELOADD, TDPBSSD/TDPBUSD.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from sim.kernels.ir import I8, I16, I32, I64, constant, load, loop, machine_code, offset, registers, store, window
from sim.kernels.layout import LANES, Layout, arrange
from sim.kernels.vnni import PLANE_SHIFT, QUAD, byte_planes

TILES, ROWS, ROW_BYTES = 8, 16, 64
TILE_BYTES = ROWS * ROW_BYTES
SUM_TILES, CODES, WEIGHTS = 4, 4, 6
"""Tiles 0 to 3 hold sums, 4 and 5 codes, 6 and 7 weights."""
CONFIG_BYTES, _WIDTHS, _HEIGHTS = 64, 16, 48
"""What LDTILECFG reads, and where in it are the bytes of a row (uint16) and the rows (uint8) of each tile."""


def config(pixels: int) -> np.ndarray:
    """uint8 [64]: the configuration for tiles of so many pixels, 1 to 16."""
    memory = np.zeros(CONFIG_BYTES, np.uint8)
    memory[0] = 1  # the palette that has tiles
    memory[_WIDTHS : _WIDTHS + 2 * TILES].view(np.uint16)[:] = ROW_BYTES
    memory[_HEIGHTS : _HEIGHTS + TILES] = [pixels] * WEIGHTS + [ROWS] * (TILES - WEIGHTS)
    return memory


def pack(weights: np.ndarray, layout: Layout) -> np.ndarray:
    """int [KH, KW, C / groups, Cout] -> int8 [parts, planes, KH * segments, chunks of 64 products, blocks, 16, 16, 4]."""
    planes = byte_planes(arrange(weights, layout, ROW_BYTES))
    parts, count, rows, padded, width = planes.shape
    tiles = planes.reshape(parts, count, rows, padded // ROW_BYTES, ROWS, QUAD, width // LANES, LANES)
    return np.ascontiguousarray(tiles.transpose(0, 1, 2, 3, 6, 4, 7, 5))


class Processor:
    """The instructions themselves."""

    def configure(self, builder: Any, state: Any) -> None:
        """LDTILECFG: tiles as the 64 bytes at `state` say."""
        self._call(builder, "ldtilecfg", self._pointer(builder, state))

    def release(self, builder: Any) -> None:
        """TILERELEASE."""
        self._call(builder, "tilerelease")

    def zero(self, builder: Any, state: Any, tile: int) -> None:
        """TILEZERO."""
        self._call(builder, "tilezero", I8(tile))

    def load(self, builder: Any, state: Any, tile: int, address: Any, stride: Any) -> None:
        """TILELOADD: rows `stride` bytes apart."""
        self._call(builder, "tileloadd64", I8(tile), self._pointer(builder, address), stride)

    def store(self, builder: Any, state: Any, tile: int, address: Any, stride: Any) -> None:
        """TILESTORED: the same way."""
        self._call(builder, "tilestored64", I8(tile), self._pointer(builder, address), stride)

    def multiply(self, builder: Any, state: Any, total: int, codes: int, weights: int, signed: bool) -> None:
        """TDPBSSD, or TDPBUSD for unsigned codes."""
        self._call(builder, "tdpbssd" if signed else "tdpbusd", I8(total), I8(codes), I8(weights))

    def _pointer(self, builder: Any, address: Any) -> Any:
        return builder.inttoptr(address, I8.as_pointer())

    def _call(self, builder: Any, name: str, *arguments: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


class Emulation:
    """The same by plain loops, on 8 tiles behind the configuration: byte by byte, only as many as that says.

    Each instruction is a function of its own, called with a tile's number: inlined, they would take minutes to compile.
    """

    STATE_BYTES = CONFIG_BYTES + TILES * TILE_BYTES
    """The configuration, then the tiles."""

    def zero(self, builder: Any, state: Any, tile: int) -> None:
        """All rows."""
        _call_function(builder, "amx_zero", _emulate_zero, state, constant(tile))

    def load(self, builder: Any, state: Any, tile: int, address: Any, stride: Any) -> None:
        """Rows and bytes that are not configured become zero."""
        self.zero(builder, state, tile)
        _call_function(builder, "amx_load", _emulate_load, state, constant(tile), address, stride)

    def store(self, builder: Any, state: Any, tile: int, address: Any, stride: Any) -> None:
        """What is configured."""
        _call_function(builder, "amx_store", _emulate_store, state, constant(tile), address, stride)

    def multiply(self, builder: Any, state: Any, total: int, codes: int, weights: int, signed: bool) -> None:
        """total[m, n] += the sum over k and 4 bytes of codes[m, k] * weights[k, n]."""
        name, emulate = ("amx_tdpbssd", _emulate_tdpbssd) if signed else ("amx_tdpbusd", _emulate_tdpbusd)
        _call_function(builder, name, emulate, state, constant(total), constant(codes), constant(weights))


def _call_function(builder: Any, name: str, body: Callable[..., None], *arguments: Any) -> None:
    """Call a function of integers, whose `body(builder, *arguments)` becomes part of the module at its first call."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [I64] * len(arguments)), name)
    if function.is_declaration:
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block())
        body(inner, *function.args)
        inner.ret_void()
    builder.call(function, arguments)


def _emulate_zero(builder: Any, state: Any, tile: Any) -> None:
    with loop(builder, TILE_BYTES) as byte:
        store(builder, I8(0), builder.add(_tile_at(builder, state, tile), byte.index), 1)


def _emulate_load(builder: Any, state: Any, tile: Any, address: Any, stride: Any) -> None:
    _copy(builder, state, tile, (address, stride), (_tile_at(builder, state, tile), constant(ROW_BYTES)))


def _emulate_store(builder: Any, state: Any, tile: Any, address: Any, stride: Any) -> None:
    _copy(builder, state, tile, (_tile_at(builder, state, tile), constant(ROW_BYTES)), (address, stride))


def _emulate_tdpbusd(builder: Any, state: Any, total: Any, codes: Any, weights: Any) -> None:
    _multiply(builder, state, (total, codes, weights), builder.zext)


def _emulate_tdpbssd(builder: Any, state: Any, total: Any, codes: Any, weights: Any) -> None:
    _multiply(builder, state, (total, codes, weights), builder.sext)


def _multiply(builder: Any, state: Any, tiles: tuple[Any, ...], extend: Callable[..., Any]) -> None:
    sums_at, codes_at, weights_at = (_tile_at(builder, state, tile) for tile in tiles)
    rows = _rows(builder, state, tiles[0])
    products, channels = (builder.lshr(_row_bytes(builder, state, tile), constant(2)) for tile in (tiles[1], tiles[0]))
    with loop(builder, rows) as m, loop(builder, products) as k, loop(builder, channels) as n:
        sum_at = offset(builder, offset(builder, sums_at, m.index, ROW_BYTES), n.index, QUAD)
        code_at = offset(builder, offset(builder, codes_at, m.index, ROW_BYTES), k.index, QUAD)
        weight_at = offset(builder, offset(builder, weights_at, k.index, ROW_BYTES), n.index, QUAD)
        value = load(builder, sum_at, I32, 4)
        for i in range(QUAD):
            code = extend(load(builder, offset(builder, code_at, i, 1), I8, 1), I32)
            weight = builder.sext(load(builder, offset(builder, weight_at, i, 1), I8, 1), I32)
            value = builder.add(value, builder.mul(code, weight))
        store(builder, value, sum_at, 4)


def _copy(builder: Any, state: Any, tile: Any, source: tuple[Any, Any], target: tuple[Any, Any]) -> None:
    rows, columns = _rows(builder, state, tile), _row_bytes(builder, state, tile)
    with loop(builder, rows) as row, loop(builder, columns) as column:
        begin, end = (builder.add(offset(builder, address, row.index, stride), column.index)
                      for address, stride in (source, target))
        store(builder, load(builder, begin, I8, 1), end, 1)


def _tile_at(builder: Any, state: Any, tile: Any) -> Any:
    return builder.add(offset(builder, state, tile, TILE_BYTES), constant(CONFIG_BYTES))


def _rows(builder: Any, state: Any, tile: Any) -> Any:
    at = builder.add(builder.add(state, constant(_HEIGHTS)), tile)
    return builder.zext(load(builder, at, I8, 1), I64)


def _row_bytes(builder: Any, state: Any, tile: Any) -> Any:
    at = offset(builder, builder.add(state, constant(_WIDTHS)), tile, 2)
    return builder.zext(load(builder, at, I16, 1), I64)


Instructions = Processor | Emulation


def make_configure() -> Callable[..., None]:
    """configure((state,)): what a thread does before its first tile, with the address of a configuration."""
    return machine_code(1, lambda builder, arguments: Processor().configure(builder, *arguments))


def make_release() -> Callable[..., None]:
    """release(()): what it does after its last."""
    return machine_code(0, lambda builder, arguments: Processor().release(builder))


def make_tile(machine: Instructions, tiles: int, blocks: int, signed: bool) -> Callable[..., None]:
    """The sums of `tiles` tiles of pixels x `blocks` of 16 channels, together at most 4, as machine code.

    tile((state, pixels, x, pixel_stride, row_stride, segment_stride, w, planes, rows, segments, chunks, out, out_stride)):
    addresses and strides in bytes; `pixels` are those of one tile; `w` points to int8 [planes, rows, segments, chunks,
    blocks, 16, 16, 4], `out` to int32 pixels that are `out_stride` bytes apart.
    """
    sums = [[t * blocks + b for b in range(blocks)] for t in range(tiles)]
    words = ir.VectorType(I32, blocks * LANES)
    shift = ir.Constant(words, [PLANE_SHIFT] * blocks * LANES)
    weight_stride = constant(ROW_BYTES)

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        (state, pixels, x, pixel_stride, row_stride, segment_stride, w, planes, rows, segments, chunks, out,
         out_stride) = arguments
        x_tile, out_tile = builder.mul(pixels, pixel_stride), builder.mul(pixels, out_stride)
        position = registers(builder, I64)
        builder.store(w, position)

        def each_sum(act: Callable[..., None]) -> None:
            for t in range(tiles):
                for b in range(blocks):
                    act(builder, state, sums[t][b], offset(builder, offset(builder, out, t, out_tile), b, 4 * LANES),
                        out_stride)

        def load_codes(tile: int, at: Any, t: int) -> None:
            machine.load(builder, state, tile, offset(builder, at, t, x_tile), pixel_stride)

        def load_weights(tile: int, at: Any, b: int) -> None:
            machine.load(builder, state, tile, offset(builder, at, b, TILE_BYTES), weight_stride)

        def multiply_chunk(x_at: Any, w_at: Any) -> None:
            """The fewer tiles, of weights or of codes, stay; the others take turns."""
            if blocks <= tiles:
                for b in range(blocks):
                    load_weights(WEIGHTS + b, w_at, b)
                for t in range(tiles):
                    load_codes(CODES + t % 2, x_at, t)
                    for b in range(blocks):
                        machine.multiply(builder, state, sums[t][b], CODES + t % 2, WEIGHTS + b, signed)
            else:
                load_codes(CODES, x_at, 0)
                for b in range(blocks):
                    load_weights(WEIGHTS + b % 2, w_at, b)
                    machine.multiply(builder, state, sums[0][b], CODES, WEIGHTS + b % 2, signed)

        with loop(builder, planes) as plane:
            with builder.if_else(builder.icmp_signed("==", plane.index, constant(0))) as (first, later):
                with first:
                    for tile in (tile for row in sums for tile in row):
                        machine.zero(builder, state, tile)
                with later:
                    with loop(builder, builder.mul(pixels, constant(tiles))) as pixel:
                        at = offset(builder, out, pixel.index, out_stride)
                        store(builder, builder.shl(load(builder, at, words, 4), shift), at, 4)
                    each_sum(machine.load)
            strides, counts = (x, row_stride, segment_stride, ROW_BYTES), (rows, segments, chunks)
            with window(builder, strides, counts, position, blocks * TILE_BYTES) as (x_chunk, w_chunk):
                multiply_chunk(x_chunk, w_chunk)
            each_sum(machine.store)

    return machine_code(13, emit)
