"""Any registers one after another, product by product, in plain int64 loops (contract C6, equations A1 to A6).

All channels of a pixel go side by side, BLOCK at a time.  `stages` int64 [stages, 5] are products and tile of each (0: all),
its least and largest value, and whether it wraps.  What a run needs of memory is `state` int64 [7, stages, BLOCK]: what the
registers hold, the tile that waits for them, the exact sum of what they received, whether that left their range, whether it
did so in the end (persistent) or only on the way (transient) for any register of this output, and with which product first.
"""

import numpy as np
from numba import prange

from sim.kernels.jit import inline, kernel

BLOCK = 32
COUNT, LOCATE = 1, 2
"""Details: none (0), how many outputs are persistent and transient, and with which product it began as well."""


@kernel
def conv_stages(  # noqa: PLR0913 - a kernel sees arrays, not objects
        x: np.ndarray, corner: tuple[int, int], w: np.ndarray, taps: np.ndarray, steps: tuple[int, int], groups: int,
        is_sorted: bool, stages: np.ndarray, starts: np.ndarray, detail: int, sums: np.ndarray, counts: np.ndarray,
        found: np.ndarray, when: np.ndarray) -> None:
    """Sums int64 [N, H, W, Cout] behind the last register.

    `w` int64 [products, Cout] and `taps` int64 [products, 3] (row, column, channel of the group) are in the order of the
    products; `corner` is where the first window begins, `steps` the strides.  `counts` int32 [N * H, Cout] receives how
    many outputs of a line are wrong, `found` int32 [2, stages, N * H, Cout] how many are persistent and transient, `when`
    int32 [stages, N, H, W, Cout] the products; these two may be empty where no detail is wanted.
    """
    images, rows, columns, channels = sums.shape
    products, depth = len(taps), x.shape[3] // groups
    per_group = channels // groups
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        counts[line] = np.int32(0)
        values = np.empty(products, np.int64)
        state = np.empty((7, len(stages), BLOCK), np.int64)
        ordered = np.empty((products if is_sorted else 1, BLOCK), np.int64)
        for j in range(columns):
            for group in range(groups):
                for k in range(products):
                    values[k] = x[n, i * steps[0] + corner[0] + taps[k, 0], j * steps[1] + corner[1] + taps[k, 1],
                                  group * depth + taps[k, 2]]
                for first in range(group * per_group, (group + 1) * per_group, BLOCK):
                    last = min(first + BLOCK, (group + 1) * per_group)
                    _run_block(values, w, first, is_sorted, stages, starts[first:last], state, ordered,
                               sums[n, i, j, first:last], counts[line, first:last])
                    if detail >= COUNT:
                        _tell(state, found, line, first, last)
                    if detail >= LOCATE:
                        for s in range(len(stages)):
                            for o in range(last - first):
                                when[s, n, i, j, first + o] = state[6, s, o]


@kernel
def matmul_stages(
        x: np.ndarray, w: np.ndarray, is_sorted: bool, stages: np.ndarray, detail: int, sums: np.ndarray,
        counts: np.ndarray, found: np.ndarray, when: np.ndarray) -> None:
    """Sums int64 [matrices, rows, columns] of int64 [matrices, rows, depth] and [matrices, depth, columns].

    `counts` int32 [matrices * rows, columns], `found` int32 [2, stages, matrices * rows, columns], `when` int32 [stages,
    matrices, rows, columns], as above.
    """
    matrices, rows, columns = sums.shape
    depth = x.shape[2]
    starts = np.zeros(columns, np.int64)
    for line in prange(matrices * rows):
        m = line // rows
        i = line % rows
        counts[line] = np.int32(0)
        state = np.empty((7, len(stages), BLOCK), np.int64)
        ordered = np.empty((depth if is_sorted else 1, BLOCK), np.int64)
        for first in range(0, columns, BLOCK):
            last = min(first + BLOCK, columns)
            _run_block(x[m, i], w[m], first, is_sorted, stages, starts[first:last], state, ordered,
                       sums[m, i, first:last], counts[line, first:last])
            if detail >= COUNT:
                _tell(state, found, line, first, last)
            if detail >= LOCATE:
                for s in range(len(stages)):
                    for o in range(last - first):
                        when[s, m, i, first + o] = state[6, s, o]


