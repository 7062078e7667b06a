"""Loops over the lines of convolutions by tables (tables.py): in the place of conv_direct and conv_codes of lines.py.

As those of planes_lines.py: a thread takes some lines of an image and makes the tables of the rows of codes that they read,
each once.  Then each line goes through all its pixels, some together, and for these through all channels: their tables stay
in the innermost cache, while the indices of all channels pass.
`_tile`, `_along`, `_windows`, `_block` and `_at_once` stand for machine code and its sizes; `specialize` puts them there.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import prange

from sim.kernels.finish import Ending, codes_at, sums_at
from sim.kernels.jit import inline, specialize
from sim.kernels.lines import TOGETHER, add_counts
from sim.kernels.planes_lines import MANY_IMAGES, rows_outside
from sim.kernels.tables import SLACK, Form, make_tile
from sim.kernels.tables_of_codes import make_builder, make_pixel_sums, make_window_sums

_build, _sum_pixels = make_builder(), make_pixel_sums()
_tile = _along = _windows = _limit = _codes = _build
_at: Any = sums_at
_at_once, _block = 1, 16


@inline
def _rows(numbers: Any, source: int, row: int, target: int, sums: int, count: int) -> None:
    """Tables and sums of the pixels of `count` rows, `row` bytes apart, from the address `source` on."""
    pitch, sums_pitch, runs, run, pixels, depth, lift = numbers
    for i in range(count):
        _build((source + i * row, target + i * pitch, runs, run, lift))
        _sum_pixels((source + i * row, sums + i * sums_pitch, pixels, depth, lift))


def _tiles(corner: Any, weights: Any, sizes: Any, codes: Any, base: int, target: Any, columns: int, width: int) -> None:
    """Tiles take neighboring pixels; the last one begins early enough to end with the line, doing some pixels twice."""
    x, pixel, offsets = corner
    w, w_step = weights
    at, step = codes
    for first in range(0, columns, _at_once):
        j = min(first, columns - _at_once)
        for channel in range(0, width, _block):
            _tile((x + j * pixel, pixel, offsets, w + channel // _block * w_step) + sizes  # noqa: RUF005 - numba
                  + (at + j * step, step, base + 4 * channel) + _at(target, channel, j, first - j))


def tables_direct(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, corner: int, stride: int, parts: np.ndarray, width: int, operands: Any, is_limited: bool,
        constants: Any, skip: np.ndarray, skip_pad: int, has_skip: bool, out: np.ndarray, pad: int,
        totals: np.ndarray) -> None:
    """As conv_direct, for one part."""
    w, base, offsets, rows, steps, padding, run, pixel, chunk, pitch, pixels, build, depth, lift = operands
    own, limits, spare = constants
    images, lines, columns, channels = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    if images < MANY_IMAGES:
        chunk = min(chunk, TOGETHER)
    chunks, most = (lines + chunk - 1) // chunk, (chunk - 1) * stride + rows
    sums_pitch = 4 * pixels + SLACK
    packing = pitch, sums_pitch, build[0], build[1], pixels, depth, lift
    counts = np.empty((images * chunks, 1, width if is_limited else 0), np.int32)
    first_border, last_border = corner + padding, x.shape[1] - corner - padding
    x_at, w_at, base_at = x.ctypes.data + corner * x.strides[2], w.ctypes.data, base.ctypes.data
    offsets_at, own_at, limits_at, counts_at = offsets.ctypes.data, own.ctypes.data, limits.ctypes.data, counts.ctypes.data
    out_at = out.ctypes.data + pad * out.strides[1] + pad * channels
    skip_at = skip.ctypes.data + skip_pad * has_skip * (skip.strides[1] + channels)
    for item in prange(images * chunks):
        n, first = item // chunks, item % chunks * chunk
        last = min(first + chunk, lines)
        if is_limited:
            counts[item] = np.int32(0)
        packed = np.empty(most * pitch + 2 * SLACK, np.uint8)
        of_pixels, of_windows = np.empty(most * sums_pitch, np.uint8), np.empty(4 * pixels + SLACK, np.uint8)
        packed_at = packed.ctypes.data + SLACK - 1 & -SLACK  # no register across two cache lines
        pixels_at, windows_at = of_pixels.ctypes.data, of_windows.ctypes.data
        top = first * stride + corner
        _rows(packing, x_at + n * x.strides[0] + top * x.strides[1], x.strides[1], packed_at, pixels_at,
              (last - 1 - first) * stride + rows)
        for i in range(first, last):
            above, below = rows_outside(i * stride + corner, first_border, last_border, rows)
            row, left = (i - first) * stride, rows - above - below
            _windows((pixels_at + (row + above) * sums_pitch, sums_pitch, left, (columns - 1) * stride + 1, windows_at))
            target = (own_at, own.strides[0], limits_at, skip_at + has_skip * (n * skip.strides[0] + i * skip.strides[1]),
                      out_at + n * out.strides[0] + i * out.strides[1], channels, channels, spare,
                      counts_at + item * counts.strides[0])
            _along((packed_at + row * pitch, stride * pixel, offsets_at + 8 * above * steps),
                   (w_at + above * steps * w.strides[1], w.strides[0]), (left * steps, run), (windows_at, 4 * stride),
                   base_at + above * base.strides[0] + below * base.strides[1], target, columns, width)
        packed[0] = of_pixels[0] = of_windows[0] = 0  # they live until here
    if is_limited:
        add_counts(counts, parts, totals)


def tables_codes(  # noqa: PLR0913
        x: np.ndarray, corner: int, stride: int, parts: np.ndarray, width: int, operands: Any, spare: Any,
        totals: np.ndarray, requant: Any, repeat: int, skip: np.ndarray, skip_pad: int, residual: Any, out: np.ndarray,
        pad: int) -> None:
    """As conv_codes, for one part."""
    w, base, offsets, rows, steps, padding, run, pixel, chunk, pitch, pixels, build, depth, lift = operands
    images, lines, columns = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad
    if images < MANY_IMAGES:
        chunk = min(chunk, TOGETHER)
    chunks, most = (lines + chunk - 1) // chunk, (chunk - 1) * stride + rows
    sums_pitch = 4 * pixels + SLACK
    packing = pitch, sums_pitch, build[0], build[1], pixels, depth, lift
    counts = np.empty((images * chunks, 1, width), np.int32)
    first_border, last_border = corner + padding, x.shape[1] - corner - padding
    x_at, w_at, base_at = x.ctypes.data + corner * x.strides[2], w.ctypes.data, base.ctypes.data
    offsets_at = offsets.ctypes.data
    for item in prange(images * chunks):
        n, first = item // chunks, item % chunks * chunk
        last = min(first + chunk, lines)
        if spare > 0:
            counts[item] = np.int32(0)
        sums = np.empty((columns, width), np.int32)
        packed = np.empty(most * pitch + 2 * SLACK, np.uint8)
        of_pixels, of_windows = np.empty(most * sums_pitch, np.uint8), np.empty(4 * pixels + SLACK, np.uint8)
        packed_at = packed.ctypes.data + SLACK - 1 & -SLACK  # no register across two cache lines
        pixels_at, windows_at = of_pixels.ctypes.data, of_windows.ctypes.data
        top = first * stride + corner
        _rows(packing, x_at + n * x.strides[0] + top * x.strides[1], x.strides[1], packed_at, pixels_at,
              (last - 1 - first) * stride + rows)
        for i in range(first, last):
            above, below = rows_outside(i * stride + corner, first_border, last_border, rows)
            row, left = (i - first) * stride, rows - above - below
            _windows((pixels_at + (row + above) * sums_pitch, sums_pitch, left, (columns - 1) * stride + 1, windows_at))
            _along((packed_at + row * pitch, stride * pixel, offsets_at + 8 * above * steps),
                   (w_at + above * steps * w.strides[1], w.strides[0]), (left * steps, run), (windows_at, 4 * stride),
                   base_at + above * base.strides[0] + below * base.strides[1], (sums.ctypes.data, 4 * width), columns,
                   width)
            if spare > 0:
                _limit(sums, spare, counts[item, 0])
            _codes(requant, sums.reshape(-1), width, columns, repeat, parts[0, 1], parts[0, 2], skip, n, i, skip_pad,
                   residual, out, pad)
        packed[0] = of_pixels[0] = of_windows[0] = 0
    if spare > 0:
        add_counts(counts, parts, totals)


@cache
def loop_of(form: Form, kernel_columns: int, ending: Ending | None = None, **callees: Any) -> Any:
    """Loops of sums, which go on with the `callees` "limit" and "codes", or with an `ending` to codes in registers."""
    end = "_".join([str(ending), *(callee.__name__.strip("_") for callee in callees.values())])
    name = f"tables_{form}_{kernel_columns}_{end}"
    along = specialize(_tiles, f"{name}_tiles", inline, _tile=make_tile(form, ending), _at_once=form.pixels,
                       _block=form.channels, _at=codes_at if ending else sums_at)
    windows = make_window_sums(kernel_columns, 1 if form.digits.is_halved else form.digits.reach)
    return specialize(tables_direct if ending else tables_codes, name, _along=along, _windows=windows,
                      **{f"_{key}": callee for key, callee in callees.items()})
