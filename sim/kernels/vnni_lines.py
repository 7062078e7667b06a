"""Lines of convolution sums through the register tiles of vnni.py.  They compile when first called, on processors with VNNI.

A line is all outputs of one image row, for the channels of one part (layout.py).
"""

from functools import cache, partial
from typing import Any

import numpy as np

from sim.kernels.finish import Ending, codes_at, sums_at, target_of
from sim.kernels.jit import inline, specialize
from sim.kernels.lines import copy_sums
from sim.kernels.stages import watch
from sim.kernels.vnni import QUAD, make_tile

_tile = make_tile(16, 1, 1, False)
_full_16 = _full_32 = _full_64 = _sevens = _rest_16 = _rest_32 = _rest_64 = _tile
_at_once, _at_once_16, _at_once_32, _at_once_64, _has_sevens = 1, 1, 1, 1, False
_at: Any = sums_at
_only: Any = _tile
_unsigned: Any = _tile
_signed: Any = _tile
"""`specialize` puts the real tiles and functions in place of these names: machine code cannot be looked up in a table."""


def _along(window: Any, target: Any, columns: int) -> None:
    """Tiles take neighboring pixels; the last one begins early enough to end with the line, doing some pixels twice."""
    for first in range(0, columns, _at_once):
        j = min(first, columns - _at_once)
        _tile((window[0] + j * window[1],) + window[1:] + _at(target, 0, j, first - j))  # noqa: RUF005 - numba


def _tiles(window: Any, target: Any, columns: int, width: int) -> None:
    """A line of tiles of one size.

    Each size has a loop of its own: in a common one LLVM prepares every size ahead of every line.
    """
    if width == 16:
        if columns >= _at_once_16:
            _full_16(window, target, columns)
        else:
            _rest_16(window, target, columns)
    elif width == 32:
        if _has_sevens and columns % 7 == 0:
            _sevens(window, target, columns)
        elif columns >= _at_once_32:
            _full_32(window, target, columns)
        else:
            _rest_32(window, target, columns)
    elif columns >= _at_once_64:
        _full_64(window, target, columns)
    else:
        _rest_64(window, target, columns)


@inline
def _window(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int,
            operands: Any, segment: int) -> Any:
    """What tiles of a line whose first window begins at x[n, top, left] begin with; and how many rows are left out above.

    Rows that see nothing but `padding` are left out, if the operands have some: there they add nothing.
    """
    w, surplus, planes, rows, segments, quads, padding, _ = operands
    row, pixel = x.strides[1], x.strides[2]
    pad = left + padding
    above = min(max(pad - top, 0), rows)
    below = min(max(top + rows + pad - x.shape[1], 0), rows - above)
    corner = x.ctypes.data + n * x.strides[0] + (top + above) * row + left * pixel + channel
    weights = w.ctypes.data + part * w.strides[0] + above * segments * quads * w.strides[3]
    extra = surplus.ctypes.data + part * surplus.strides[0]
    return (corner, stride * pixel, row, segment, weights, planes, rows - above - below, segments, quads, extra), above


def _line(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any,
          sums: np.ndarray) -> None:
    """`sums` int32 [columns, width] of a line whose first window begins at x[n, top, left]."""
    window, _ = _window(x, n, top, left, stride, channel, part, operands, x.strides[2])
    columns, width = sums.shape
    target = (sums.ctypes.data, 4 * width)
    if operands[7]:
        _signed(window, target, columns, width)
    else:
        _unsigned(window, target, columns, width)


def _line_to_codes(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any, constants: Any,
        first: int, width: int, skip: np.ndarray, skip_n: int, skip_row: int, skip_pad: int, out: np.ndarray, out_row: int,
        pad: int, counts: np.ndarray) -> None:
    """Codes of `width` channels from `first` on, of the line whose first window begins at x[n, top, left]."""
    window, _ = _window(x, n, top, left, stride, channel, part, operands, x.strides[2])
    target = target_of(constants, first, width, skip, skip_n, skip_row, skip_pad, out, n, out_row, pad, counts)
    _only(window, target, out.shape[2] - 2 * pad)


def _watched_line(  # noqa: PLR0913
        x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any, limits: np.ndarray,
        flags: np.ndarray, constants: Any, first: int, count: int, skip: np.ndarray, skip_n: int, skip_row: int,
        skip_pad: int, out: np.ndarray, out_row: int, pad: int, counts: np.ndarray) -> None:
    """Sums of `count` channels from `first` on, in `out` int32 [N, H, W, C]; `flags` as in stages.py."""
    window, above = _window(x, n, top, left, stride, channel, part, operands, QUAD * operands[5])
    columns, width = out.shape[2], limits.shape[3]
    line = out[n, out_row]
    sums = np.empty((columns, width if count < width else 0), np.int32)
    end = (line.ctypes.data + 4 * first, line.strides[0]) if count == width else (sums.ctypes.data, 4 * width)
    target = watch(limits, part, above * operands[4], flags, end)
    if operands[7]:
        _signed(window, target, columns, width)
    else:
        _unsigned(window, target, columns, width)
    if count < width:
        copy_sums(sums, line, first, count)


