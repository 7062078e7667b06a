"""Products of two tensors of codes: exact sums in floats that hold them, and registers that clip on the way in int64.

Loops of our own and no library's: threads of a BLAS spin beside ours, which costs a hundredfold where cores are few.
"""

import numpy as np
from numba import prange

from sim.kernels.conv import _add_products, _fold
from sim.kernels.jit import kernel


@kernel
def matmul_exact(x: np.ndarray, w: np.ndarray, sums: np.ndarray) -> None:
    """Sums int64 [matrices, rows, columns] of `x` [matrices, rows, depth] and `w` [matrices, depth, columns].

    Both are codes as float32 or float64, which must hold every partial sum exactly, in any order.
    """
    matrices, rows, columns = sums.shape
    depth = x.shape[2]
    for line in prange(matrices * rows):
        m = line // rows
        i = line % rows
        total = np.zeros(columns, x.dtype)
        for c in range(0, depth - 3, 4):  # four at a time: fewer loads and stores of the totals
            x0, x1, x2, x3 = x[m, i, c], x[m, i, c + 1], x[m, i, c + 2], x[m, i, c + 3]
            w0, w1, w2, w3 = w[m, c], w[m, c + 1], w[m, c + 2], w[m, c + 3]
            for o in range(columns):
                total[o] = total[o] + ((x0 * w0[o] + x1 * w1[o]) + (x2 * w2[o] + x3 * w3[o]))
        for c in range(depth - depth % 4, depth):
            for o in range(columns):
                total[o] = total[o] + x[m, i, c] * w[m, c, o]
        for o in range(columns):
            sums[m, i, o] = np.int64(total[o])


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
