"""What the registers of one operation do on some images, told in full: with its codes in one pass, or apart from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.counters import Counters
from sim.kernels.stage_loops import LOCATE
from sim.simplify import fitting
from sim.steps.counting import teller
from sim.steps.loops import LOOPS, Told
from sim.steps.step import Step


class Watch:
    """Of one operation with registers, which are taken as they are: no stage is left out.

    Places are told by plain loops, all else as counting.py can.  `step` runs the operation, if there is one already.
    """

    def __init__(self, op: Any, isa: str, step: Step | None = None) -> None:
        self.op, self._teller = op, teller(op, isa, step)

    @property
    def has_codes(self) -> bool:
        """Whether one pass gives codes and counters."""
        return self._teller.has_codes

    def totals(self, inputs: Sequence[Padded]) -> np.ndarray:
        """Of the codes that it reads, all images and channels: int64 [stages, persistent and transient]."""
        return self._teller.totals(inputs)

    def counters(self, inputs: Sequence[Padded]) -> Counters:
        """Of the codes that it reads."""
        return self._counters(self._teller.counters(inputs))

    def run(self, step: Step, inputs: Sequence[Padded], out: Padded) -> tuple[np.ndarray | None, Counters]:
        """Codes as the `step` of the operation makes them, its overflows, and the counters: in one pass where possible."""
        if self._teller.has_codes:
            overflows, told = self._teller.codes(inputs, out)
        else:
            told = self._teller.counters(inputs)
            overflows = step(inputs, out)
        return overflows, self._counters(told)

    def first(self, inputs: Sequence[Padded]) -> np.ndarray:
        """int32 [stages, N, H, W, C]: the product with whose addition a register first left its range, -1 if none did."""
        loops = LOOPS[self.op.kind](self.op, self.op.accumulator)
        if all(fitting(self.op.accumulator, loops.extremes)):
            return np.full((len(self.op.accumulator.stages), len(inputs[0].array), *self.op.shape), -1, np.int32)
        _, _, details = loops.run(inputs, LOCATE)
        when: np.ndarray = details.when
        return when

    def _counters(self, told: Told) -> Counters:
        return Counters(self.op.accumulator.stages, *told, self.op.shape[0] * self.op.shape[1])