@inline
def _tell(state: np.ndarray, found: np.ndarray, line: int, first: int, last: int) -> None:
    """Count an output as persistent or as transient."""
    for s in range(state.shape[1]):
        for o in range(last - first):
            persistent = state[4, s, o] != 0
            found[0, s, line, first + o] += np.int32(persistent)
            found[1, s, line, first + o] += np.int32(state[5, s, o] != 0 and not persistent)


@inline
def _run_block(  # noqa: PLR0913
        values: np.ndarray, w: np.ndarray, first: int, is_sorted: bool, stages: np.ndarray, starts: np.ndarray,
        state: np.ndarray, ordered: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
    """All products of one pixel through the registers of the channels from `first` on, as many as `sums` has."""
    products, channels, count = len(values), len(sums), len(stages)
    state[:] = 0
    state[6] = -1
    total = np.zeros(channels, np.int64)
    clipped = np.zeros(channels, np.uint8)
    waiting = np.zeros(count, np.int64)
    for o in range(channels):  # loaded as an addition to 0 would be
        state[1, count - 1, o] = starts[o]
        total[o] = starts[o]
    _consult(count - 1, 0, stages, state, clipped)
    if is_sorted:
        _sort(values, w, first, ordered, channels)
    for k in range(products):
        if is_sorted:
            for o in range(channels):
                state[1, 0, o] += ordered[k, o]
                total[o] += ordered[k, o]
        elif values[k] != 0:
            for o in range(channels):
                product = values[k] * w[k, first + o]
                state[1, 0, o] += product
                total[o] += product
        for s in range(count):
            waiting[s] += 1
            is_end = k == products - 1 or (stages[s, 0] > 0 and (k + 1) % stages[s, 0] == 0)
            if is_end or waiting[s] == stages[s, 1]:
                _consult(s, k, stages, state, clipped)
                waiting[s] = 0
            if not is_end:
                break
            _hand_on(s, stages, state, channels)
    for o in range(channels):
        sums[o] = state[0, count - 1, o]
        counts[o] += np.int32(clipped[o] != 0 or sums[o] != total[o])


@inline
def _consult(s: int, k: int, stages: np.ndarray, state: np.ndarray, clipped: np.ndarray) -> None:
    """Add what waits for a stage to its registers: what does not fit wraps, or is clipped."""
    low, high, wraps = stages[s, 2], stages[s, 3], stages[s, 4] != 0
    mask = 2 * high + 1
    for o in range(len(clipped)):
        exact = state[2, s, o] + state[1, s, o]
        total = state[0, s, o] + state[1, s, o]
        state[1, s, o] = 0
        state[2, s, o] = exact
        if exact < low or exact > high:
            state[3, s, o] = 1
            if state[6, s, o] < 0:
                state[6, s, o] = k
        if wraps:
            state[0, s, o] = ((total - low) & mask) + low
        else:
            kept = min(max(total, low), high)
            clipped[o] |= np.uint8(kept != total)
            state[0, s, o] = kept


@inline
def _hand_on(s: int, stages: np.ndarray, state: np.ndarray, channels: int) -> None:
    """End of what a register receives: it is judged, and its value goes to the next stage, if there is one."""
    low, high = stages[s, 2], stages[s, 3]
    for o in range(channels):
        persists = state[2, s, o] < low or state[2, s, o] > high
        state[4, s, o] |= np.int64(persists)
        state[5, s, o] |= np.int64(state[3, s, o] != 0 and not persists)
        state[2, s, o] = 0
        state[3, s, o] = 0
        if s + 1 < len(stages):
            state[1, s + 1, o] += state[0, s, o]
            state[0, s, o] = 0


@inline
def _sort(values: np.ndarray, w: np.ndarray, first: int, ordered: np.ndarray, channels: int) -> None:
    """The largest product, the most negative one, the next largest, and so on; then what is left of one sign, then zeros."""
    products = len(values)
    column = np.empty(products, np.int64)
    for o in range(channels):
        for k in range(products):
            column[k] = values[k] * w[k, first + o]
        column.sort()
        negatives = 0
        while negatives < products and column[negatives] < 0:
            negatives += 1
        positives = 0
        while positives < products and column[products - 1 - positives] > 0:
            positives += 1
        k = 0
        for pair in range(max(negatives, positives)):
            if pair < positives:
                ordered[k, o] = column[products - 1 - pair]
                k += 1
            if pair < negatives:
                ordered[k, o] = column[pair]
                k += 1
        for rest in range(k, products):
            ordered[rest, o] = 0
