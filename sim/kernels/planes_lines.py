"""Loops over the lines of convolutions on bit planes (planes.py): in the place of conv_direct and conv_codes of lines.py.

A thread takes some lines of an image, packs the rows of codes that they read, each once, and then goes through all channels.
Everything that lines and tiles get is a number: to take an array out of a tuple costs as much as some of these lines do.
`_pack`, `_tile`, `_along`, `_block` and `_at_once` stand for machine code and its sizes; `specialize` puts them there.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import prange

from sim.kernels.finish import Ending, codes_at, sums_at
from sim.kernels.jit import inline, specialize
from sim.kernels.lines import TOGETHER, add_counts
from sim.kernels.planes import Form, make_packer, make_tile

MANY_IMAGES = 8
"""From so many on, threads have enough to do with longer chunks of lines."""

_pack = _tile = _along = _limit = _codes = make_packer(1, False)
_at: Any = sums_at
_at_once, _block = 1, 16


def _rows(numbers: Any, source: int, row: int, target: int, plane: int, count: int) -> None:
    """Pack `count` rows, `row` bytes apart, from the address `source` on."""
    pitch, pixels, channels, flip, thresholds = numbers
    for i in range(count):
        _pack((source + i * row, target + i * pitch, plane, pixels, channels, flip, thresholds))


def _tiles(corner: Any, weights: int, sizes: Any, constants: int, target: Any, channel: int, columns: int) -> None:
    """Tiles take neighboring pixels; the last one begins early enough to end with the line, doing some pixels twice."""
    for first in range(0, columns, _at_once):
        j = min(first, columns - _at_once)
        _tile((corner[0] + j * corner[1],) + corner[1:] + (weights,) + sizes + (constants,)  # noqa: RUF005 - numba
              + _at(target, channel, j, first - j))


@inline
def rows_outside(row: int, above_border: int, below_border: int, rows: int) -> Any:
    """How many of the `rows` of a window that begins in `row` see nothing but padding, above and below; but one is left."""
    above = min(max(above_border - row, 0), rows - 1)
    return above, min(max(row + rows - below_border, 0), rows - 1 - above)


def planes_direct(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, corner: int, stride: int, parts: np.ndarray, width: int, operands: Any, is_limited: bool,
        constants: Any, skip: np.ndarray, skip_pad: int, has_skip: bool, out: np.ndarray, pad: int,
        totals: np.ndarray) -> None:
    """As conv_direct, for one part."""
    w, base, thresholds, rows, padding, steps, step, pixel, planes, chunk, pitch, pixels, channels, flip = operands
    own, limits, spare = constants
    images, lines, columns, depth = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad, out.shape[3]
    if images < MANY_IMAGES:
        chunk = min(chunk, TOGETHER)
    chunks = (lines + chunk - 1) // chunk
    plane = ((chunk - 1) * stride + rows + 1) * pitch
    packing = pitch, pixels, channels, flip, thresholds.ctypes.data
    counts = np.empty((images * chunks, 1, width if is_limited else 0), np.int32)
    first_border, last_border = corner + padding, x.shape[1] - corner - padding
    x_at, w_at, base_at = x.ctypes.data + corner * x.strides[2], w.ctypes.data, base.ctypes.data
    own_at, limits_at = own.ctypes.data, limits.ctypes.data
    counts_at = counts.ctypes.data
    out_at = out.ctypes.data + pad * out.strides[1] + pad * depth
    skip_at = skip.ctypes.data + skip_pad * has_skip * (skip.strides[1] + depth)
    for item in prange(images * chunks):
        n, first = item // chunks, item % chunks * chunk
        last = min(first + chunk, lines)
        if is_limited:
            counts[item] = np.int32(0)
        packed = np.empty(planes * plane + 8, np.uint8)
        packed_at = packed.ctypes.data
        top = first * stride + corner
        _rows(packing, x_at + n * x.strides[0] + top * x.strides[1], x.strides[1], packed_at, plane,
              (last - 1 - first) * stride + rows)
        for tile in range((depth + _block - 1) // _block):
            for i in range(first, last):
                above, below = rows_outside(i * stride + corner, first_border, last_border, rows)
                target = (own_at, own.strides[0], limits_at,
                          skip_at + has_skip * (n * skip.strides[0] + i * skip.strides[1]),
                          out_at + n * out.strides[0] + i * out.strides[1], depth, depth, spare,
                          counts_at + item * counts.strides[0])
                _along((packed_at + ((i - first) * stride + above) * pitch, stride * pixel, plane, pitch, step),
                       w_at + tile * w.strides[0] + above * w.strides[1], (rows - above - below, steps),
                       base_at + tile * base.strides[0] + above * base.strides[1] + below * base.strides[2],
                       target, tile * _block, columns)
        packed[0] = 0  # it lives until here
    if is_limited:
        add_counts(counts, parts, totals)


def planes_codes(  # noqa: PLR0913
        x: np.ndarray, corner: int, stride: int, parts: np.ndarray, width: int, operands: Any, spare: Any,
        totals: np.ndarray, requant: Any, repeat: int, skip: np.ndarray, skip_pad: int, residual: Any, out: np.ndarray,
        pad: int) -> None:
    """As conv_codes, for one part."""
    w, base, thresholds, rows, padding, steps, step, pixel, planes, chunk, pitch, pixels, channels, flip = operands
    images, lines, columns = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad
    if images < MANY_IMAGES:
        chunk = min(chunk, TOGETHER)
    chunks = (lines + chunk - 1) // chunk
    plane = ((chunk - 1) * stride + rows + 1) * pitch
    packing = pitch, pixels, channels, flip, thresholds.ctypes.data
    counts = np.empty((images * chunks, 1, width), np.int32)
    first_border, last_border = corner + padding, x.shape[1] - corner - padding
    x_at, w_at, base_at = x.ctypes.data + corner * x.strides[2], w.ctypes.data, base.ctypes.data
    for item in prange(images * chunks):
        n, first = item // chunks, item % chunks * chunk
        last = min(first + chunk, lines)
        if spare > 0:
            counts[item] = np.int32(0)
        sums = np.empty((columns, width), np.int32)
        packed = np.empty(planes * plane + 8, np.uint8)
        packed_at = packed.ctypes.data
        top = first * stride + corner
        _rows(packing, x_at + n * x.strides[0] + top * x.strides[1], x.strides[1], packed_at, plane,
              (last - 1 - first) * stride + rows)
        for i in range(first, last):
            above, below = rows_outside(i * stride + corner, first_border, last_border, rows)
            for tile in range(width // _block):
                _along((packed_at + ((i - first) * stride + above) * pitch, stride * pixel, plane, pitch, step),
                       w_at + tile * w.strides[0] + above * w.strides[1], (rows - above - below, steps),
                       base_at + tile * base.strides[0] + above * base.strides[1] + below * base.strides[2],
                       (sums.ctypes.data, 4 * width), tile * _block, columns)
            if spare > 0:
                _limit(sums, spare, counts[item, 0])
            _codes(requant, sums.reshape(-1), width, columns, repeat, parts[0, 1], parts[0, 2], skip, n, i, skip_pad,
                   residual, out, pad)
        packed[0] = 0
    if spare > 0:
        add_counts(counts, parts, totals)


@cache
def loop_of(form: Form, through_table: bool, ending: Ending | None = None, **callees: Any) -> Any:
    """Loops of sums, which go on with the `callees` "limit" and "codes", or with an `ending` to codes in registers.

    `through_table` as in make_packer.
    """
    end = "_".join([str(ending), *(callee.__name__.strip("_") for callee in callees.values())])
    name = f"planes_{'table_' if through_table else ''}{form}_{end}"
    along = specialize(_tiles, f"{name}_tiles", inline, _tile=make_tile(form, ending), _at_once=form.at_once,
                       _at=codes_at if ending else sums_at)
    rows = specialize(_rows, f"planes_{form.planes}{'_table' if through_table else ''}_rows", inline,
                      _pack=make_packer(form.planes, through_table))
    return specialize(planes_direct if ending else planes_codes, name, _along=along, _rows=rows, _block=form.channels,
                      **{f"_{key}": callee for key, callee in callees.items()})
