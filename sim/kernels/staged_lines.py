"""The loop over lines of a convolution whose saturating registers are watched in stages (stages.py).

`_line` stands for a path's watched sums or codes of a line, `_settle` for what a replayed register becomes.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import prange

from sim.kernels.finish import Ending, codes_at, make_end, target_of
from sim.kernels.jit import inline, specialize
from sim.kernels.layout import LANES
from sim.kernels.lines import TOGETHER, add_counts
from sim.kernels.replay import PIXELS, replay_windows

_line = _settle = _replay = replay_windows
_end: Any = make_end(Ending())


def conv_staged(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, corner: int, stride: int, parts: np.ndarray, width: int, operands: Any, limits: np.ndarray,
        replays: Any, low: Any, high: Any, constants: Any, skip: np.ndarray, skip_pad: int, has_skip: bool, out: np.ndarray,
        pad: int, totals: np.ndarray) -> None:
    """Codes -> codes, or int32 contents of registers that clip to low .. high after every tile of products.

    `totals` int64 [channels] grow by the outputs that were clipped.
    """
    images, rows, columns = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad
    lines = images * rows
    items = (lines + TOGETHER - 1) // TOGETHER
    counts = np.empty((len(parts) * items, width), np.int32)
    for item in prange(len(parts) * items):
        part, start = item // items, item % items * TOGETHER
        first, count = parts[part, 1], parts[part, 2]
        flags = np.empty((TOGETHER * columns, width // LANES), np.uint8)
        flags[:] = np.uint8(0)
        mine = counts[item]
        mine[:] = np.int32(0)
        for line in range(start, min(start + TOGETHER, lines)):
            n, i = line // rows, line % rows
            _line(x, n, i * stride + corner, corner, stride, parts[part, 0], part, operands, limits,
                  flags[(line - start) * columns :], constants, first, count, skip, n * has_skip, (i + skip_pad) * has_skip,
                  skip_pad, out, i + pad, pad, mine)
        _replay(x, corner, stride, part, start, rows, columns, flags, replays, low, high, constants, first, count, skip,
                skip_pad, has_skip, out, pad, mine)
    add_counts(counts, parts, totals)


def _replay_flagged(  # noqa: PLR0913
        x: np.ndarray, corner: int, stride: int, part: int, start: int, rows: int, columns: int, flags: np.ndarray,
        replays: Any, low: Any, high: Any, constants: Any, first: int, count: int, skip: np.ndarray, skip_pad: int,
        has_skip: bool, out: np.ndarray, pad: int, counts: np.ndarray) -> None:
    """Once more and product by product what is flagged of the lines from `start` on: uint8 [pixels, blocks]."""
    places, addresses = np.empty(len(flags), np.int64), np.empty(len(flags) + PIXELS, np.int64)
    scratch = np.empty((2, PIXELS, LANES), np.int32)
    for block in range(flags.shape[1]):
        found = 0
        for place in range(len(flags)):
            if flags[place, block] != 0:
                line, j = start + place // columns, place % columns
                places[found] = place
                addresses[found] = (x.ctypes.data + line // rows * x.strides[0]
                                    + (line % rows * stride + corner) * x.strides[1] + (j * stride + corner) * x.strides[2])
                found += 1
        for index in range(found, found + -found % PIXELS):
            addresses[index] = addresses[found - 1]
        channel = block * LANES
        for begin in range(0, found, PIXELS):
            replay_windows(addresses[begin:], x.strides[1], replays, part, block, low, high, scratch)
            for p in range(min(PIXELS, found - begin)):
                place = places[begin + p]
                n, i = (start + place // columns) // rows, (start + place // columns) % rows
                for c in range(LANES):
                    counts[channel + c] += np.int32(scratch[1, p, c] != 0)
                _settle(scratch[0, p], place % columns, constants, first + channel, min(LANES, count - channel), skip,
                        n * has_skip, (i + skip_pad) * has_skip, skip_pad, out, n, i + pad, pad, counts[channel:])


@inline
def _settle_sums(  # noqa: PLR0913
        registers: np.ndarray, j: int, constants: Any, first: int, count: int, skip: np.ndarray, skip_n: int, skip_row: int,
        skip_pad: int, out: np.ndarray, n: int, row: int, pad: int, counts: np.ndarray) -> None:
    """int32 [16] -> the same in `out`."""
    for c in range(count):
        out[n, row, j, first + c] = registers[c]


def _settle_codes(  # noqa: PLR0913
        registers: np.ndarray, j: int, constants: Any, first: int, count: int, skip: np.ndarray, skip_n: int, skip_row: int,
        skip_pad: int, out: np.ndarray, n: int, row: int, pad: int, counts: np.ndarray) -> None:
    """int32 [16] -> codes of 16 channels in `out`."""
    target = target_of(constants, first, count, skip, skip_n, skip_row, skip_pad, out, n, row, pad, counts)
    _end((registers.ctypes.data,) + codes_at(target, 0, j, 0))  # noqa: RUF005 - numba


REPLAY_TO_SUMS = specialize(_replay_flagged, "replay_to_sums", inline, _settle=_settle_sums)


@cache
def replay_to_codes(ending: Ending) -> Any:
    """What is flagged, to the same codes."""
    settle = specialize(_settle_codes, f"settle_{ending}", inline, _end=make_end(ending))
    return specialize(_replay_flagged, f"replay_{ending}", inline, _settle=settle)
