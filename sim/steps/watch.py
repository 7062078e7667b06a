"""What the registers of one operation do on some images, told in full: slower than a run, which only counts overflows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.counters import Counters
from sim.kernels.stage_loops import COUNT, LOCATE
from sim.simplify import fitting
from sim.steps.staged import LOOPS


class Watch:
    """Of one operation with registers, which are taken as they are: no stage is left out."""

    def __init__(self, op: Any) -> None:
        self.op = op
        self._loops = LOOPS[op.kind](op, op.accumulator)
        self._is_calm = all(fitting(op.accumulator, self._loops.extremes))

    def counters(self, inputs: Sequence[Padded]) -> Counters:
        """Of the codes that it reads."""
        shape, images = self.op.shape, len(inputs[0].array)
        stages = self.op.accumulator.stages
        if self._is_calm:
            zeros = np.zeros((len(stages), images, shape[2]), np.int64)
            return Counters(stages, zeros, zeros, shape[0] * shape[1])
        _, _, details = self._loops.run(inputs, COUNT)
        return Counters(stages, details.persistent, details.transient, shape[0] * shape[1])

    def first(self, inputs: Sequence[Padded]) -> np.ndarray:
        """int32 [stages, N, H, W, C]: the product with whose addition a register first left its range, -1 if none did."""
        shape = len(self.op.accumulator.stages), len(inputs[0].array), *self.op.shape
        if self._is_calm:
            return np.full(shape, -1, np.int32)
        _, _, details = self._loops.run(inputs, LOCATE)
        when: np.ndarray = details.when
        return when
