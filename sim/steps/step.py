"""What every step is."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from sim.buffers import Padded
from sim.ops.op import Op


class Step:
    """One operation of a program, ready to run on one instruction set."""

    path: str = ""
    """Which of several ways it takes, for profiles."""

    def __init__(self, op: Any, isa: str) -> None:
        raise NotImplementedError

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> np.ndarray | None:
        """Codes of its sources, in their order, -> codes inside the border of `out`; overflows of each channel, or None.

        An input receives what the user handed over, in a tensor without border.  Every code inside the border of `out` is
        written, as others have used its memory before.
        """
        raise NotImplementedError

    def logits(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """For operations that end in logits: these [N, H, W, C], and overflows."""
        raise NotImplementedError

    def registers(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """For operations with registers: what these hold after all products [N, H, W, C], and overflows."""
        raise NotImplementedError

    def telling(self) -> Self | None:
        """The same, with counts int64 [kinds, images, channels] in the place of overflows of each channel: outputs that
        overflow, and where registers clip on the way also those whose exact sum does not fit.  None where that is not known.
        """
        return None

    def could_replace(self, before: Op) -> bool:
        """Whether `through` may give a step for an operation that this one alone reads: memory is planned for it."""
        return False

    def through(self, before: Op) -> Self | None:
        """The same, reading what `before` reads and doing its work as well; None where that is no gain or not possible."""
        return None
