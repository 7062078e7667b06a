"""Convolution sums through the register tiles of vnni.py.  Import only where isa.available() has VNNI.

The tiles are module-level names, each called where it stands: numba's cache never finds a closure over compiled code again.
"""

import numpy as np
from numba import prange

from sim.kernels import vnni
from sim.kernels.jit import inline, kernel

_tile_16x1, _tile_16x1_signed = vnni.make_tile(16, 1, False), vnni.make_tile(16, 1, True)
_tile_8x2, _tile_8x2_signed = vnni.make_tile(8, 2, False), vnni.make_tile(8, 2, True)
_tile_4x4, _tile_4x4_signed = vnni.make_tile(4, 4, False), vnni.make_tile(4, 4, True)
_tile_1x1, _tile_1x1_signed = vnni.make_tile(1, 1, False), vnni.make_tile(1, 1, True)
_tile_1x2, _tile_1x2_signed = vnni.make_tile(1, 2, False), vnni.make_tile(1, 2, True)
_tile_1x4, _tile_1x4_signed = vnni.make_tile(1, 4, False), vnni.make_tile(1, 4, True)


@kernel
def conv_vnni(x: np.ndarray, offset: int, w: np.ndarray, surplus: np.ndarray, stride: int, signed: bool,
              columns: int, sums: np.ndarray) -> None:
    """Sums of all products of 8-bit codes; `w` as `vnni.pack` makes it, `sums` int32 with whole blocks of channels.

    Tiles take neighboring pixels of a row; the last one begins early enough to end with the row, so that it may do
    some pixels twice.
    """
    images, rows, _, channels = sums.shape
    groups, planes, kernel_rows, quads, blocks = w.shape[:5]
    pixel, row = stride * x.strides[2], x.strides[1]
    full = 16 // blocks
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        corner = x.ctypes.data + n * x.strides[0] + (i * stride + offset) * row + offset * x.strides[2]
        out = sums.ctypes.data + n * sums.strides[0] + i * sums.strides[1]
        for group in range(groups):
            weights = w.ctypes.data + group * w.strides[0]
            extra = surplus.ctypes.data + group * blocks * 64
            target = out + group * blocks * 64
            if columns >= full:
                for first in range(0, columns, full):
                    j = min(first, columns - full)
                    _tile(True, blocks, signed, corner + j * pixel, pixel, row, weights, planes, kernel_rows, quads,
                          extra, target + j * channels * 4, channels * 4)
            else:
                for j in range(columns):
                    _tile(False, blocks, signed, corner + j * pixel, pixel, row, weights, planes, kernel_rows, quads,
                          extra, target + j * channels * 4, channels * 4)


@inline
def _tile(  # noqa: PLR0912, PLR0913 - machine code cannot be looked up in a table
        full: bool, blocks: int, signed: bool, x: int, pixel: int, row: int, w: int, planes: int, rows: int, quads: int,
        surplus: int, out: int, out_pixel: int) -> None:
    if signed:
        if blocks == 1:
            if full:
                _tile_16x1_signed(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
            else:
                _tile_1x1_signed(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
        elif blocks == 2:
            if full:
                _tile_8x2_signed(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
            else:
                _tile_1x2_signed(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
        elif full:
            _tile_4x4_signed(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
        else:
            _tile_1x4_signed(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
    elif blocks == 1:
        if full:
            _tile_16x1(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
        else:
            _tile_1x1(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
    elif blocks == 2:
        if full:
            _tile_8x2(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
        else:
            _tile_1x2(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
    elif full:
        _tile_4x4(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
    else:
        _tile_1x4(x, pixel, row, w, planes, rows, quads, surplus, out, out_pixel)
