"""What the registers of one operation do on some images, told in full: slower than a run, which only counts overflows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.counters import Counters
from sim.kernels.stage_loops import COUNT, LOCATE
from sim.ops.conv import ConvOp
from sim.ops.matmul import MatMulOp
from sim.orders import DEFAULT
from sim.simplify import fitting
from sim.steps.conv import Convolution
from sim.steps.counting import Counting, counting
from sim.steps.loops import LOOPS
from sim.steps.matmul import MatrixProduct

_FAST: Any = {ConvOp.kind: Convolution, MatMulOp.kind: MatrixProduct}


class Watch:
    """Of one operation with registers, which are taken as they are: no stage is left out.

    A single register, in the order that kernels take, leaves its range with the same sums whatever its rule makes of that
    (equation A5): how many outputs it does for is what the fast kernels count of one that saturates, and persistent are
    those whose exact sum does not fit.  Stages of convolutions are told as counting.py can; all else, and places, are told
    by plain loops.
    """

    def __init__(self, op: Any, isa: str) -> None:
        self.op = op
        self._loops = LOOPS[op.kind](op, op.accumulator)
        self._is_calm = all(fitting(op.accumulator, self._loops.extremes))
        self._exact: Any = None
        self._clipping: Any = None
        self._stages: Counting | None = None
        if not op.accumulator.before and op.accumulator.order == DEFAULT and not self._is_calm:
            self._exact = _FAST[op.kind](replace(op, accumulator=Accumulator()), isa)
            clipping = Accumulator(op.accumulator.bits, "saturate", op.accumulator.tile)
            self._clipping = _FAST[op.kind](replace(op, accumulator=clipping), isa)
        elif op.kind == ConvOp.kind and not self._is_calm:
            self._stages = counting(op, isa)

    def counters(self, inputs: Sequence[Padded]) -> Counters:
        """Of the codes that it reads."""
        shape, images = self.op.shape, len(inputs[0].array)
        stages = self.op.accumulator.stages
        if self._is_calm:
            zeros = np.zeros((len(stages), images, shape[2]), np.int64)
            return Counters(stages, zeros, zeros, shape[0] * shape[1])
        if self._exact is not None:
            return self._of_one_register(inputs)
        if self._stages is not None:
            persistent, transient = self._stages(inputs[0])
        else:
            _, _, details = self._loops.run(inputs, COUNT)
            persistent, transient = details.persistent, details.transient
        return Counters(stages, persistent, transient, shape[0] * shape[1])

    def first(self, inputs: Sequence[Padded]) -> np.ndarray:
        """int32 [stages, N, H, W, C]: the product with whose addition a register first left its range, -1 if none did."""
        shape = len(self.op.accumulator.stages), len(inputs[0].array), *self.op.shape
        if self._is_calm:
            return np.full(shape, -1, np.int32)
        _, _, details = self._loops.run(inputs, LOCATE)
        when: np.ndarray = details.when
        return when

    def _of_one_register(self, inputs: Sequence[Padded]) -> Counters:
        """Image by image, as steps count those of all images together."""
        shape, images, form = self.op.shape, len(inputs[0].array), self.op.accumulator.range
        assert form is not None
        persistent, clipped = (np.zeros((1, images, shape[2]), np.int64) for _ in range(2))
        for image in range(images):
            alone = [Padded(x.array[image : image + 1], x.pad) for x in inputs]
            sums, _ = self._exact.registers(alone)
            persistent[0, image] = ((sums < form.min) | (sums > form.max)).sum((0, 1, 2))
            _, counts = self._clipping.registers(alone)
            clipped[0, image] = 0 if counts is None else counts
        return Counters(self.op.accumulator.stages, persistent, clipped - persistent, shape[0] * shape[1])
