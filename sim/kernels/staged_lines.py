"""The loop over lines of a convolution whose saturating registers are watched in stages (stages.py).

`_line` stands for a path's watched sums or codes of a line, `_settle` for what a replayed register becomes, `_kind` for
which counts are of clipped outputs.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import prange

from sim.kernels.finish import Ending, codes_at, make_end, target_of
from sim.kernels.jit import inline, specialize
from sim.kernels.layout import LANES
from sim.kernels.lines import TOGETHER, add_counts, lines_counted
from sim.kernels.peek import peek
from sim.kernels.replay import PIXELS, count_flags, is_any, replay_windows

_line = _settle = _replay = _peek = _those_that_leave = replay_windows
_kind = 0
_end: Any = make_end(Ending())


def conv_staged(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, corner: int, stride: int, parts: np.ndarray, width: int, operands: Any, limits: np.ndarray,
        replays: Any, low: Any, high: Any, constants: Any, skip: np.ndarray, skip_pad: int, has_skip: bool, out: np.ndarray,
        pad: int, totals: np.ndarray) -> None:
    """Codes -> codes, or int32 contents of registers that clip to low .. high after every tile of products.

    `totals` int64 [1 or 2, 1 or images, channels] grow by the outputs that were clipped, and by those whose exact sum does
    not fit.  With replay_to_counts what goes on is what the line makes of exact sums, and counts first; second are outputs
    that would be clipped.
    """
    images, rows, columns = len(out), out.shape[1] - 2 * pad, out.shape[2] - 2 * pad
    lines = images * rows
    items = (lines + TOGETHER - 1) // TOGETHER
    each, shares = lines_counted(totals, lines, rows)
    counts = np.zeros((len(parts) * shares, len(totals), width), np.int32)
    for item in prange(len(parts) * items):
        part, start = item // items, item % items * TOGETHER
        first, count = parts[part, 1], parts[part, 2]
        flags = np.empty((TOGETHER * columns, width // LANES), np.uint8)
        flags[:] = np.uint8(0)
        mine = counts[part * shares + start // each :]
        for begin in range(start, min(start + TOGETHER, lines), each):
            counted = mine[(begin - start) // each, 0]
            for line in range(begin, min(begin + each, lines)):
                n, i = line // rows, line % rows
                _line(x, n, i * stride + corner, corner, stride, parts[part, 0], part, operands, limits,
                      flags[(line - start) * columns :], constants, first, count, skip, n * has_skip,
                      (i + skip_pad) * has_skip, skip_pad, out, i + pad, pad, counted)
        _replay(x, corner, stride, part, start, rows, columns, flags, operands, replays, low, high, constants, first, count,
                skip, skip_pad, has_skip, out, pad, mine, each)
    add_counts(counts, parts, totals)


def _replay_flagged(  # noqa: PLR0913
        x: np.ndarray, corner: int, stride: int, part: int, start: int, rows: int, columns: int, flags: np.ndarray,
        operands: Any, replays: Any, low: Any, high: Any, constants: Any, first: int, count: int, skip: np.ndarray,
        skip_pad: int, has_skip: bool, out: np.ndarray, pad: int, counts: np.ndarray, each: int) -> None:
    """Once more and product by product what is flagged of the lines from `start` on: uint8 [pixels, blocks].

    `each` of these lines share counters.
    """
    places, addresses = np.empty(len(flags), np.int64), np.empty(len(flags) + PIXELS, np.int64)
    scratch = np.empty((2, PIXELS, LANES), np.int32)
    for block in range(flags.shape[1]):
        found, channel = 0, block * LANES
        for place in range(len(flags)):
            if flags[place, block] != 0:
                line, j = start + place // columns, place % columns
                places[found] = place
                addresses[found] = (x.ctypes.data + line // rows * x.strides[0]
                                    + (line % rows * stride + corner) * x.strides[1] + (j * stride + corner) * x.strides[2])
                found += 1
        if found == 0:  # the call alone takes a while
            continue
        found = _those_that_leave(addresses, places, found, x.strides[1], operands, part, block, low, high, scratch, counts,
                                  each * columns, replays[5])
        for begin in range(0, found, PIXELS):
            replay_windows(addresses[begin:], x.strides[1], replays, part, block, low, high, scratch)
            for p in range(min(PIXELS, found - begin)):
                place = places[begin + p]
                n, i = (start + place // columns) // rows, (start + place // columns) % rows
                mine = counts[place // (each * columns), _kind, channel:]
                count_flags((scratch[1, p].ctypes.data, mine.ctypes.data))
                _settle(scratch[0, p], place % columns, constants, first + channel, min(LANES, count - channel), skip,
                        n * has_skip, (i + skip_pad) * has_skip, skip_pad, out, n, i + pad, pad, mine)


@inline
def _repeat_last(addresses: np.ndarray, count: int) -> None:
    """To whole groups of PIXELS."""
    for index in range(count, count + -count % PIXELS):
        addresses[index] = addresses[count - 1]


def _leaving(addresses: np.ndarray, places: np.ndarray, count: int, row: int, operands: Any, part: int,  # noqa: PLR0913
             block: int, low: Any, high: Any, scratch: np.ndarray, counts: np.ndarray, share: int, tile: int) -> int:
    """Keep of the first `count` windows those of which a sum leaves low .. high on the way; gives how many.

    Counts outputs whose exact sum does not fit, where they are told; `share` pixels share counters.  If nothing but counts
    is wanted, a register that is consulted after each product needs no more than that: then none is kept.
    """
    _repeat_last(addresses, count)
    kept = 0
    for begin in range(0, count, PIXELS):
        _peek(addresses[begin:], row, operands, part, block, low, high, scratch)
        for p in range(min(PIXELS, count - begin)):
            if is_any(scratch[0, p]):
                mine = counts[places[begin + p] // share, counts.shape[1] - 1, block * LANES :]
                if _kind == 1 and tile == 1:
                    count_flags((scratch[0, p].ctypes.data, mine.ctypes.data))
                    continue
                if _kind == 0 and counts.shape[1] > 1:
                    count_flags((scratch[1, p].ctypes.data, mine.ctypes.data))
                addresses[kept], places[kept] = addresses[begin + p], places[begin + p]
                kept += 1
    _repeat_last(addresses, kept)
    return kept


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


@inline
def _settle_nothing(  # noqa: PLR0913
        registers: np.ndarray, j: int, constants: Any, first: int, count: int, skip: np.ndarray, skip_n: int, skip_row: int,
        skip_pad: int, out: np.ndarray, n: int, row: int, pad: int, counts: np.ndarray) -> None:
    """What the line has made of sums stays."""


@cache
def _replaying(name: str, lanes: int, signed: bool, kind: int, settle: Any) -> Any:
    """Replays for instructions of so many lanes and codes of such a sign."""
    leaving = specialize(_leaving, f"leaving_{lanes}_{signed}_{kind}", inline, _peek=peek(lanes, signed), _kind=kind)
    return specialize(_replay_flagged, f"replay_{name}_{lanes}_{signed}", inline, _settle=settle, _those_that_leave=leaving,
                      _kind=kind)


def replay_to_counts(lanes: int, signed: bool) -> Any:
    """What is flagged, to counts alone."""
    return _replaying("to_counts", lanes, signed, 1, _settle_nothing)


def replay_to_sums(lanes: int, signed: bool) -> Any:
    """The same to what registers hold."""
    return _replaying("to_sums", lanes, signed, 0, _settle_sums)


def replay_to_codes(ending: Ending, signed: bool) -> Any:
    """The same to codes."""
    return _replaying(str(ending), LANES, signed, 0, _settling(ending))


@cache
def _settling(ending: Ending) -> Any:
    return specialize(_settle_codes, f"settle_{ending}", inline, _end=make_end(ending))