def _watched_line_to_codes(  # noqa: PLR0913
        x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any, limits: np.ndarray,
        flags: np.ndarray, constants: Any, first: int, width: int, skip: np.ndarray, skip_n: int, skip_row: int,
        skip_pad: int, out: np.ndarray, out_row: int, pad: int, counts: np.ndarray) -> None:
    """Codes of `width` channels from `first` on; `flags` as in stages.py."""
    window, above = _window(x, n, top, left, stride, channel, part, operands, QUAD * operands[5])
    end = target_of(constants, first, width, skip, skip_n, skip_row, skip_pad, out, n, out_row, pad, counts)
    _only(window, watch(limits, part, above * operands[4], flags, end), out.shape[2] - 2 * pad)


def _at_watched(target: Any, channel: int, pixel: int, done: int) -> Any:
    """The last arguments of a tile that is watched."""
    limits, flags, step, end = target
    return (limits, flags + pixel * step, step) + _at(end, channel, pixel, done)  # noqa: RUF005 - numba


_AT = {(is_watched, has_codes): specialize(_at_watched, f"watched_{at.__name__}", inline, _at=at) if is_watched else at
       for is_watched in (False, True) for has_codes, at in ((False, sums_at), (True, codes_at))}


@cache
def _tiles_along(name: str, lanes: int, pixels: int, channels: int, signed: bool, ending: Ending | None = None,
                 is_watched: bool = False, is_odd: bool = False) -> Any:
    """Tiles of one size along a line; the rest as in make_tile."""
    tile = make_tile(lanes, pixels, channels // lanes, signed, ending, is_watched, is_odd)
    return specialize(_along, f"{name}_{pixels}x{channels}", inline, _tile=tile,
                      _at=_AT[is_watched, ending is not None], _at_once=pixels)


def _tiles_of_sums(name: str, lanes: int, sizes: dict[int, int], signed: bool, **kind: bool) -> Any:
    """Lines of sums in tiles of any size; `sizes` are pixels per tile by channels per tile, `kind` as in make_tile."""
    along = partial(_tiles_along, name, lanes, signed=signed, **kind)
    lines: dict[str, Any] = {"_has_sevens": lanes == 16}  # which leaves registers enough
    for width in (16, 32, 64):
        channels = min(width, max(sizes))
        lines[f"_full_{width}"] = along(sizes[channels], channels)
        lines[f"_rest_{width}"] = along(1, channels)
        lines[f"_at_once_{width}"] = sizes[channels]
    sevens = along(7, 32) if lines["_has_sevens"] else lines["_rest_32"]
    return specialize(_tiles, name, inline, _sevens=sevens, **lines)


def _specialize(name: str, lanes: int, sizes: dict[int, int], is_watched: bool = False, is_odd: bool = False) -> Any:
    """The line of one register width."""
    return specialize(_watched_line if is_watched else _line, name, inline, **{
        "_signed" if signed else "_unsigned": _tiles_of_sums(
            f"{name}_{signed}", lanes, sizes, signed, is_watched=is_watched, is_odd=is_odd)
        for signed in (False, True)})


_SIZES = {16: 16, 32: 8, 64: 4}
_ODD_SIZES = {16: 8, 32: 8, 64: 4}
"""Pixels have one register more, that of their codes alone."""
_NARROW_SIZES = {16: 4, 32: 2}
"""AVX-VNNI has 16 registers: 8 of sums, and the weights and codes."""
LINES = {"vnni": _specialize("vnni_line", 16, _SIZES), "avxvnni": _specialize("avxvnni_line", 8, _NARROW_SIZES)}
ODD_LINE = _specialize("vnni_odd_line", 16, _ODD_SIZES, is_odd=True)
"""Lines of sums of odd weights."""
WATCHED = {"vnni": _specialize("vnni_watched_line", 16, _SIZES, is_watched=True),
           "avxvnni": _specialize("avxvnni_watched_line", 8, _NARROW_SIZES, is_watched=True)}
"""Lines of sums of registers that are watched."""


def line_to_codes(signed: bool, ending: Ending, columns: int, width: int, is_watched: bool = False,
                  is_odd: bool = False) -> Any:
    """Lines from codes to codes of so many columns and channels, with an `ending`; `signed` as the input is.

    They are compiled for the one tile that they use: to choose it line by line cost layers of few products more than a tenth
    of their time.
    """
    most = (_ODD_SIZES if is_odd else _SIZES)[width]
    pixels = 7 if width == 32 and columns % 7 == 0 else most if columns >= most else 1
    return _specialize_to_codes(signed, ending, pixels, width, is_watched, is_odd)


@cache
def _specialize_to_codes(signed: bool, ending: Ending, pixels: int, width: int, is_watched: bool, is_odd: bool) -> Any:
    name = f"vnni_{'odd_' if is_odd else ''}to_{'watched_' if is_watched else ''}{ending}_{signed}"
    along = _tiles_along(name, 16, pixels, width, signed, ending, is_watched, is_odd)
    template = _watched_line_to_codes if is_watched else _line_to_codes
    return specialize(template, f"{name}_line_{pixels}x{width}", inline, _only=along)
