"""Operations whose products go through any registers in any order, by the loops of kernels/stage_loops.py.

These also tell more than runs count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.kernels import stage_loops
from sim.lazy import cached_property
from sim.ops.conv import ConvOp
from sim.ops.matmul import MatMulOp, product_bounds
from sim.orders import SORTED, permutation
from sim.simplify import Extremes
from sim.steps.matmul import MatrixProduct
from sim.steps.step import Step
from sim.steps.zero import requantize_into

Told = tuple[np.ndarray, np.ndarray]
"""Outputs that are persistent and transient, int64 [stages, images, channels] each."""
ALL = 63
"""Bits of registers that nothing passes: sums have at most 53."""


@dataclass(frozen=True)
class Details:
    """What registers did: outputs that are persistent and transient, int64 [stages, images, channels], and int32 [stages,
    N, H, W, C] the product with which each output began to be (-1: it is not), None if not asked for."""

    persistent: np.ndarray
    transient: np.ndarray
    when: np.ndarray | None


def stage_table(accumulator: Accumulator) -> np.ndarray:
    """The stages as loops take them, int64 [stages, 5]."""
    rows = []
    for stage in accumulator.stages:
        form = (stage if stage.bits is not None else replace(stage, bits=ALL)).range
        assert form is not None
        rows.append((stage.products, stage.tile, form.min, form.max, int(stage.bits is None or stage.overflow == "wrap")))
    return np.array(rows, np.int64)


class ConvLoops:
    """A convolution's products in the order of its accumulator, ready for the loops."""

    def __init__(self, op: ConvOp, accumulator: Accumulator) -> None:
        self.op, self.accumulator = op, accumulator
        rows, columns, depth, channels = op.weights.shape
        order = permutation(accumulator.order, rows, columns, depth)
        self.weights = op.weights.reshape(-1, channels)[order].astype(np.int64)
        taps = np.stack(np.unravel_index(order, (rows, columns, depth)), axis=1)
        self.taps = np.ascontiguousarray(taps * [op.dilation, op.dilation, 1], np.int64)

    @cached_property
    def extremes(self) -> Extremes:
        """Of each product."""
        ends = self.weights * self.op.operand.min, self.weights * self.op.operand.max
        return Extremes(np.minimum(*ends), np.maximum(*ends), self.op.start)

    def run(self, inputs: Sequence[Padded], detail: int = 0) -> tuple[np.ndarray, np.ndarray, Details | None]:
        """Sums int64 [N, H, W, C], how many of each channel overflowed, and more if wanted."""
        op, x = self.op, inputs[0]
        rows, columns, channels = op.shape
        images, lines = len(x.array), len(x.array) * op.shape[0]
        top, _, left, _ = op.window.paddings
        down, across, _ = op.window.steps
        stages = stage_table(self.accumulator)
        sums = np.empty((images, *op.shape), np.int64)
        counts, found, when = _rooms(len(stages), lines, channels, detail, (images, rows, columns))
        starts = np.zeros(channels, np.int64) if op.start is None else op.start
        stage_loops.conv_stages(_wide(x.array), (x.pad - top, x.pad - left), self.weights, self.taps, (down, across),
                                op.groups, self.accumulator.order == SORTED, stages, starts, detail, sums, counts, found,
                                when)
        return sums, counts.sum(0, dtype=np.int64), _details(found, when, images, detail)


class ProductLoops:
    """A product of activations, ready for the loops; its one axis of products has the same order under every tile map."""

    def __init__(self, op: MatMulOp, accumulator: Accumulator) -> None:
        self.op, self.accumulator = op, accumulator

    @cached_property
    def extremes(self) -> Extremes:
        """Of each product."""
        low, high = product_bounds(self.op.operand, self.op.other_operand, 1)
        return Extremes(np.full((self.op.depth, 1), low), np.full((self.op.depth, 1), high))

    def run(self, inputs: Sequence[Padded], detail: int = 0) -> tuple[np.ndarray, np.ndarray, Details | None]:
        """As above, [N, heads, rows, columns]."""
        op = self.op
        heads, rows, columns = op.shape
        a, b = (x.interior for x in inputs)
        b = b.swapaxes(2, 3) if op.transpose else b
        x, w = (np.ascontiguousarray(each, np.int64).reshape(len(a) * heads, *each.shape[2:]) for each in (a, b))
        stages = stage_table(self.accumulator)
        sums = np.empty((len(x), rows, columns), np.int64)
        counts, found, when = _rooms(len(stages), len(x) * rows, columns, detail, (len(x), rows))
        stage_loops.matmul_stages(x, w, self.accumulator.order == SORTED, stages, detail, sums, counts, found, when)
        when = when.reshape(len(stages), len(a), *op.shape) if detail >= stage_loops.LOCATE else when
        return sums.reshape(len(a), *op.shape), counts.sum(0, dtype=np.int64), _details(found, when, len(a), detail)


LOOPS: Any = {ConvOp.kind: ConvLoops, MatMulOp.kind: ProductLoops}
"""By the kind of what accumulates."""


class StagedConvolution(Step):
    """A convolution in the loops."""

    path = "stages"

    def __init__(self, op: ConvOp, loops: ConvLoops) -> None:
        self.op, self._loops = op, loops

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> np.ndarray | None:
        """Codes of the input, and of the residual if there is one, -> codes."""
        sums, overflows = self.registers(inputs)
        self._requantize(sums, inputs, out)
        return overflows

    def logits(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """Of whole sums."""
        sums, overflows = self.registers(inputs)
        return self.op.requant.logits(self._corrected(sums)), overflows

    def registers(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """What the last registers hold in the end [N, H, W, C]; and how many outputs of each channel overflowed."""
        sums, overflows, _ = self._loops.run(inputs)
        return sums, overflows

    def _requantize(self, sums: np.ndarray, inputs: Sequence[Padded], out: Padded) -> None:
        requantize_into(self.op, self._corrected(sums), inputs[1] if self.op.skip else None, out)

    def _corrected(self, sums: np.ndarray) -> np.ndarray:
        """Sums less the zero point's share."""
        return sums - self.op.correction if self.op.operand_zero else sums


class StagedProduct(MatrixProduct):
    """A product of activations in the loops."""

    path = "stages"

    def __init__(self, op: MatMulOp, isa: str, loops: ProductLoops) -> None:
        super().__init__(op, isa)
        self._loops = loops

    def registers(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """int64 [N, heads, rows, columns], and overflows of each column."""
        sums, overflows, _ = self._loops.run(inputs)
        return sums, overflows


def _wide(codes: np.ndarray) -> np.ndarray:
    """Codes in one of the two types that loops are compiled for."""
    return np.ascontiguousarray(codes, np.int64 if codes.dtype == np.uint32 else np.int32)


def _rooms(stages: int, lines: int, channels: int, detail: int,
           places: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Memory for what is counted; empty where no detail is wanted."""
    counts = np.empty((lines, channels), np.int32)
    found = np.zeros((2, stages, lines, channels) if detail else (2, stages, 0, 0), np.int32)
    return counts, found, np.empty((stages, *places, channels) if detail >= stage_loops.LOCATE
                                   else (stages, *(0 for _ in places), 0), np.int32)


def _details(found: np.ndarray, when: np.ndarray, images: int, detail: int) -> Details | None:
    if not detail:
        return None
    persistent, transient = found.reshape(*found.shape[:2], images, -1, found.shape[3]).sum(3, dtype=np.int64)
    return Details(persistent, transient, when if detail >= stage_loops.LOCATE else None)
