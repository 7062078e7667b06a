"""Convolutions of one or two registers of any rule and order: many channels at once, product by product, whatever codes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.accumulator import END, Stage
from sim.buffers import Padded
from sim.kernels.ir import aligned
from sim.kernels.isa import PLAIN
from sim.kernels.layout import LANES
from sim.kernels.stage_counts import COUNTS, told
from sim.kernels.stage_tiles import NONE, SATURATE, WRAP, events_of, tiled
from sim.ops.conv import ConvOp
from sim.orders import SORTED
from sim.steps.loops import ConvLoops, StagedConvolution, Told

BITS = 32
"""Of a lane."""


def is_possible(loops: ConvLoops, isa: str) -> bool:
    """Whether 32-bit lanes hold everything, and the order of products is one for all pixels."""
    op, accumulator = loops.op, loops.accumulator
    if isa == PLAIN or len(accumulator.before) > 1 or accumulator.order == SORTED:
        return False
    if op.groups > 1 or 2 * max(map(abs, op.bounds)) >= 2**31:
        return False
    first = accumulator.stages[0]
    # what a register that wraps hands on is bounded by its own range only, not by those of products
    handed = len(loops.extremes.begins(first)) * 2 ** ((first.bits or 1) - 1)
    return _rule(first) != WRAP or handed < 2**30


def _rule(stage: Stage) -> str:
    """Sums that fit 32-bit lanes fit all that is as wide."""
    return NONE if stage.bits is None or stage.bits >= BITS else WRAP if stage.overflow == "wrap" else SATURATE


def _limits(stage: Stage) -> tuple[int, int]:
    form = stage.range
    return (0, 0) if form is None or form.bits >= BITS else (form.min, form.max)


class Tiles:
    """What tiles of one or two registers want to know."""

    def __init__(self, loops: ConvLoops) -> None:
        self.op, self._taps = loops.op, loops.taps
        self.first, *others = loops.accumulator.stages
        self.last = others[0] if others else Stage(END)
        products, channels = loops.weights.shape
        size = products if self.first.products == END else min(self.first.products, products)
        self._events = events_of(products, size, self.first.tile, self.last.tile)
        self.rules = _rule(self.first), _rule(self.last)
        self._limits = *_limits(self.first), *_limits(self.last)
        wide = np.zeros((products, -(-channels // LANES) * LANES), np.int32)
        wide[:, :channels] = loops.weights
        self._weights = aligned(wide.reshape(products, -1, LANES).swapaxes(0, 1))
        starts = np.zeros((2, wide.shape[1]), np.int32)
        starts[len(others), :channels] = 0 if self.op.start is None else self.op.start
        self._starts = aligned(starts.reshape(2, -1, LANES).swapaxes(0, 1))

    def arguments(self, x: Padded) -> tuple[Any, ...]:
        """Of a loop of tiles, for these codes."""
        top, _, left, _ = self.op.window.paddings
        codes = np.ascontiguousarray(x.array, np.int32)
        places = self._taps @ np.array(codes.strides[1:], np.int64)
        tables = places, self._weights, self._starts, self._events
        return codes, (x.pad - top, x.pad - left), self.op.window.steps[:2], tables, self._limits

    def run(self, x: Padded) -> tuple[np.ndarray, np.ndarray, Told]:
        """What the last registers hold in the end [N, H, W, C]; how many outputs of each channel overflowed; those that are
        persistent and transient at the first stage and the last."""
        images, (rows, _, channels) = len(x.array), self.op.shape
        sums = np.empty((images, *self.op.shape), np.int32)
        counts = np.empty((COUNTS, images * rows, len(self._weights) * LANES), np.int32)
        told(self.rules, self.first.tile == 1)(*self.arguments(x), sums, counts)
        by_image = counts.reshape(COUNTS, images, rows, -1)[..., :channels].sum(2, dtype=np.int64)
        return sums, by_image[0].sum(0), (by_image[1::2], by_image[2::2])


class TiledConvolution(StagedConvolution):
    """As above."""

    path = "stages by tiles"

    def __init__(self, op: ConvOp, loops: ConvLoops) -> None:
        super().__init__(op, loops)
        self._tiles = Tiles(loops)
        self._run = tiled(self._tiles.rules, self._tiles.first.tile == 1)

    def registers(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """What the last registers hold in the end [N, H, W, C]; and how many outputs of each channel overflowed."""
        images, (rows, columns, channels) = len(inputs[0].array), self.op.shape
        sums = np.empty((images, rows, columns, channels), np.int32)
        counts = np.empty((images * rows, channels), np.int32)
        self._run(*self._tiles.arguments(inputs[0]), sums, counts)
        return sums, counts.sum(0, dtype=np.int64)

    def counters(self, inputs: Sequence[Padded]) -> Told:
        """Outputs that are persistent and transient at the first stage and the last."""
        return self._tiles.run(inputs[0])[2]

    def codes(self, inputs: Sequence[Padded], out: Padded) -> tuple[np.ndarray, Told]:
        """The same while codes are made; and overflows."""
        sums, overflows, told = self._tiles.run(inputs[0])
        self._requantize(sums, inputs, out)
        return overflows, told
