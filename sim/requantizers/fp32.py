"""`fp32`: two float32 operations per channel, each rounded on its own (contract C3).  Equal to the torch model."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.requantizers.requantizer import Affine, InRegisters, RequantizeError, Requantizer, check_array

LARGEST = 1e37
LARGEST_RESIDUAL = 2**16
"""No code is beyond it."""


@dataclass(frozen=True, eq=False, repr=False)
class Fp32(Requantizer):
    """float32 `gain` [C], `offset` [C] and `skip_gain` [1]; ARITHMETIC.md, equation 8."""

    name: ClassVar[str] = "fp32"
    gain: np.ndarray
    offset: np.ndarray
    skip_gain: np.ndarray

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "Fp32":
        """Round each float64 number once."""
        _check_range(affine.gain, affine.offset, affine.skip_gain or 0.0, max(map(abs, affine.bounds)))
        return cls(affine.gain.astype(np.float32), affine.offset.astype(np.float32),
                   np.array([affine.skip_gain or 0.0], np.float32))

    @classmethod
    def build_logits(cls, affine: Affine) -> tuple["Fp32", float]:
        """Logits are real numbers, unit 1."""
        return cls.build(affine, IntFormat(32, signed=True)), 1.0

    def line_arguments(self, target: IntFormat, repeat: int) -> tuple[Any, ...]:
        """Gains and offsets for so many pixels in a row, and the limits."""
        return (np.tile(self.gain, repeat), np.tile(self.offset, repeat), self.skip_gain[0],
                np.float32(target.min), np.float32(target.max))

    def in_registers(self, target: IntFormat, reach: int, less: np.ndarray | None, zero: int) -> InRegisters | None:
        """For codes and residuals of bytes.  None if steps could pass what int32 holds."""
        most = (np.abs(self.gain.astype(np.float64)) * reach + np.abs(self.offset.astype(np.float64))).max()
        if less is not None or most + 255 * abs(float(self.skip_gain[0])) >= 2**30:
            return None
        rows = np.stack([self.gain, self.offset]).view(np.int32)
        return InRegisters("fp32", rows, np.array([self.skip_gain[0], 0.0], np.float32).view(np.int32))

    def logits(self, sums: np.ndarray) -> np.ndarray:
        """The same without rounding to codes."""
        product: np.ndarray = sums.astype(np.float32) * self.gain
        return product + self.offset

    def check(self, channels: int, reach: int) -> None:
        """Types, shapes and finite values."""
        for name, shape in (("gain", (channels,)), ("offset", (channels,)), ("skip_gain", (1,))):
            array = getattr(self, name)
            check_array(name, array, "float32", shape)
            if not (np.abs(array) <= LARGEST).all():
                raise RequantizeError(f"{name} holds values that are not finite or beyond {LARGEST:g}")
        _check_range(self.gain, self.offset, float(self.skip_gain[0]), reach)


def _check_range(gain: np.ndarray, offset: np.ndarray, skip_gain: float, reach: int) -> None:
    """No sum may leave float32: infinities would meet, and their difference is no number."""
    residual = abs(skip_gain) * LARGEST_RESIDUAL
    if (np.abs(gain.astype(np.float64)) * reach + np.abs(offset.astype(np.float64)) + residual > LARGEST).any():
        raise RequantizeError("the folded batch norm can leave the range of float32")


_MAGIC = np.float32(3 << 22)
_MAGIC_BITS = np.int32(0x4B400000)


@inline
def _nearest(steps: Any) -> Any:
    """The integer nearest to a float32 of magnitude below 2^22, ties to even: the rounding of one addition.

    In 2^23 .. 2^24 float32 has exactly the integers, so the sum's last bits are the result; cheaper than rint and a
    conversion.  Clamping first changes nothing, as the limits are integers.
    """
    return np.int32(np.float32(steps + _MAGIC).view(np.int32) - _MAGIC_BITS)


@inline
def fp32_codes(  # noqa: PLR0913 - a kernel sees arrays, not objects
        constants: Any, sums: np.ndarray, width: int, columns: int, repeat: int, first: int, count: int,
        skip: np.ndarray, n: int, i: int, skip_pad: int, residual: Any, out: np.ndarray, pad: int) -> None:
    """float32(float32(float32(sum) * gain) + offset) (+ float32(skip * skip_gain)), half to even, clamped."""
    gain, offset, skip_gain, low, high = constants
    has_skip, sign = residual
    channels, span = out.shape[3], repeat * count
    out_row, skip_row = out[n, i + pad].reshape(-1), skip[n * has_skip, (i + skip_pad) * has_skip].reshape(-1)
    gain, offset = gain[first : first + span], offset[first : first + span]
    for j in range(0, columns, repeat):
        start = (pad + j) * channels + first
        codes, line = out_row[start : start + span], sums[j * width : j * width + span]
        if has_skip:
            start = (skip_pad + j) * channels + first
            residue = skip_row[start : start + span]
            for c in range(span):
                product = np.float32(np.float32(line[c]) * gain[c])
                steps = np.float32(product + offset[c])
                more = np.float32(np.int32(np.int32(np.int32(residue[c]) ^ sign) - sign))
                steps = np.float32(steps + np.float32(more * skip_gain))
                codes[c] = _nearest(min(max(steps, low), high))
        else:
            for c in range(span):
                product = np.float32(np.float32(line[c]) * gain[c])
                steps = np.float32(product + offset[c])
                codes[c] = _nearest(min(max(steps, low), high))


Fp32.line = staticmethod(fp32_codes)
