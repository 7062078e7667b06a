"""A convolution made ready: brought to what kernels know, on the way that is the faster one."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np

from sim.accumulator import END, Accumulator
from sim.buffers import Padded
from sim.kernels.isa import PLAIN
from sim.lazy import cached_property
from sim.ops.op import Op
from sim.ops.requantize import TableOp
from sim.steps import choice
from sim.steps.choice import BYTES, PLANES
from sim.steps.conv_kernels import Kernels
from sim.steps.paths import OTHER_WAYS, PATHS, bit_path, plan_of
from sim.steps.step import Step
from sim.steps.zero import requantize_into

if TYPE_CHECKING:
    from sim.ops.conv import ConvOp


class Convolution(Step):
    """One convolution of a program on one instruction set.

    Kernels know one stride, windows that begin as far above the image as before it, and taps side by side.  What is not so
    is brought there: other paddings are copied around the codes, a dilated kernel becomes a larger one with zeros between
    its taps where no register can tell.  Two strides go through the plain loops.  The share of a zero point is taken off
    the sums.  Registers that start with a number and receive their whole sum at once, or wrap, are exact sums to which it is
    added.
    """

    _is_telling = False

    def __init__(self, op: "ConvOp", isa: str) -> None:
        self.op = op
        top, _, left, _ = op.window.paddings
        self._window = None if top == left else op.window
        plain = op if self._window is None else replace(op, padding=0, paddings=())
        register = op.accumulator.range
        self._register = register if op.start is not None and register is not None and register.bits < op.safe_bits else None
        taps = op.weights[..., 0].size
        is_whole = op.accumulator.is_whole(taps)
        self._start = op.start if self._register is None or is_whole else None
        if self._start is not None:
            plain = replace(plain, start=None, accumulator=Accumulator())
        is_blind = is_whole or op.accumulator.tile == 1
        if plain.dilation > 1 and is_blind:
            # zeros make more taps: a tile that held all of them is the whole sum
            tile = plain.accumulator.tile if plain.accumulator.tile < taps else END
            plain = replace(plain, weights=_dilated(plain.weights, plain.dilation), dilation=1,
                            accumulator=replace(plain.accumulator, tile=tile))
        is_fast = len(set(plain.window.strides)) == 1 and plain.dilation == 1
        correction = op.correction if op.operand_zero else None
        if self._start is not None and self._register is None:
            correction = -self._start if correction is None else correction - self._start
        method = choice.wanted()
        self._ways = {BYTES: Kernels(plain, PATHS[isa if is_fast else PLAIN], correction)}
        for way, other in OTHER_WAYS.get(isa, {}).items():
            if method in ("", way) and is_fast and other.layout(plain) is not None:
                self._ways = {**({} if method else self._ways), way: Kernels(plain, (other,), correction)}

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> np.ndarray | None:
        """Codes of the input, and of the residual if there is one, -> codes."""
        skip = inputs[1] if self.op.skip else None
        if self._register is None or self._start is None:
            return self._kernels.codes_into(self._framed(inputs[0]), skip, out)
        sums, overflows = self._corrected(inputs)
        requantize_into(self.op, sums, skip, out)
        return overflows

    def logits(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """Of whole sums."""
        sums, overflows = self._corrected(inputs)
        return self.op.requant.logits(sums), overflows

    def registers(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """What the registers hold after all products [N, H, W, C]; and how many of each channel overflowed, or None."""
        sums, overflows = self._kernels.registers(self._framed(inputs[0]))
        if self._start is None:
            return sums, overflows
        if self._register is None:
            return sums + self._start, None  # int64
        held, counts = limited(sums, self._start, self.op.accumulator)
        return held, counts if self._is_telling else counts[0].sum(0)

    @cached_property
    def _kernels(self) -> "Kernels":
        """Those of the faster way, which is found out when they are first asked for."""
        if len(self._ways) > 1:
            self._ways = {method: self._ways[method] for method in [choice.faster(self._ways)]}
        (kernels,) = self._ways.values()
        return kernels

    def could_replace(self, before: Op) -> bool:
        """A table, where bits are packed."""
        return isinstance(before, TableOp) and PLANES in self._ways and self._window is None

    def through(self, before: Op) -> Self | None:
        """The same convolution reading what a table reads."""
        if not isinstance(before, TableOp) or self._window is not None or self.path.split()[0] != PLANES:
            return None
        thresholds = plan_of(self._kernels.op).thresholds(before)
        if thresholds is None:
            return None
        other = copy.copy(self)
        other.__dict__.pop("_kernels")
        other._ways = {PLANES: Kernels(self._kernels.op, (bit_path(thresholds),), self._kernels.correction)}
        return other

    def telling(self, wraps: bool = False) -> Self | None:
        """The same, counting as `Kernels` that are telling do, or with `wraps` wrapping; None where these cannot."""
        other = copy.copy(self)
        if self._start is not None:
            other._is_telling = True
            return None if self._register is None or wraps else other
        kernels = self._kernels.wrapping() if wraps else self._kernels.telling()
        if kernels is None:
            return None
        other.__dict__["_kernels"] = kernels
        return other

    @property
    def path(self) -> str:  # type: ignore[override]
        """The kernel path, and how many passes lead from codes to codes."""
        return self._kernels.path + (", framed" if self._window is not None else "")

    def _corrected(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """The same less the zero point's share."""
        sums, overflows = self.registers(inputs)
        return sums - self.op.correction if self.op.operand_zero else sums, overflows

    def _framed(self, x: Padded) -> Padded:
        """The input with exactly the paddings of the window around it, if they are not what kernels know."""
        if self._window is None:
            return x
        top, bottom, left, right = self._window.paddings
        images, rows, columns, channels = x.array.shape
        rows, columns = rows - 2 * x.pad, columns - 2 * x.pad
        framed = Padded.zeros(images, (rows + top + bottom, columns + left + right, channels), x.array.dtype, 0)
        framed.array[...] = x.array[:, x.pad - top : x.pad + rows + bottom, x.pad - left : x.pad + columns + right]
        return framed


def limited(sums: np.ndarray, start: np.ndarray, accumulator: Accumulator) -> tuple[np.ndarray, np.ndarray]:
    """Registers that begin with `start` int64 [C] and then receive whole sums [N, H, W, C], and counts int64 [2, N, C].

    First are outputs that overflow, second for registers that wrap those that do at any time, for others those whose exact
    sum does not fit (equations A3 and A5).
    """
    form = accumulator.range
    assert form is not None
    exact = sums + start
    misfits = (exact < form.min) | (exact > form.max)
    leaves = misfits | (start < form.min) | (start > form.max)
    if accumulator.overflow == "wrap":
        held = ((exact - form.min) & (form.max - form.min)) + form.min
    else:
        begin = start.clip(form.min, form.max)
        held = (sums + begin).clip(form.min, form.max)
        leaves |= held != sums + begin
    kinds = (misfits, leaves) if accumulator.overflow == "wrap" else (leaves, misfits)
    return held, np.stack([kind.sum((1, 2), dtype=np.int64) for kind in kinds])


def _dilated(weights: np.ndarray, dilation: int) -> np.ndarray:
    """The same kernel with zeros between its taps."""
    rows, columns, depth, channels = weights.shape
    wide = np.zeros(((rows - 1) * dilation + 1, (columns - 1) * dilation + 1, depth, channels), weights.dtype)
    wide[::dilation, ::dilation] = weights
    return wide
