"""Lines of convolution sums through the register tiles of vnni.py.  They compile when first called, on processors with VNNI.

A line is all outputs of one image row, for the channels of one part (layout.py).
"""

from functools import partial
from typing import Any

import numpy as np

from sim.kernels.finish import ENDINGS, codes_at, sums_at, target_of
from sim.kernels.jit import inline, specialize
from sim.kernels.lines import copy_sums
from sim.kernels.stages import watch
from sim.kernels.vnni import QUAD, make_tile

_full_16 = _full_32 = _full_64 = _sevens = _rest_16 = _rest_32 = _rest_64 = make_tile(16, 1, 1, False)
_at_once_16, _at_once_32, _at_once_64, _has_sevens = 1, 1, 1, False
_at: Any = sums_at
_unsigned: Any = _full_16
_signed: Any = _full_16
"""`specialize` puts the real tiles and functions in place of these names: machine code cannot be looked up in a table."""


def _tiles(window: Any, target: Any, columns: int, width: int) -> None:
    """Tiles take neighboring pixels; the last one begins early enough to end with the line, doing some pixels twice."""
    at_once = _at_once_16 if width == 16 else _at_once_32 if width == 32 else _at_once_64
    if _has_sevens and width == 32 and columns % 7 == 0:
        at_once = 7
    fills = columns >= at_once
    at_once = at_once if fills else 1
    for first in range(0, columns, at_once):
        j = min(first, columns - at_once)
        arguments = (window[0] + j * window[1],) + window[1:] + _at(target, 0, j, first - j)  # noqa: RUF005 - numba
        if width == 16:
            if fills:
                _full_16(arguments)
            else:
                _rest_16(arguments)
        elif width == 32:
            if at_once == 7:
                _sevens(arguments)
            elif fills:
                _full_32(arguments)
            else:
                _rest_32(arguments)
        elif fills:
            _full_64(arguments)
        else:
            _rest_64(arguments)


@inline
def _window(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int,
            operands: Any, segment: int) -> Any:
    """What tiles of a line whose first window begins at x[n, top, left] begin with; and how many rows are left out above.

    Rows of a window that see nothing but `padding` add nothing.
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
    target = target_of(constants, first, skip, skip_n, skip_row, skip_pad, out, n, out_row, pad, counts)
    _unsigned(window, target, out.shape[2] - 2 * pad, width)


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
    end = target_of(constants, first, skip, skip_n, skip_row, skip_pad, out, n, out_row, pad, counts)
    _unsigned(window, watch(limits, part, above * operands[4], flags, end), out.shape[2] - 2 * pad, width)


def _at_watched(target: Any, channel: int, pixel: int, done: int) -> Any:
    """The last arguments of a tile that is watched."""
    limits, flags, step, end = target
    return (limits, flags + pixel * step, step) + _at(end, channel, pixel, done)  # noqa: RUF005 - numba


def _sizes(lanes: int, sizes: dict[int, int], signed: bool, finish: str = "", is_watched: bool = False) -> dict[str, Any]:
    """The tiles of one register width; `sizes` are pixels per tile by channels per tile."""
    make = partial(make_tile, lanes, signed=signed, finish=finish, is_watched=is_watched)
    tiles: dict[str, Any] = {}
    for width in (16, 32, 64):
        channels = min(width, max(sizes))
        tiles[f"_full_{width}"] = make(sizes[channels], channels // lanes)
        tiles[f"_rest_{width}"] = make(1, channels // lanes)
        tiles[f"_at_once_{width}"] = sizes[channels]
    has_sevens = lanes == 16  # which leaves registers enough
    at = codes_at if finish else sums_at
    if is_watched:
        at = specialize(_at_watched, f"watched_{'codes' if finish else 'sums'}_at", inline, _at=at)
    return tiles | {"_has_sevens": has_sevens, "_at": at, "_sevens": make(7 if has_sevens else 1, 32 // lanes)}


def _specialize(name: str, lanes: int, sizes: dict[int, int], is_watched: bool = False) -> Any:
    """The line of one register width."""
    return specialize(_watched_line if is_watched else _line, name, inline, **{
        "_signed" if signed else "_unsigned": specialize(
            _tiles, f"{name}_{signed}", inline, **_sizes(lanes, sizes, signed, is_watched=is_watched))
        for signed in (False, True)})


def _specialize_to_codes(signed: bool, finish: str, is_watched: bool = False) -> Any:
    name = f"vnni_to_{'watched_' if is_watched else ''}{finish.replace(' ', '_')}_{signed}"
    tiles = specialize(_tiles, f"{name}_tiles", inline, **_sizes(16, _SIZES, signed, finish, is_watched))
    return specialize(_watched_line_to_codes if is_watched else _line_to_codes, name, inline, _unsigned=tiles)


_SIZES = {16: 16, 32: 8, 64: 4}
_NARROW_SIZES = {16: 4, 32: 2}
"""AVX-VNNI has 16 registers: 8 of sums, and the weights and codes."""
LINES = {"vnni": _specialize("vnni_line", 16, _SIZES), "avxvnni": _specialize("avxvnni_line", 8, _NARROW_SIZES)}
TO_CODES = {(signed, *key): _specialize_to_codes(signed, finish)
            for signed in (False, True) for key, finish in ENDINGS.items()}
"""Lines from codes to codes, by (whether the input is signed, whether there is a residual, what registers do with a sum that
does not fit)."""
WATCHED = {"vnni": _specialize("vnni_watched_line", 16, _SIZES, is_watched=True),
           "avxvnni": _specialize("avxvnni_watched_line", 8, _NARROW_SIZES, is_watched=True)}
"""Lines of sums of registers that are watched."""
WATCHED_TO_CODES = {(signed, has_skip): _specialize_to_codes(signed, ENDINGS[has_skip, ""], is_watched=True)
                    for signed in (False, True) for has_skip in (False, True)}
"""The same from codes to codes, by (whether the input is signed, whether there is a residual)."""
