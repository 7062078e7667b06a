"""`fp32`: two float32 operations per channel, each rounded on its own (contract C3).  Equal to the torch model."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba import prange

from sim.buffers import Padded
from sim.formats import IntFormat
from sim.kernels.jit import kernel
from sim.requantizers.requantizer import Affine, RequantizeError, Requantizer, check_array

LARGEST = 1e37


@dataclass(frozen=True)
class Fp32(Requantizer):
    """float32 `gain` [C], `offset` [C] and `skip_gain` [1]; ARITHMETIC.md, equation 8."""

    name: ClassVar[str] = "fp32"
    gain: np.ndarray
    offset: np.ndarray
    skip_gain: np.ndarray

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "Fp32":
        """Round each float64 number once."""
        _check_range(affine.gain, affine.offset, max(map(abs, affine.bounds)))
        return cls(affine.gain.astype(np.float32), affine.offset.astype(np.float32),
                   np.array([affine.skip_gain or 0.0], np.float32))

    @classmethod
    def build_logits(cls, affine: Affine) -> tuple["Fp32", float]:
        """Logits are real numbers, unit 1."""
        return cls.build(affine, IntFormat(32, signed=True)), 1.0

    def codes_into(self, sums: np.ndarray, skip: Padded | None, target: IntFormat, out: Padded) -> None:
        """float32(float32(float32(sum) * gain) + offset) (+ float32(skip * skip_gain)), half to even, clamped."""
        low, high = np.float32(target.min), np.float32(target.max)
        if skip is None:
            _affine_codes(sums, self.gain, self.offset, low, high, out.array, out.pad)
        else:
            _residual_codes(sums, self.gain, self.offset, skip.array, skip.pad, self.skip_gain, low, high,
                            out.array, out.pad)

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
        _check_range(self.gain, self.offset, reach)


def _check_range(gain: np.ndarray, offset: np.ndarray, reach: int) -> None:
    """No sum may leave float32: infinities would meet, and their difference is no number."""
    if (np.abs(gain.astype(np.float64)) * reach + np.abs(offset.astype(np.float64)) > LARGEST).any():
        raise RequantizeError("the folded batch norm can leave the range of float32")


@kernel
def _affine_codes(sums: np.ndarray, gain: np.ndarray, offset: np.ndarray, low: np.float32, high: np.float32,
                  out: np.ndarray, pad: int) -> None:
    images, rows, columns, _ = sums.shape
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        for j in range(columns):
            for c in range(out.shape[3]):
                product = np.float32(np.float32(sums[n, i, j, c]) * gain[c])
                steps = np.float32(product + offset[c])
                out[n, i + pad, j + pad, c] = np.int32(min(max(np.rint(steps), low), high))


@kernel
def _residual_codes(  # noqa: PLR0913 - a kernel sees arrays, not objects
        sums: np.ndarray, gain: np.ndarray, offset: np.ndarray, skip: np.ndarray, skip_pad: int, skip_gain: np.ndarray,
        low: np.float32, high: np.float32, out: np.ndarray, pad: int) -> None:
    images, rows, columns, _ = sums.shape
    for line in prange(images * rows):
        n = line // rows
        i = line % rows
        for j in range(columns):
            for c in range(out.shape[3]):
                product = np.float32(np.float32(sums[n, i, j, c]) * gain[c])
                steps = np.float32(product + offset[c])
                residual = np.float32(np.float32(skip[n, i + skip_pad, j + skip_pad, c]) * skip_gain[0])
                steps = np.float32(steps + residual)
                out[n, i + pad, j + pad, c] = np.int32(min(max(np.rint(steps), low), high))
