"""What numpy and torch spell differently, in one place: operations on int64 arrays and tensors of which both find the same.

Everything else in this package is written with operators and methods that both have.  torch is never imported: where a
tensor comes in, its own methods are called.  // is floor division in both, >> keeps the sign in both.
"""

from typing import Any

import numpy as np

Codes = Any
"""A numpy array or torch tensor, int64 unless said otherwise."""

SQRT_LIMIT = 1 << 62
"""`isqrt` takes integers below this."""


def like(x: Codes, constants: np.ndarray) -> Codes:
    """Constants as `x` wants them: the array itself, or a tensor of its values on the device of `x`, of x's type."""
    return constants if isinstance(x, np.ndarray) else x.new_tensor(np.ascontiguousarray(constants))


def take(table: np.ndarray, index: Codes) -> Codes:
    """table[index]: int64 entries for int64 indices of any shape."""
    return like(index, table)[index]


def row_max(x: Codes) -> Codes:
    """The largest of each row: [..., C] -> [..., 1]."""
    return x.max(axis=-1, keepdims=True) if isinstance(x, np.ndarray) else x.amax(dim=-1, keepdim=True)


def row_sum(x: Codes) -> Codes:
    """The sum of each row in int64: [..., C] -> [..., 1]."""
    return x.sum(axis=-1, keepdims=True) if isinstance(x, np.ndarray) else x.sum(dim=-1, keepdim=True)


def select(condition: Codes, yes: Codes, no: Codes) -> Codes:
    """`yes` where a bool array holds, else `no`; their difference must fit int64."""
    return no + (yes - no) * condition


def sign(x: Codes) -> Codes:
    """-1, 0 or 1."""
    return x.clip(-1, 1)


def truncated(above: Codes, below: Codes) -> Codes:
    """above / below rounded toward 0, as C divides; below > 0."""
    return select(above < 0, -(-above // below), above // below)


def isqrt(x: Codes) -> Codes:
    """The largest r with r^2 <= x for 0 <= x < 2^62, digit by digit: integers alone."""
    root = x * 0
    for digit in range(30, -1, -1):
        larger = root + (1 << digit)
        root = select(larger * larger <= x, larger, root)
    return root


def bit_length(x: Codes) -> Codes:
    """How many binary digits x >= 0 has, as int.bit_length counts them: 0 for 0."""
    count, rest = x * 0, x
    for step in (32, 16, 8, 4, 2, 1):
        shift = select(rest >= (1 << step), x * 0 + step, x * 0)
        count, rest = count + shift, rest >> shift
    return count + rest


def float64(x: Codes) -> Any:
    """x in float64, exactly below 2^53."""
    return x.astype(np.float64) if isinstance(x, np.ndarray) else x.double()


def float32(x: Any) -> Any:
    """x rounded to float32 once, ties to even."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) else x.float()


def int64(x: Any) -> Codes:
    """Whole floats as int64."""
    return x.astype(np.int64) if isinstance(x, np.ndarray) else x.long()


def constant64(x: Codes, constants: np.ndarray) -> Any:
    """Constants in float64 beside `x`."""
    return like(float64(x[..., :0]), constants.astype(np.float64))


def constant32(x: Codes, constants: np.ndarray) -> Any:
    """float32 constants beside `x`."""
    return like(float32(x[..., :0]), constants)


def inverse_sqrt(x: Any) -> Any:
    """1 / sqrt(x) of float64 in two correctly rounded steps; torch's own root on CPUs may be off in the last bit."""
    if isinstance(x, np.ndarray):
        return 1.0 / np.sqrt(x)
    root = x.sqrt() if x.is_cuda else x.new_tensor(np.sqrt(x.numpy()))
    return (root * 0.0 + 1.0) / root  # 1.0 / root would be root's reciprocal in an approximation of some devices
