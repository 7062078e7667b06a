"""Products of two tensors of codes through a register that clips on the way, in plain int64 loops."""

import numpy as np
from numba import prange

from sim.kernels.conv import _add_products, _fold
from sim.kernels.jit import kernel


@kernel
def matmul_saturating(
        x: np.ndarray, w: np.ndarray, tile: int, low: int, high: int, sums: np.ndarray, clipped: np.ndarray) -> None:
    """Registers that clip to low .. high after every `tile` products (0: once); `clipped` uint8 says which did.

    `x` int64 [matrices, rows, depth], `w` int64 [matrices, depth, columns], `sums` and `clipped` [matrices, rows, columns]:
    all columns of a row go side by side.
    """
    matrices, rows, columns = sums.shape
    depth = x.shape[2]
    for line in prange(matrices * rows):
        m = line // rows
        i = line % rows
        partial = np.zeros(columns, sums.dtype)
        sums[m, i, :] = np.int64(0)
        clipped[m, i, :] = np.uint8(0)
        waiting = 0
        for c in range(depth):
            _add_products(x[m, i, c], w[m, c], partial)
            waiting += 1
            if waiting >= tile > 0:
                _fold(partial, low, high, sums[m, i], clipped[m, i])
                waiting = 0
        _fold(partial, low, high, sums[m, i], clipped[m, i])
