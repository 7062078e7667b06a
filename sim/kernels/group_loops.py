"""What short registers that begin anew change in sums: only where a group of products can leave the range of its register.

Sums are exact before, as any kernel makes them.  A group that fits, whatever the codes are (contract C7, equation A7), hands
on its exact sum; of each other one the difference between what its register holds in the end and its exact sum is added.
All pixels of a line go side by side: codes are transposed for that.
"""

import numpy as np
from numba import prange

from sim.kernels.jit import inline, kernel


@kernel
def transposed(x: np.ndarray, sign: int, out: np.ndarray) -> None:
    """Bytes [N, rows, columns, C], of which `sign` is the sign bit (0: none) -> int16 [N, rows, C, columns]."""
    images, rows, columns, channels = x.shape
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        for j in range(columns):
            for c in range(channels):
                out[n, i, c, j] = (np.int16(x[n, i, j, c]) ^ sign) - sign


@kernel
def correct_groups(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, corner: tuple[int, int], w: np.ndarray, taps: np.ndarray, steps: tuple[int, int],
        firsts: np.ndarray, groups: np.ndarray, size: int, tile: int, low: int, high: int, wraps: bool, bits: int,
        sums: np.ndarray, counts: np.ndarray) -> None:
    """Exact sums [N, H, W, Cout] become those behind registers of `size` products each and one that receives all of these.

    `x` int16 [N, rows, C, columns] are transposed codes; `w` int32 [products, Cout] and `taps` int64 [products, 3] (row,
    column, channel) in the order of the products.  Of channel o the groups that may not fit begin with the products
    `groups`[`firsts`[o] : `firsts`[o + 1]].  Their registers have the range low .. high, consulted after each `tile` (0:
    once); the last register wraps to so many `bits` (0: it is wide enough).  `counts` int32 [N * H, Cout]: overflows.
    """
    images, rows, columns, channels = sums.shape
    products = len(w)
    half = (1 << (bits - 1)) if bits > 0 else 0
    mask = 2 * half - 1
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        counts[line] = np.int32(0)
        memory = np.empty((3, columns), np.int32)
        exact, change, more = memory[0], memory[1], memory[2]
        clipped = np.empty(columns, np.uint8)
        for o in range(channels):
            if firsts[o] == firsts[o + 1] and bits == 0:
                continue
            change[:] = 0
            clipped[:] = 0
            for place in range(firsts[o], firsts[o + 1]):
                last = min(groups[place] + size, products)
                _run_group(x[n], i * steps[0] + corner[0], corner[1], steps[1], w, taps, groups[place], last, o, tile, low,
                           high, wraps, exact, more, clipped)
                for j in range(columns):
                    change[j] += more[j]
            count = 0
            for j in range(columns):
                before = np.int64(sums[n, i, j, o])
                after = before + change[j]
                if bits > 0:
                    after = ((after + half) & mask) - half
                sums[n, i, j, o] = after
                count += np.int64(clipped[j] != 0 or after != before)
            counts[line, o] = count


@inline
def _run_group(  # noqa: PLR0913
        x: np.ndarray, top: int, left: int, step: int, w: np.ndarray, taps: np.ndarray, first: int, last: int, o: int,
        tile: int, low: int, high: int, wraps: bool, exact: np.ndarray, more: np.ndarray, clipped: np.ndarray) -> None:
    """`more` is by how much registers of these products differ from their exact sums in the end, for every pixel."""
    exact[:] = 0
    more[:] = 0
    waiting = 0
    for k in range(first, last):
        waiting += 1
        if w[k, o] != 0:
            _add(x[top + taps[k, 0], taps[k, 2]], left + taps[k, 1], step, w[k, o], exact)
        if not wraps and (waiting == tile or k == last - 1):
            _clip(exact, more, low, high, clipped)
            waiting = 0
    if wraps:
        for j in range(len(exact)):
            more[j] = ((exact[j] - low) & (high - low)) + low - exact[j]


@inline
def _add(codes: np.ndarray, first: int, step: int, weight: int, exact: np.ndarray) -> None:
    """A product of every pixel of the line."""
    if step == 1:
        for j in range(len(exact)):
            exact[j] = np.int32(exact[j] + weight * np.int32(codes[first + j]))
    else:
        for j in range(len(exact)):
            exact[j] = np.int32(exact[j] + weight * np.int32(codes[first + j * step]))


@inline
def _clip(exact: np.ndarray, more: np.ndarray, low: int, high: int, clipped: np.ndarray) -> None:
    """Registers hold `exact` + `more`: clip them."""
    least, most = np.int32(low), np.int32(high)
    for j in range(len(exact)):
        total = np.int32(exact[j] + more[j])
        kept = min(max(total, least), most)
        clipped[j] |= np.uint8(kept != total)
        more[j] = np.int32(kept - exact[j])
