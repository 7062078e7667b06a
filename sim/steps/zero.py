"""Zero points in steps: how codes are read less theirs, and how a requantizer's results get that of the output.

    code = clamp(R(sum) + z, lo, hi) = clamp(R(sum), lo - z, hi - z) + z

The right side is what runs: limits are constants of a line, and z is added to codes where they are
stored, modulo their storage.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.formats import IntFormat
from sim.kernels.lines import driver, requantize
from sim.ops.op import Op, format_of, is_shared
from sim.requantizers.requantizer import Requantizer, repeat_of, residual_arguments

Place = tuple[int, np.int32, np.int32]
"""The border of a tensor, the sign bit of its codes (0: unsigned) and what is taken from them: sign bit and zero point."""


@dataclass(frozen=True, repr=False)
class Shifted(IntFormat):
    """Codes of `low` to `high`, stored as a format, less `zero`: limits of a requantizer to whose results it is added."""

    zero: int = field(default=0, kw_only=True)
    low: int = field(default=0, kw_only=True)
    high: int = field(default=0, kw_only=True)

    @property
    def min(self) -> int:
        """Smallest code less the zero point."""
        return self.low - self.zero

    @property
    def max(self) -> int:
        """Largest code less the zero point."""
        return self.high - self.zero

    @property
    def dtype(self) -> np.dtype:
        """Where the codes are stored, not what is in between."""
        return IntFormat(self.bits, self.signed, self.narrow).dtype


def limits_of(op: Op) -> tuple[int, int]:
    """The least and the largest code that an operation gives."""
    form = format_of(op)
    least, most = op.limits or (form.min, form.max)
    return least, most


def words_of(op: Op) -> tuple[np.int32, ...]:
    """The same and the zero point, as kernels take them that compute codes of up to 16 bits in words."""
    return tuple(map(np.int32, (*limits_of(op), op.zero_point)))


def shifted(op: Op) -> IntFormat:
    """The limits of an operation's requantizer: those of its format where its zero point is 0 and it has no others."""
    form = format_of(op)
    if not op.zero_point and not op.limits:
        return form
    low, high = limits_of(op)
    return Shifted(form.bits, form.signed, form.narrow, zero=op.zero_point, low=low, high=high)


def place_of(x: Padded, zero: int) -> Place:
    """How a kernel reads codes as integers less their zero point: (unsigned ^ sign) - the last."""
    return x.pad, np.int32(x.sign), np.int32(x.sign + zero)


def less(x: Padded, zero: int) -> np.ndarray:
    """Codes of any width less their zero point, int64 [N, H, W, C]."""
    codes = x.interior.astype(np.int64)
    return codes - zero if zero else codes


def ending(op: Op, requant: Requantizer) -> tuple[tuple[Any, ...], int, np.int32]:
    """What kernels/elementwise.py wants at a line's end: constants, neighboring pixels they are for, the zero point."""
    repeat = repeat_of(op.shape[1], op.shape[2])
    every = op.shape[2] if is_shared(requant) else 1
    return requant.line_arguments(shifted(op), repeat * every), repeat, np.int32(op.zero_point)


def clamp_into(op: Op, values: np.ndarray, out: Padded) -> None:
    """Integers [N, H, W, C] plus the zero point, within the limits -> codes of an operation's output."""
    out.interior[...] = np.clip(values + op.zero_point, *limits_of(op))


def requantize_into(op: Any, sums: np.ndarray, skip: Padded | None, out: Padded) -> None:
    """Sums [N, H, W, C], of codes less their zero points, and a residual's codes -> codes of an operation's output."""
    residual = residual_arguments(skip) if skip is None or skip.array.itemsize <= 2 else residual_of(less(skip, 0))
    requantize_plain(op, sums, residual, out)


def residual_of(codes: np.ndarray) -> tuple[np.ndarray, int, tuple[bool, np.int32]]:
    """Integers of 32 bits [N, H, W, C], less their zero point, as a requantizer's line wants its residual."""
    return np.ascontiguousarray(codes, np.int32), 0, (True, np.int32(0))


def requantize_plain(op: Any, sums: np.ndarray, residual: tuple[Any, ...], out: Padded) -> None:
    """The same of what a requantizer's line takes."""
    columns, channels = sums.shape[2:]
    repeat = repeat_of(columns, channels)
    every = channels if is_shared(op.requant) else 1
    driver(requantize, codes=op.requant.line)(
        np.ascontiguousarray(sums), op.requant.line_arguments(shifted(op), repeat * every), repeat, *residual, out.unsigned,
        out.pad)
    if op.zero_point:
        out.interior[...] += out.array.dtype.type(op.zero_point)
