"""Convolutions of which few registers that begin anew after some products can overflow: exact sums, then corrections."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sim.accumulator import END, Accumulator
from sim.buffers import Padded
from sim.kernels.group_loops import correct_groups, transposed
from sim.ops.conv import ConvOp
from sim.orders import SORTED
from sim.steps.conv import Convolution
from sim.steps.loops import ConvLoops, StagedConvolution
from sim.steps.paths import sign_of

MOST = 0.5
"""Of all groups so many may be looked at: for more, the plain loops are as fast."""
FEWEST_COLUMNS = 4
"""Of outputs in a line, which go side by side."""


@dataclass(frozen=True)
class Groups:
    """The groups of products that may leave the range of the first register, by channel: `firsts` int64 [channels + 1] and
    `products` int64, with which each begins; `share` is the part of all groups that they are."""

    firsts: np.ndarray
    products: np.ndarray
    share: float

    @classmethod
    def of(cls, loops: ConvLoops) -> "Groups | None":
        """None where exact sums cannot become what registers hold."""
        op, accumulator = loops.op, loops.accumulator
        is_plain = op.groups == 1 and op.start is None and op.operand.bits <= 8
        is_pair = len(accumulator.before) == 1 and accumulator.order != SORTED and (
            accumulator.bits is None or accumulator.overflow == "wrap")
        if not is_plain or not is_pair or 2 * max(map(abs, op.bounds)) >= 2**31:
            return None
        is_risky = risky_groups(loops)
        channels, places = np.nonzero(is_risky.T)
        firsts = np.searchsorted(channels, np.arange(op.shape[2] + 1)).astype(np.int64)
        return cls(firsts, loops.extremes.begins(accumulator.stages[0])[places], float(is_risky.mean()))


def risky_groups(loops: ConvLoops) -> np.ndarray:
    """Which groups of the first stage can leave its range, whatever the codes are (equation A7): bool [groups, channels]."""
    stage = loops.accumulator.stages[0]
    low, high = loops.extremes.of_registers(stage)
    assert stage.range is not None
    is_risky: np.ndarray = (low < stage.range.min) | (high > stage.range.max)
    return is_risky


def is_better(op: ConvOp, groups: Groups) -> bool:
    """Than plain loops."""
    return groups.share <= MOST and op.shape[1] >= FEWEST_COLUMNS


class CorrectedConvolution(StagedConvolution):
    """A convolution of two stages, of which the last wraps or is wide enough: exact sums on the fast kernels, corrected."""

    path = "stages of some groups"

    def __init__(self, op: ConvOp, isa: str, loops: ConvLoops, groups: Groups) -> None:
        super().__init__(op, loops)
        self._groups = groups
        self._exact = Convolution(replace(op, accumulator=Accumulator()), isa)
        self._weights = loops.weights.astype(np.int32)

    def registers(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """What the last registers hold in the end [N, H, W, C]; and how many outputs of each channel overflowed."""
        op, x, accumulator = self.op, inputs[0], self._loops.accumulator
        sums, _ = self._exact.registers(inputs)
        images, rows, columns, channels = x.array.shape
        codes = np.empty((images, rows, channels, columns), np.int16)
        transposed(x.unsigned, sign_of(op), codes)
        top, _, left, _ = op.window.paddings
        counts = np.empty((images * op.shape[0], op.shape[2]), np.int32)
        stage = accumulator.before[0]
        form = stage.range
        assert form is not None
        products = len(self._weights)
        correct_groups(codes, (x.pad - top, x.pad - left), self._weights, self._loops.taps, op.window.steps[:2],
                       self._groups.firsts, self._groups.products, products if stage.products == END else stage.products,
                       stage.tile, form.min, form.max, stage.overflow == "wrap", accumulator.bits or 0, sums, counts)
        return sums, counts.sum(0, dtype=np.int64)
