"""An own requantizer: fixed point with one shift for a layer, rounded once, half up.

    python -m sim.eval --model ckpt.pt --requant examples/my_requantizer.py:FixedPoint

    code = clamp((sum * multiplier + residual * skip_multiplier + offset) >> shift)
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.requantizers import Affine, Requantizer
from sim.requantizers.requantizer import RequantizeError, check_array

FRACTION_BITS = 32
MOST = 2.0**61
"""No sum of products comes near the end of 64 bits."""
LOGITS = IntFormat(28, signed=True)


@inline
def fixed_point_codes(  # noqa: PLR0913 - a kernel sees arrays, not objects
        constants: Any, sums: np.ndarray, width: int, columns: int, repeat: int, first: int, count: int,
        skip: np.ndarray, n: int, i: int, skip_pad: int, residual: Any, out: np.ndarray, pad: int) -> None:
    """One line of sums becomes codes: `line` in sim/requantizers/requantizer.py says what it is given."""
    multiplier, offset, skip_multiplier, shift, low, high = constants
    has_skip, sign = residual
    channels, span = out.shape[3], repeat * count
    codes, residues = out[n, i + pad].reshape(-1), skip[n * has_skip, (i + skip_pad) * has_skip].reshape(-1)
    for j in range(0, columns, repeat):
        start, skip_start = (pad + j) * channels + first, (skip_pad + j) * channels + first
        for c in range(span):
            x = np.int64(sums[j * width + c]) * multiplier[first + c] + offset[first + c]
            if has_skip:
                x += ((np.int64(residues[skip_start + c]) ^ np.int64(sign)) - np.int64(sign)) * skip_multiplier
            codes[start + c] = min(max(x >> shift, low), high)


@dataclass(frozen=True)
class FixedPoint(Requantizer):
    """int64 `multiplier` [C] and `offset` [C] (with the half that rounds), `skip_multiplier` [1] and `shift` [1]."""

    name: ClassVar[str] = "fixed_point"
    line = staticmethod(fixed_point_codes)
    multiplier: np.ndarray
    offset: np.ndarray
    skip_multiplier: np.ndarray
    shift: np.ndarray

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "FixedPoint":
        """The nearest integers; as many bits of fraction as 64 bits allow, FRACTION_BITS at most."""
        reach, skip_gain = max(map(abs, affine.bounds)), affine.skip_gain or 0.0
        largest = float((np.abs(affine.gain) * reach + np.abs(affine.offset)).max()) + skip_gain * affine.skip_max + 1.0
        shift = min(FRACTION_BITS, math.frexp(MOST / largest)[1] - 1, 44 - math.frexp(skip_gain)[1])
        if shift < 1 or reach * 2.0**-shift > 0.25:
            raise RequantizeError(f"a layer of up to {largest:g} codes is too large for fixed_point")
        unit = 2.0**shift
        return cls(np.rint(affine.gain * unit).astype(np.int64),
                   np.rint(affine.offset * unit).astype(np.int64) + (1 << (shift - 1)),
                   np.array([round(skip_gain * unit)], np.int64), np.array([shift], np.int64))

    @classmethod
    def build_logits(cls, affine: Affine) -> tuple["FixedPoint", float]:
        """Integer logits on one scale for all classes, inside LOGITS."""
        largest = float((np.abs(affine.gain) * max(map(abs, affine.bounds)) + np.abs(affine.offset)).max())
        unit = largest / (LOGITS.max // 2) or 1.0
        return cls.build(Affine(affine.gain / unit, affine.offset / unit, None, affine.bounds), LOGITS), unit

    def line_arguments(self, target: IntFormat, repeat: int) -> tuple[Any, ...]:
        """What the kernel calls `constants`."""
        return (np.tile(self.multiplier, repeat), np.tile(self.offset, repeat), self.skip_multiplier[0], self.shift[0],
                np.int64(target.min), np.int64(target.max))

    def logits(self, sums: np.ndarray) -> np.ndarray:
        """int sums [N, H, W, C] -> integer logits int32 of that shape."""
        return self.codes(sums, None, LOGITS)

    def check(self, channels: int, reach: int) -> None:
        """Types, shapes, and that no sum up to `reach` leaves 64 bits: a program file may say anything."""
        for name, size in (("multiplier", channels), ("offset", channels), ("skip_multiplier", 1), ("shift", 1)):
            check_array(name, getattr(self, name), "int64", (size,))
        most = np.abs(self.multiplier.astype(np.float64)).max() * reach + np.abs(self.offset.astype(np.float64)).max()
        if not 1 <= self.shift[0] <= 62 or not 0 <= self.skip_multiplier[0] < 2**45 or most > MOST * 1.25:
            raise RequantizeError("fixed_point: these numbers can leave 64 bits")

    @staticmethod
    def oracle(total: int, channel: int, skip: int | None, constants: dict[str, list[int]],
               limits: tuple[int, int] | None) -> int:
        """The rule in plain Python integers, against which the kernel is checked."""
        x = total * constants["multiplier"][channel] + (skip or 0) * constants["skip_multiplier"][0]
        low, high = limits or (LOGITS.min, LOGITS.max)
        return max(low, min(high, (x + constants["offset"][channel]) >> constants["shift"][0]))
