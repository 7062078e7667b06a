"""The shortcut: codes are copied."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.kernels.codes import every_pixel
from sim.ops.shortcut import ShortcutOp
from sim.steps.step import Step

WORD = 8
"""Bytes that are copied at once, where channels are whole ones."""


class Copy(Step):
    """Every `stride`-th pixel; what is added holds the code of 0."""

    def __init__(self, op: ShortcutOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Into the middle channels."""
        x, y = inputs[0].unsigned, out.unsigned
        fill = np.array(self.op.zero_point).astype(out.array.dtype).view(y.dtype)
        taken, added = (count * y.itemsize for count in (x.shape[3], y.shape[3] - x.shape[3]))
        if taken % WORD == 0 and added % (2 * WORD) == 0:
            fill = np.full(WORD // y.itemsize, fill, y.dtype).view(np.uint64)[0]
            x, y = x.view(np.uint64), y.view(np.uint64)
        every_pixel(x, inputs[0].pad, self.op.stride, fill[()], out.pad, y)
