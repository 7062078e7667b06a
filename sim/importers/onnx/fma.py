"""Fused multiply-add of float32 arrays in numpy: one rounding, as processors have it and numpy has not."""

from typing import Any

import numpy as np


def fma(a: Any, b: Any, c: Any) -> np.ndarray:
    """float32(a b + c), rounded once.

    The product of two float32 is exact in float64; the sum is made odd where it is not exact (Boldo and Melquiond 2008), so
    that rounding it again to float32 is rounding once.

    >>> float(fma(np.float32(3), np.float32(1 / 3), np.float32(-1)))
    2.9802322387695312e-08
    """
    product = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32).astype(np.float64)
    addend = np.broadcast_to(np.asarray(c, np.float32).astype(np.float64), np.broadcast_shapes(np.shape(product),
                                                                                               np.shape(c)))
    total = np.array(product + addend)
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    inexact = (error != 0) & ((bits & 1) == 0)
    bits += np.where(inexact, np.where((error > 0) == (total > 0), 1, -1), 0)
    rounded: np.ndarray = total.astype(np.float32)
    return rounded
