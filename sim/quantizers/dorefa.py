"""DoReFa (Zhou et al. 2016) on arrays: ARITHMETIC.md, equations 1 to 4."""

import numpy as np

from sim.formats import IntFormat
from sim.functions import tanh
from sim.quantizers.quantizer import Arrays, Quantizer


class DoReFa(Quantizer):
    """Odd weight codes from -(2^k - 1) to 2^k - 1; at 1 bit -1 and 1, worth the mean magnitude."""

    def weight_codes(self, weight: np.ndarray, bits: int, learned: Arrays) -> tuple[np.ndarray, np.ndarray | float]:
        """float32 weights of any shape -> (int32 codes, scale)."""
        values = weight.astype(np.float64)
        if bits == 1:
            return np.where(values >= 0.0, 1, -1).astype(np.int32), mean_magnitude(values)
        steps = float(2**bits - 1)
        squashed: np.ndarray = tanh(values)
        peak = np.max(np.abs(squashed))
        ratio = squashed / peak if peak > 0.0 else squashed
        level = np.rint((ratio * 0.5 + 0.5) * steps)
        return (2.0 * level - steps).astype(np.int32), 1.0 / steps

    def weight_format(self, bits: int) -> IntFormat:
        """k bits of information, odd values: one bit more."""
        return IntFormat(bits + 1, signed=True)

    def activation_scale(self, bits: int, limit: float, learned: Arrays) -> float:
        """The largest code stands for `limit`."""
        return limit / (2**bits - 1)


def mean_magnitude(values: np.ndarray) -> float:
    """Equation 3: the mean of |w| in steps of max|w| / 2^f, f so small that the sum is exact in int64."""
    magnitudes = np.abs(values)
    peak = magnitudes.max()
    if peak == 0.0:
        return 0.0
    one = 2.0 ** min(40, 62 - magnitudes.size.bit_length())
    total = np.rint(magnitudes / peak * one).astype(np.int64).sum()
    return float(peak * (np.float64(total) / (magnitudes.size * one)))
