"""`thresholds`: a code is a count of levels that a sum has reached: exact for any monotone function.

    code = base + step #{k : sum >= level_k}                                                       ARITHMETIC.md, R9

FINN's and QONNX's MultiThreshold count so.  For our own networks levels are where `fp32` goes to the next code, so that the
codes are `fp32`'s, all of them (C5, without a residual).
"""

import bisect
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.requantizers.fp32 import Fp32
from sim.requantizers.requantizer import Affine, RequantizeError, Requantizer, check_array
from sim.requantizers.rule import Domain, Own, Rule, line_of, none, unit

MOST_LEVELS = 1 << 24
NEVER = 2**62
"""A level that no sum reaches, for channels with fewer."""


@dataclass(frozen=True, eq=False, repr=False)
class Thresholds(Rule):
    """int64 `levels` [C, n], sorted in each channel, `base`, `step` [C]; `skip_levels` [1, m], `skip_base`, `skip_step`."""

    name = "thresholds"
    domain: ClassVar[Domain] = {"base": (-(2**31), 2**31), "step": (-(2**31), 2**31), "levels": (-NEVER, NEVER)}
    whole: ClassVar[tuple[str, ...]] = ("base", "step", "levels")
    levels: np.ndarray
    base: np.ndarray
    step: np.ndarray
    skip_levels: np.ndarray = field(default_factory=lambda: np.zeros((1, 0), np.int64))
    skip_base: np.ndarray = field(default_factory=none)
    skip_step: np.ndarray = field(default_factory=unit)

    @classmethod
    def of(cls, levels: np.ndarray, base: int = 0, step: int = 1) -> "Thresholds":
        """Of levels [C, n] that a sum reaches: integers, or real numbers, which become the integers from there on."""
        levels = np.sort(np.clip(np.ceil(np.asarray(levels)), -NEVER, NEVER).astype(np.int64), axis=1)
        channels = len(levels)
        return cls(levels, np.full(channels, base, np.int64), np.full(channels, step, np.int64))

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "Thresholds":
        """Levels of `fp32`; with a residual, those of its own, to which the sum's may add codes below the target's."""
        skip = affine.skip_gain or 0.0
        alone = Fp32.build(replace(affine, skip_gain=None), target)
        spare = int(np.ceil(abs(skip) * affine.skip_max)) + 1 if affine.skip_gain else 0
        own = _levels(alone.gain, alone.offset, affine.bounds, target.min - spare, target.max + spare)
        if not affine.skip_gain:
            return cls(*own)
        gain = np.array([skip], np.float32)
        other = _levels(gain, np.zeros(1, np.float32), (-affine.skip_max, affine.skip_max), -spare, spare)
        return cls(*own, *other)

    @classmethod
    def build_logits(cls, affine: Affine) -> tuple[Requantizer, float]:
        """Logits are counted by nobody: those of `fp32`."""
        return Fp32.build_logits(affine)

    def line_arguments(self, target: IntFormat, repeat: int) -> tuple[Any, ...]:
        """Rows are base, step, and then the levels of all channels, one after another."""
        def rows(prefix: str, repeat: int) -> np.ndarray:
            levels, base, step = (getattr(self, prefix + name) for name in ("levels", "base", "step"))
            return np.tile(np.concatenate([base[None], step[None], levels.T]), (1, repeat))

        none = np.zeros((1, 1), np.float32)
        return rows("", repeat), none, rows("skip_", 1), none, np.int64(target.min), np.int64(target.max)

    def check(self, channels: int, reach: int) -> None:
        """Types, shapes, sorted levels."""
        for prefix, size in (("", channels), ("skip_", 1)):
            levels, base, step = (getattr(self, prefix + name) for name in ("levels", "base", "step"))
            check_array(f"{prefix}base", base, "int64", (size,))
            check_array(f"{prefix}step", step, "int64", (size,))
            check_array(f"{prefix}levels", levels, "int64", (size, levels.shape[1] if levels.ndim == 2 else 0))
            if levels.size > MOST_LEVELS:
                raise RequantizeError(f"thresholds: {levels.size} levels are too many, up to {MOST_LEVELS} are allowed")
            if (levels[:, 1:] < levels[:, :-1]).any():
                raise RequantizeError(f"thresholds: {prefix}levels must be sorted in each channel")
            for name, array in (("base", base), ("step", step), ("levels", levels)):
                least, most = self.domain[name]
                if array.size and (array.min() < least or array.max() > most):
                    raise RequantizeError(f"thresholds: {prefix}{name} must be from {least} to {most}")

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers."""
        reached: int = own("base") + own("step") * bisect.bisect_right(own("levels"), x)
        return reached


def _levels(gain: np.ndarray, offset: np.ndarray, bounds: tuple[int, int], low: int, high: int) -> tuple[np.ndarray, ...]:
    """(levels [C, high - low], base [C], step [C]) of clamp(fp32(x), low, high) for x in `bounds`.

    Each operation of fp32 keeps order, so codes do: with a gain below 0 they fall by one at each level.
    """
    if len(gain) * (high - low) > MOST_LEVELS:
        raise RequantizeError(f"thresholds: {len(gain)} channels of codes from {low} to {high} need more than {MOST_LEVELS} "
                              "levels")
    falls = gain < 0
    # x has reached level k where fp32(x) >= low + k + 1; where codes fall, where fp32(x) <= high - k - 1
    wanted = np.where(falls[:, None], -(high - 1 - np.arange(high - low)), low + 1 + np.arange(high - low))
    first = np.full(wanted.shape, bounds[0], np.int64)
    last = np.full(wanted.shape, bounds[1] + 1, np.int64)  # reached from here on, or never within the bounds
    sign = np.where(falls, np.float32(-1), np.float32(1))[:, None]
    for _ in range((bounds[1] + 1 - bounds[0]).bit_length()):
        middle = (first + last) >> 1
        steps = middle.astype(np.float32) * gain[:, None]
        has = np.rint((steps + offset[:, None]) * sign) >= wanted
        last, first = np.where(has, middle, last), np.where(has, first, middle + 1)
    levels = np.where(last > bounds[1], NEVER, last)
    return levels, np.where(falls, high, low).astype(np.int64), np.where(falls, -1, 1).astype(np.int64)


@inline
def thresholds_rule(x: Any, whole: Any, real: Any, c: Any) -> Any:
    """Equation R9, by halves."""
    first, last = np.int64(2), np.int64(len(whole))
    while first < last:
        middle = (first + last) >> 1
        if x >= whole[np.uintp(middle), c]:
            first = middle + 1
        else:
            last = middle
    return whole[0, c] + whole[1, c] * (first - 2)


Thresholds.line = line_of("thresholds", thresholds_rule)
