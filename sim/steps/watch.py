"""What the registers of one operation do on some images, told in full: with its codes in one pass, or apart from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.counters import Counters
from sim.kernels.stage_loops import COUNT, LOCATE
from sim.ops.conv import ConvOp
from sim.orders import DEFAULT
from sim.simplify import fitting
from sim.steps.counting import Counting, counting
from sim.steps.loops import LOOPS
from sim.steps.single import ByImage, SingleRegister, Told
from sim.steps.step import Step


class Watch:
    """Of one operation with registers, which are taken as they are: no stage is left out.

    Convolutions are told as single.py and counting.py can; all else, and places, are told by plain loops.  `step` runs the
    operation, if there is one already.
    """

    def __init__(self, op: Any, isa: str, step: Step | None = None) -> None:
        self.op = op
        self._loops = LOOPS[op.kind](op, op.accumulator)
        self._is_calm = all(fitting(op.accumulator, self._loops.extremes))
        self._single: SingleRegister | None = None
        self._apart: ByImage | None = None
        self._stages: Counting | None = None
        if self._is_calm:
            return
        is_single = not op.accumulator.before and op.accumulator.order == DEFAULT
        if op.kind == ConvOp.kind:
            if is_single:
                self._single = SingleRegister.of(op, isa, step)
            else:
                self._stages = counting(op, isa)
        if is_single and self._single is None:
            self._apart = ByImage(op, isa)

    def counters(self, inputs: Sequence[Padded]) -> Counters:
        """Of the codes that it reads."""
        if self._is_calm:
            zeros = np.zeros((len(self.op.accumulator.stages), len(inputs[0].array), self.op.shape[2]), np.int64)
            return self._counters((zeros, zeros))
        if self._single is not None:
            return self._counters(self._single.counters(inputs))
        if self._apart is not None:
            return self._counters(self._apart.counters(inputs))
        if self._stages is not None:
            return self._counters(self._stages(inputs[0]))
        _, _, details = self._loops.run(inputs, COUNT)
        return self._counters((details.persistent, details.transient))

    def run(self, step: Step, inputs: Sequence[Padded], out: Padded) -> tuple[np.ndarray | None, Counters]:
        """Codes as the `step` of the operation makes them, its overflows, and the counters: in one pass where possible."""
        if self._single is not None and self._single.has_codes:
            overflows, told = self._single.codes(inputs, out)
            return overflows, self._counters(told)
        counters = self.counters(inputs)
        return step(inputs, out), counters

    def first(self, inputs: Sequence[Padded]) -> np.ndarray:
        """int32 [stages, N, H, W, C]: the product with whose addition a register first left its range, -1 if none did."""
        shape = len(self.op.accumulator.stages), len(inputs[0].array), *self.op.shape
        if self._is_calm:
            return np.full(shape, -1, np.int32)
        _, _, details = self._loops.run(inputs, LOCATE)
        when: np.ndarray = details.when
        return when

    def _counters(self, told: Told) -> Counters:
        return Counters(self.op.accumulator.stages, *told, self.op.shape[0] * self.op.shape[1])
