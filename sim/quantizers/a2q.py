"""Weights that no register of a chosen width can be left by: A2Q and A2Q+, ARITHMETIC.md, equations 15 to 18.

A2Q: Colbert, Pappalardo, Petri-Koenig 2023 (arXiv 2308.13504).  A2Q+: Colbert, Pappalardo, Petri-Koenig, Umuroglu 2024
(arXiv 2401.10432).  A channel's codes are its weights divided by their L1 norm, times a learned norm that a limit holds,
rounded toward zero; so the norm of the codes is never above the limit, which follows from the register and from what it
multiplies (`norm_limit`).
"""

import math

import numpy as np

from sim.formats import IntFormat
from sim.functions import exp
from sim.quantizers.quantizer import Arrays, Parameters, Quantizer, QuantizerError, scale_of

SCALE, NORM, LIMIT = "weight_scale_log2", "weight_norm_log2", "weight_norm_limit"
"""log2 of a channel's scale and of its L1 norm, both learned; and the largest norm of its codes, which is not."""
MOST_LOG2 = 20.0
UNLIMITED = 2.0**31
"""The limit of a layer that has none."""
_LN2 = 0.6931471805599453
_MOST_FRACTION_BITS, _SUM_BITS = 40, 60


class A2q(Quantizer):
    """Weight codes whose magnitudes add up to a limit at most; activations as another quantizer's.

    `centered` is A2Q+: weights less their mean, so that codes of either sign add up to half the limit at most.
    """

    def __init__(self, activations: Quantizer, centered: bool = False) -> None:
        self.activations, self.centered = activations, centered

    def check(self, bits: int) -> None:
        """A signed code of 1 bit has no positive level; and the widths of the activations' quantizer."""
        if bits == 1:
            raise QuantizerError("quantizer a2q has no levels at 1 bit: choose 2 or more, or another quantizer")
        self.activations.check(bits)

    def weight_parameters(self, channels: int) -> Parameters:
        """Scale and norm of every channel, and the limit of the layer."""
        return {SCALE: (channels,), NORM: (channels,), LIMIT: (1,)}

    def activation_parameters(self) -> Parameters:
        """The other quantizer's."""
        return self.activations.activation_parameters()

    def at_width(self, name: str, learned: np.ndarray, trained: int, bits: int) -> np.ndarray:
        """Scales change so that the largest code stands for the same number; norms are real numbers, limits of codes."""
        if name in (NORM, LIMIT):
            return learned
        if name != SCALE:
            return self.activations.at_width(name, learned, trained, bits)
        return (learned + math.log2((2 ** (trained - 1) - 1) / (2 ** (bits - 1) - 1))).astype(np.float32)

    def weight_codes(self, weight: np.ndarray, bits: int, learned: Arrays) -> tuple[np.ndarray, np.ndarray | float]:
        """Equations 15 to 17."""
        log_scale, log_norm = (np.clip(learned[name].astype(np.float64), -MOST_LOG2, MOST_LOG2) for name in (SCALE, NORM))
        limit = min(max(float(learned[LIMIT][0]), 0.0), UNLIMITED)
        norms = np.minimum(exp((log_norm - log_scale) * _LN2), limit)
        shares = _shares(weight.reshape(len(weight), -1).astype(np.float64), self.centered and limit < UNLIMITED)
        magnitudes = np.minimum(np.floor(np.abs(shares) * norms[:, None]), float(2 ** (bits - 1) - 1))
        codes = np.copysign(magnitudes, shares).astype(np.int32).reshape(weight.shape)
        return codes, scale_of(exp(log_scale * _LN2))

    def weight_format(self, bits: int) -> IntFormat:
        """k bits, signed."""
        return IntFormat(bits, signed=True)

    def activation_scale(self, bits: int, limit: float, learned: Arrays) -> float:
        """The other quantizer's."""
        return self.activations.activation_scale(bits, limit, learned)


def _shares(rows: np.ndarray, centered: bool) -> np.ndarray:
    """Each weight's signed share of its channel's norm [channels, weights], float64, of exact integer sums.

    Centered ones are shares of twice the larger of the two sums of one sign, which the mean makes alike.
    """
    count = rows.shape[1]
    one = 2.0 ** min(_MOST_FRACTION_BITS, _SUM_BITS - count.bit_length())
    peaks = np.abs(rows).max(1, keepdims=True)
    units = np.rint(rows / np.where(peaks > 0.0, peaks, 1.0) * one).astype(np.int64)
    if centered:
        if count > 1:  # a weight alone would be nothing less its mean
            units -= np.rint(units.sum(1, keepdims=True).astype(np.float64) / count).astype(np.int64)
        whole = 2 * np.maximum(np.maximum(units, 0).sum(1, keepdims=True), np.maximum(-units, 0).sum(1, keepdims=True))
    else:
        whole = np.abs(units).sum(1, keepdims=True)
    shares: np.ndarray = units.astype(np.float64) / np.maximum(whole, 1).astype(np.float64)
    return shares


def norm_limit(bits: int, operand: IntFormat, centered: bool = False) -> int:
    """The largest L1 norm of a channel's codes whose sums, partial ones included, fit a register: equation 18.

    `bits` of the register, `operand` the format of what the weights multiply.  Without `centered` (2^(P - 1) - 1) / max|x|,
    rounded down: A2Q's bound with the exact reach of the codes in the place of 2^N.  With it, unsigned codes meet weights of
    one sign only at a time, so that each sign may have as much: A2Q+'s (2^P - 2) / (2^N - 1).  Signed codes can turn
    every product to one side, in some order of products: there centering gains nothing.

    >>> norm_limit(12, IntFormat(3, signed=False)), norm_limit(12, IntFormat(3, signed=False), centered=True)
    (292, 584)
    """
    one_side = (2 ** (bits - 1) - 1) // operand.reach
    return 2 * one_side if centered and not operand.signed else one_side
