"""Which registers that begin anew after some products can overflow at all, by the weights of each."""

from dataclasses import dataclass

import numpy as np

from sim.orders import SORTED
from sim.steps.loops import ConvLoops


@dataclass(frozen=True)
class Groups:
    """The groups of products that may leave the range of the first register, by channel: `firsts` int64 [channels + 1] and
    `products` int64, with which each begins."""

    firsts: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, loops: ConvLoops) -> "Groups | None":
        """None where exact sums cannot become what registers hold."""
        op, accumulator = loops.op, loops.accumulator
        is_plain = op.groups == 1 and op.operand.bits <= 8
        is_pair = len(accumulator.before) == 1 and accumulator.order != SORTED and (
            accumulator.bits is None or accumulator.overflow == "wrap")
        if not is_plain or not is_pair or 2 * max(map(abs, op.bounds)) >= 2**31:
            return None
        is_risky = risky_groups(loops)
        channels, places = np.nonzero(is_risky.T)
        firsts = np.searchsorted(channels, np.arange(op.shape[2] + 1)).astype(np.int64)
        return cls(firsts, loops.extremes.begins(accumulator.stages[0])[places])


def risky_groups(loops: ConvLoops) -> np.ndarray:
    """Which groups of the first stage can leave its range, whatever the codes are (equation A7): bool [groups, channels]."""
    stage = loops.accumulator.stages[0]
    low, high = loops.extremes.of_registers(stage)
    assert stage.range is not None
    is_risky: np.ndarray = (low < stage.range.min) | (high > stage.range.max)
    return is_risky
