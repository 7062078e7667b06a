"""Fully connected layers on tokens: the same numbers as a convolution of one tap on an image that is wider than one pixel.

Tokens are (tokens, 1, features), an image of one column, whose lines of one pixel leave kernels nothing to put side by side.
The very memory is read as (rows, tokens / rows, features) here.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np

from sim.buffers import Padded
from sim.lazy import cached_property
from sim.ops.conv import ConvOp
from sim.steps.conv import Convolution
from sim.steps.step import Step

LEAST, MOST = 8, 64
"""Pixels of a line: enough for kernels, and lines enough for threads."""


def convolution(op: ConvOp, isa: str) -> Step:
    """The step of a convolution: one that turns tokens where that is possible."""
    window = op.window
    is_pointwise = window.taps == (1, 1) and set(window.strides) == {1} and not any(window.paddings)
    if is_pointwise and op.shape[1] == 1 and op.shape[0] >= LEAST and not op.skip:
        return Turned(op, isa)
    return Convolution(op, isa)


def side_by_side(tokens: int) -> int:
    """How many tokens a line has: their largest divisor from LEAST to MOST, or all of them.

    >>> [side_by_side(tokens) for tokens in (192, 384, 100, 13, 127)]
    [64, 64, 50, 13, 127]
    """
    return max((size for size in range(LEAST, MOST + 1) if tokens % size == 0), default=tokens)


class Turned(Step):
    """A layer on tokens."""

    def __init__(self, op: ConvOp, isa: str) -> None:
        self.op, self.isa = op, isa
        width = side_by_side(op.shape[0])
        self.shape = op.shape[0] // width, width
        self._turned = Convolution(replace(op, shape=(*self.shape, op.shape[2])), isa)

    @property
    def path(self) -> str:  # type: ignore[override]
        """That of the kernels."""
        return self._turned.path

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> np.ndarray | None:
        """Codes -> codes; where a border stands around tokens they are taken as they come."""
        if inputs[0].pad or out.pad:
            return self._plain(inputs, out)
        return self._turned([self._view(inputs[0])], self._view(out))

    def logits(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """Of whole sums."""
        if inputs[0].pad:
            return self._plain.logits(inputs)
        logits, counts = self._turned.logits([self._view(inputs[0])])
        return logits.reshape(len(logits), *self.op.shape), counts

    def registers(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """What the registers hold [N, tokens, 1, C]."""
        if inputs[0].pad:
            return self._plain.registers(inputs)
        sums, counts = self._turned.registers([self._view(inputs[0])])
        return sums.reshape(len(sums), *self.op.shape), counts

    def telling(self) -> Self | None:
        """The same, whose convolutions tell."""
        turned, plain = self._turned.telling(), self._plain.telling()
        if turned is None or plain is None:
            return None
        other = copy.copy(self)
        other._turned = turned
        other.__dict__["_plain"] = plain
        return other

    @cached_property
    def _plain(self) -> Convolution:
        return Convolution(self.op, self.isa)

    def _view(self, x: Padded) -> Padded:
        """The same memory."""
        return Padded(x.array.reshape(len(x.array), *self.shape, x.array.shape[3]), 0)
