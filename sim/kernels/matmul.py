"""Products of two tensors of codes through a register that clips on the way, in plain int64 loops."""

import numpy as np
from numba import prange

from sim.kernels.conv import _replay_pixel
from sim.kernels.jit import kernel


@kernel
def matmul_saturating(
        x: np.ndarray, w: np.ndarray, tile: int, low: int, high: int, sums: np.ndarray, clipped: np.ndarray) -> None:
    """Registers that clip to low .. high after every `tile` products (0: once); `clipped` uint8 says which did.

    `x` int64 [matrices, rows, 1, depth], `w` int64 [matrices, 1, 1, depth, columns], `sums` and `clipped` [matrices, rows,
    columns]: a row of a matrix is a pixel, and the other matrix its weights.
    """
    matrices, rows, columns = sums.shape
    for line in prange(matrices * rows):
        m = line // rows
        i = line % rows
        partial = np.zeros(columns, sums.dtype)
        _replay_pixel(x[m], i, 0, 0, w[m], 0, tile, low, high, sums[m, i], clipped[m, i], partial)
