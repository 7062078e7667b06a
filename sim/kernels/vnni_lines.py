"""Lines of convolution sums through the register tiles of vnni.py.  They compile when first called, on processors with VNNI.

A line is all outputs of one image row, for the channels of one part (layout.py).
"""

from typing import Any

import numpy as np

from sim.kernels.jit import inline, specialize
from sim.kernels.vnni import make_tile

_full_16 = _full_32 = _full_64 = _sevens = _rest_16 = _rest_32 = _rest_64 = make_tile(16, 1, 1, False)
_at_once_16, _at_once_32, _at_once_64, _has_sevens = 1, 1, 1, False
_unsigned: Any = _full_16
_signed: Any = _full_16
"""`specialize` puts the real tiles and functions in place of these names: machine code cannot be looked up in a table."""


def _tiles(x: int, pixel: int, row: int, segment: int, w: int, shape: Any, extra: int, sums: np.ndarray) -> None:
    """Tiles take neighboring pixels; the last one begins early enough to end with the line, doing some pixels twice."""
    planes, rows, segments, quads = shape
    columns, width = sums.shape
    out, step = sums.ctypes.data, 4 * width
    at_once = _at_once_16 if width == 16 else _at_once_32 if width == 32 else _at_once_64
    if _has_sevens and width == 32 and columns % 7 == 0:
        at_once = 7
    fills = columns >= at_once
    at_once = at_once if fills else 1
    for first in range(0, columns, at_once):
        j = min(first, columns - at_once)
        arguments = (x + j * pixel, pixel, row, segment, w, planes, rows, segments, quads, extra, out + j * step, step)
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


def _line(x: np.ndarray, n: int, top: int, left: int, stride: int, channel: int, part: int, operands: Any,
          sums: np.ndarray) -> None:
    """`sums` int32 [columns, width] of a line whose first window begins at x[n, top, left]."""
    w, surplus, planes, rows, segments, quads, signed = operands
    shape = (planes, rows, segments, quads)
    row, pixel = x.strides[1], x.strides[2]
    corner = x.ctypes.data + n * x.strides[0] + top * row + left * pixel + channel
    weights = w.ctypes.data + part * w.strides[0]
    extra = surplus.ctypes.data + part * surplus.strides[0]
    if signed:
        _signed(corner, stride * pixel, row, pixel, weights, shape, extra, sums)
    else:
        _unsigned(corner, stride * pixel, row, pixel, weights, shape, extra, sums)


def _specialize(name: str, lanes: int, sizes: dict[int, int]) -> Any:
    """The line of one register width; `sizes` are pixels per tile by channels per tile."""
    variants = {}
    for signed in (False, True):
        tiles: dict[str, Any] = {}
        for width in (16, 32, 64):
            channels = min(width, max(sizes))
            tiles[f"_full_{width}"] = make_tile(lanes, sizes[channels], channels // lanes, signed)
            tiles[f"_rest_{width}"] = make_tile(lanes, 1, channels // lanes, signed)
            tiles[f"_at_once_{width}"] = sizes[channels]
        has_sevens = lanes == 16  # which leaves registers enough
        tiles |= {"_has_sevens": has_sevens, "_sevens": make_tile(lanes, 7 if has_sevens else 1, 32 // lanes, signed)}
        variants["_signed" if signed else "_unsigned"] = specialize(_tiles, f"{name}_{signed}", inline, **tiles)
    return specialize(_line, name, inline, **variants)


# AVX-VNNI has 16 registers: 8 of sums, and the weights and codes
LINES = {"vnni": _specialize("vnni_line", 16, {16: 16, 32: 8, 64: 4}),
         "avxvnni": _specialize("avxvnni_line", 8, {16: 4, 32: 2})}
