"""Sums over windows."""

import numpy as np
from numba import prange

from sim.kernels.jit import kernel


@kernel
def window_sums(x: np.ndarray, size: int, stride: int, sums: np.ndarray) -> None:
    """Padded codes [N, H, W, C] -> int64 sums [N, H', W', C] over size x size windows."""
    images, rows, columns, channels = sums.shape
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        for j in range(columns):
            sums[n, i, j] = np.int64(0)
            for a in range(size):
                for b in range(size):
                    for c in range(channels):
                        sums[n, i, j, c] += np.int64(x[n, i * stride + a, j * stride + b, c])
