"""What a single register does, told while it computes codes, or sums: one pass gives both."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.counters import total
from sim.ops.conv import ConvOp
from sim.ops.matmul import MatMulOp
from sim.steps.conv import Convolution
from sim.steps.loops import Told
from sim.steps.matmul import MatrixProduct
from sim.steps.step import Step


class SingleRegister:
    """Of a convolution whose products come in the order that kernels take.

    A register leaves its range with the same sums whatever its rule makes of that (equation A5).  So of one that clips on
    the way kernels count the outputs that it clips, and those of them whose exact sum does not fit; of one that wraps the
    latter, and watch it as if it clipped.  One that receives its whole sum at once has nothing on the way but its start.
    """

    def __init__(self, step: Step, is_wrapping: bool = False, has_codes: bool = True) -> None:
        self._step, self._is_wrapping, self.has_codes = step, is_wrapping, has_codes

    @classmethod
    def of(cls, op: ConvOp, isa: str, step: Step | None = None) -> "SingleRegister | None":
        """None where kernels do not tell; `step` runs the same operation."""
        clips = replace(op.accumulator, overflow="saturate")
        if op.accumulator.overflow != "wrap" or clips.is_whole(op.weights[..., 0].size):
            telling = (Convolution(op, isa) if step is None else step).telling()
            is_wrapping = op.accumulator.overflow == "wrap"
            return None if telling is None else cls(telling, is_wrapping)
        clipping = Convolution(replace(op, accumulator=clips), isa)
        wrapping, telling = clipping.telling(wraps=True), clipping.telling()
        if wrapping is not None:
            return cls(wrapping, is_wrapping=True)
        return None if telling is None else cls(telling, has_codes=False)

    def counters(self, inputs: Sequence[Padded]) -> Told:
        """Of the codes that it reads."""
        _, counts = self._step.registers(inputs)
        return self._told(counts)

    def totals(self, inputs: Sequence[Padded]) -> np.ndarray:
        """Of all images and channels, int64 [1, persistent and transient]."""
        return total(self.counters(inputs))

    def codes(self, inputs: Sequence[Padded], out: Padded) -> tuple[np.ndarray, Told]:
        """Codes, where it `has_codes`: overflows of each channel as steps count them, and what is told."""
        counts = self._step(inputs, out)
        assert counts is not None
        return counts[0].sum(0), self._told(counts)

    def _told(self, counts: np.ndarray | None) -> Told:
        assert counts is not None
        first, last = counts[0], counts[-1]
        persistent, clipped = (first, last) if self._is_wrapping else (last, first)
        return persistent[None], (clipped - persistent)[None]


_FAST: Any = {ConvOp.kind: Convolution, MatMulOp.kind: MatrixProduct}


class ByImage:
    """The same of what counts for all images together: exact sums, and a register that clips, of one image after another."""

    def __init__(self, op: Any, isa: str) -> None:
        self.op = op
        self._exact = _FAST[op.kind](replace(op, accumulator=Accumulator()), isa)
        self._clipping = _FAST[op.kind](replace(op, accumulator=replace(op.accumulator, overflow="saturate")), isa)

    def counters(self, inputs: Sequence[Padded]) -> Told:
        """Of the codes that it reads."""
        images = range(len(inputs[0].array))
        found = [self._of([Padded(x.array[image : image + 1], x.pad) for x in inputs]) for image in images]
        persistent, transient = np.stack(found, axis=1)
        return persistent[None], transient[None]

    def totals(self, inputs: Sequence[Padded]) -> np.ndarray:
        """Of all images and channels, int64 [1, persistent and transient]."""
        return self._of(inputs).sum(1)[None]

    def _of(self, inputs: Sequence[Padded]) -> np.ndarray:
        """Outputs of all these images that are persistent and transient, int64 [2, channels]."""
        form = self.op.accumulator.range
        sums, _ = self._exact.registers(inputs)
        persistent = ((sums < form.min) | (sums > form.max)).sum((0, 1, 2))
        _, clipped = self._clipping.registers(inputs)
        return np.stack([persistent, 0 * persistent if clipped is None else clipped - persistent])
