"""Lines of convolution sums through the tiles of amx.py, by the processor or by its emulation.

A tile holds `pixels` neighboring outputs, 16 or such a number that whole tiles make a line.
"""

from typing import Any

import numpy as np

from sim.kernels.amx import ROWS, SUM_TILES, Emulation, Instructions, Processor, make_configure, make_release, make_tile
from sim.kernels.jit import inline, specialize
from sim.kernels.layout import LANES

_tile_1_1 = _tile_2_1 = _tile_4_1 = _tile_1_2 = _tile_2_2 = _tile_1_4 = make_tile(Processor(), 1, 1, False)
_unsigned: Any = _tile_1_1
_signed: Any = _tile_1_1
_configure: Any = make_configure()
_release: Any = make_release()
"""`specialize` puts the real tiles and functions in place of these names: machine code cannot be looked up in a table."""

_STATE_BYTES = Emulation.STATE_BYTES


def pixels_of(columns: int) -> int:
    """Of one tile, so that the fewest tiles make a line and overlap least."""
    return -(-columns // -(-columns // ROWS))


def _tiles(state: int, pixels: int, x: int, pixel: int, row: int, segment: int, w: int, shape: Any,
           sums: np.ndarray) -> None:
    """The last tiles begin early enough to end with the line, doing some pixels twice."""
    planes, rows, segments, chunks = shape
    columns, width = sums.shape
    out, step = sums.ctypes.data, 4 * width
    blocks = width // LANES
    count = SUM_TILES // blocks
    while count * pixels > columns:
        count //= 2
    for first in range(0, columns, count * pixels):
        j = min(first, columns - count * pixels)
        arguments = (state, pixels, x + j * pixel, pixel, row, segment, w, planes, rows, segments, chunks, out + j * step,
                     step)
        if blocks == 1:
            if count == 4:
                _tile_4_1(arguments)
            elif count == 2:
                _tile_2_1(arguments)
            else:
                _tile_1_1(arguments)
        elif blocks == 2:
            if count == 2:
                _tile_2_2(arguments)
            else:
                _tile_1_2(arguments)
        else:
            _tile_1_4(arguments)


def _line(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any,
          sums: np.ndarray) -> None:
    """`sums` int32 [columns, width] of a line whose first window begins at x[n, top, left]."""
    w, planes, rows, segments, chunks, pixels, signed, state = operands
    row, pixel = x.strides[1], x.strides[2]
    corner = x.ctypes.data + n * x.strides[0] + top * row + left * pixel + channel
    weights = w.ctypes.data + part * w.strides[0]
    shape = (planes, rows, segments, chunks)
    if signed:
        _signed(state.ctypes.data, pixels, corner, stride * pixel, row, pixel, weights, shape, sums)
    else:
        _unsigned(state.ctypes.data, pixels, corner, stride * pixel, row, pixel, weights, shape, sums)


def _enter(operands: Any) -> Any:
    """The configuration becomes that of this thread."""
    _configure((operands[-1].ctypes.data,))
    return operands


def _leave(operands: Any) -> None:
    _release(())


@inline
def _enter_emulated(operands: Any) -> Any:
    """Tiles of this thread follow the configuration in memory."""
    w, planes, rows, segments, chunks, pixels, signed, config = operands
    state = np.empty(_STATE_BYTES, np.uint8)
    state[: len(config)] = config
    return w, planes, rows, segments, chunks, pixels, signed, state


def _specialize(name: str, machine: Instructions) -> Any:
    """The line of one machine."""
    variants = {}
    for signed in (False, True):
        tiles = {f"_tile_{count}_{blocks}": make_tile(machine, count, blocks, signed)
                 for blocks in (1, 2, 4) for count in (1, 2, 4) if count * blocks <= SUM_TILES}
        variants["_signed" if signed else "_unsigned"] = specialize(_tiles, f"{name}_tiles_{signed}", inline, **tiles)
    return specialize(_line, f"{name}_line", inline, **variants)


AMX_LINE = _specialize("amx", Processor())
AMX_ENTER = specialize(_enter, "amx_enter", inline, _configure=make_configure())
AMX_LEAVE = specialize(_leave, "amx_leave", inline, _release=make_release())
EMULATED_LINE = _specialize("amx_emulated", Emulation())
EMULATED_ENTER = _enter_emulated
