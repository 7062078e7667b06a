"""How wide a register has to be so that it never overflows: four bounds, the last of them exact, in whole numbers.

All are widths P of a two's complement register, which holds -2^(P-1) .. 2^(P-1) - 1, for K products of N-bit activations x
and M-bit weights w.  With s = 1 for signed activations and 0 for unsigned ones, |x| <= 2^(N-s):

    data type       K 2^(N-s) 2^(M-1)           <= 2^(P-1) - 1    A2Q, arXiv 2308.13504
    L1              ||w||_1 2^(N-s)             <= 2^(P-1) - 1    A2Q
    zero-centered   ||w - mean(w)||_1 (2^N - 1) <= 2^P - 2        A2Q+, arXiv 2401.10432
    exact           sums of min(0, w x) and of max(0, w x), over the extremes of x, fit P bits    contract C7

The papers give the first two as logarithms; here nothing is rounded.  The zero-centered bound is that of the weights once
their mean is taken off: of these very weights only where it is 0 already.  The exact bound holds in every order of the
products, and some input reaches it.  The first three leave a bias in the register out, as the papers do.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.accumulator import bits_for, prefix_bounds
from sim.formats import IntFormat
from sim.ops.matmul import MatMulOp, product_bounds


@dataclass(frozen=True)
class Bounds:
    """Widths in bits of every channel of a layer, int64 [channels]; `None` where a layer has no weights to look at.

    `is_centered` bool [channels]: the weights of a channel sum to 0, so that `zero_centered` holds for them as they are.
    `low`, `high` int64 [channels]: the least and the largest sum that any input reaches, on the way or at the end.
    """

    data_type: np.ndarray
    l1: np.ndarray | None
    zero_centered: np.ndarray | None
    exact: np.ndarray
    is_centered: np.ndarray | None
    low: np.ndarray
    high: np.ndarray


def bounds_of(op: Any) -> Bounds:
    """Of an operation whose products go through registers."""
    return _of_product(op) if isinstance(op, MatMulOp) else _of_weights(op)


def _of_weights(op: Any) -> Bounds:
    weights = op.weights.astype(np.int64).reshape(-1, op.weights.shape[3])
    low, high = prefix_bounds(op.weights, op.operand)
    if op.start is not None:
        low, high = low + op.start, high + op.start
    taps, norms, totals = len(weights), np.abs(weights).sum(0), weights.sum(0)
    data_type = data_type_bits(taps, op.operand, op.weight_format.bits)
    spread = [int(np.abs(taps * weights[:, channel] - totals[channel]).sum()) for channel in range(weights.shape[1])]
    return Bounds(
        np.full(weights.shape[1], data_type), np.array([l1_bits(int(norm), op.operand) for norm in norms]),
        np.array([zero_centered_bits(part, taps, op.operand) for part in spread]), _exact(low, high), totals == 0, low, high)


def _of_product(op: MatMulOp) -> Bounds:
    """Both factors are activations: there is nothing but their types."""
    low, high = (np.full(op.shape[2], bound, np.int64) for bound in product_bounds(op.operand, op.other_operand, op.depth))
    most = op.depth * _reach(op.operand) * _reach(op.other_operand)
    return Bounds(np.full(op.shape[2], _bits(most)), None, None, _exact(low, high), None, low, high)


def data_type_bits(products: int, operand: IntFormat, weight_bits: int) -> int:
    """Of so many products of an activation of a type with signed weights of so many bits, whatever both are.

    >>> data_type_bits(576, IntFormat(4, signed=False), 4)
    18
    """
    return _bits(products * _reach(operand) << weight_bits - 1)


def l1_bits(norm: int, operand: IntFormat) -> int:
    """Of weights of that L1 norm, whatever the activations are.

    >>> l1_bits(1000, IntFormat(4, signed=False))
    15
    """
    return _bits(norm * _reach(operand))


def zero_centered_bits(spread: int, products: int, operand: IntFormat) -> int:
    """Of weights w of which `spread` = sum |K w - sum(w)|, K their number: K times the L1 norm of w less its mean.

    >>> zero_centered_bits(576 * 1000, 576, IntFormat(4, signed=False))  # one bit less than the L1 bound
    14
    """
    needed = -(-spread * ((1 << operand.bits) - 1) // products)  # no width lies between a number and the next whole one
    return max(2, (needed + 1).bit_length())


def _reach(form: IntFormat) -> int:
    """2^(N-s), which no activation passes."""
    return 1 << form.bits - form.signed


def _bits(magnitude: int) -> int:
    """The narrowest register that holds a number of that magnitude of either sign, by the papers' convention.

    >>> _bits(127), _bits(128)
    (8, 9)
    """
    return max(2, magnitude.bit_length() + 1)


def _exact(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array([max(2, bits_for(int(least), int(most))) for least, most in zip(low, high, strict=True)])
