"""Lines of convolution sums through the register tiles of planes.py.  They compile when first called.

A thread packs the rows of codes that its lines read, each once, into planes of its own.
"""

from functools import cache
from typing import Any

import numpy as np

from sim.kernels.finish import Ending, codes_at, sums_at, target_of
from sim.kernels.jit import inline, specialize
from sim.kernels.planes import Form, make_packer, make_tile

_tile: Any = make_packer(1, False, True)
_pack: Any = _tile
_at: Any = sums_at
_at_once, _block = 1, 16
"""`specialize` puts the real tiles, functions and sizes in place of these names."""


@inline
def enter(operands: Any) -> Any:
    """Operands of some lines: with memory for the rows of one image, and which of these are there (image, first, end)."""
    planes, plane = operands[-2], operands[-1]
    return operands + (np.empty(planes * plane, np.uint8), np.full(3, -1, np.int64))  # noqa: RUF005 - numba


def _ready(x: np.ndarray, n: int, top: int, left: int, stride: int, operands: Any) -> Any:
    """What the tiles of a line whose first window begins at x[n, top, left] begin with, the weights of the first tile and
    how many bytes of weights and constants a tile has.  Packs what is not there yet."""
    w, base, rows, padding, steps, step, pixel, capacity, pitch, count, channels, _, plane, packed, state = operands
    if state[0] != n or top < state[1] or top > state[2] or top + rows > state[1] + capacity:
        state[0], state[1], state[2] = n, top, top
    source = x.ctypes.data + n * x.strides[0] + left * x.strides[2]
    target = packed.ctypes.data - state[1] * pitch
    for row in range(state[2], top + rows):
        _pack((source + row * x.strides[1], target + row * pitch, plane, count, channels))
    state[2] = max(state[2], top + rows)
    pad = left + padding  # rows that see nothing but padding add nothing
    above = min(max(pad - top, 0), rows - 1)
    below = min(max(top + rows + pad - x.shape[1], 0), rows - 1 - above)
    constants = base.ctypes.data + above * base.strides[1] + below * base.strides[2]
    weights = w.ctypes.data + above * w.strides[1]
    corner = target + (top + above) * pitch, stride * pixel, plane, pitch, step
    return corner, weights, (rows - above - below, steps), constants


def _along(corner: Any, weights: int, counts: Any, constants: int, target: Any, channel: int, columns: int) -> None:
    """Tiles take neighboring pixels; the last one begins early enough to end with the line, doing some pixels twice."""
    for first in range(0, columns, _at_once):
        j = min(first, columns - _at_once)
        _tile((corner[0] + j * corner[1],) + corner[1:] + (weights,) + counts + (constants,)  # noqa: RUF005 - numba
              + _at(target, channel, j, first - j))


def _line(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any,
          sums: np.ndarray) -> None:
    """`sums` int32 [columns, width] of a line whose first window begins at x[n, top, left]."""
    corner, weights, counts, constants = _ready(x, n, top, left, stride, operands)
    columns, width = sums.shape
    first = part * (width // _block)
    for tile in range(width // _block):
        _along(corner, weights + (first + tile) * operands[0].strides[0], counts,
               constants + (first + tile) * operands[1].strides[0], (sums.ctypes.data, 4 * width), tile * _block, columns)


def _line_to_codes(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any, constants: Any,
        first: int, count: int, skip: np.ndarray, skip_n: int, skip_row: int, skip_pad: int, out: np.ndarray, out_row: int,
        pad: int, counts: np.ndarray) -> None:
    """Codes of `count` channels from `first` on, of the line whose first window begins at x[n, top, left]."""
    corner, weights, sizes, base = _ready(x, n, top, left, stride, operands)
    target = target_of(constants, first, count, skip, skip_n, skip_row, skip_pad, out, n, out_row, pad, counts)
    columns = out.shape[2] - 2 * pad
    for channel_in in range(0, count, _block):  # parts begin with whole tiles
        tile = (first + channel_in) // _block
        _along(corner, weights + tile * operands[0].strides[0], sizes, base + tile * operands[1].strides[0], target,
               channel_in, columns)


@cache
def line(form: Form, signed: bool, is_whole: bool, ending: Ending | None = None) -> Any:
    """Lines of sums, or with an `ending` from codes to codes; `signed` as the input is, `is_whole` as in make_packer."""
    name = f"planes_{form}_{'signed' if signed else ''}{'' if is_whole else 'part'}"
    pack = make_packer(form.planes, signed, is_whole)
    ready = specialize(_ready, f"{name}_ready", inline, _pack=pack)
    end = f"{ending}" if ending else "sums"
    along = specialize(_along, f"{name}_{end}", inline, _tile=make_tile(form, ending), _at_once=form.at_once,
                       _at=codes_at if ending else sums_at)
    return specialize(_line_to_codes if ending else _line, f"{name}_{end}_line", inline, _ready=ready, _along=along,
                      _block=form.channels)
