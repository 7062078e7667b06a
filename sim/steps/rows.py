"""Definitions that have loops of their own, and which codes these take."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.definitions.layernorm import ExactLayerNorm
from sim.definitions.softmax import EXP_BITS, ExactSoftmax
from sim.kernels.rows import layernorm_rows, softmax_rows
from sim.ops.defined import DefinedOp
from sim.steps.zero import place_of

MOST_BYTES = 2
"""Of a stored code: kernels are compiled for these."""


class Rows:
    """The loops of a definition with its constants."""

    def __init__(self, op: DefinedOp) -> None:
        self.zero = op.source_zero

    def takes(self, *tensors: Padded) -> bool:
        """Whether codes are stored narrowly enough."""
        return all(tensor.array.itemsize <= MOST_BYTES for tensor in tensors)

    def __call__(self, x: Padded, kept: np.ndarray | None, out: Padded) -> None:
        """Codes of `x` -> codes inside the border of `out`; bool [N, C] says which channels count."""
        raise NotImplementedError


class SoftmaxRows(Rows):
    """`exact`."""

    def __init__(self, op: DefinedOp) -> None:
        super().__init__(op)
        definition: Any = op.definition
        levels = (1 << definition.target.bits) - 1
        self.table = definition.table.astype(np.float64)
        self.end = np.float64(levels), np.int32(definition.target.min)
        self.every = np.ones((1, op.shape[2]), np.uint8)
        self.is_exact = levels * 2 * (op.shape[2] << EXP_BITS) < 1 << 52

    def takes(self, *tensors: Padded) -> bool:
        """And quotients whose whole part float64 tells."""
        return self.is_exact and super().takes(*tensors)

    def __call__(self, x: Padded, kept: np.ndarray | None, out: Padded) -> None:
        """A code for each channel."""
        keep = self.every if kept is None else kept.astype(np.uint8)
        softmax_rows(x.unsigned, place_of(x, self.zero), keep, self.table, self.end, out.unsigned, out.pad)


class NormRows(Rows):
    """`exact`."""

    def __init__(self, op: DefinedOp) -> None:
        super().__init__(op)
        definition: Any = op.definition
        self.constants = definition.gain, definition.offset, np.float64(definition.eps[0])
        self.limits = np.float32(definition.target.min), np.float32(definition.target.max)
        span = max(-definition.source.min, definition.source.max)
        self.is_exact = 2 * op.shape[2] * span < 1 << 31

    def takes(self, *tensors: Padded) -> bool:
        """And rows whose sums 32 bits hold."""
        return self.is_exact and super().takes(*tensors)

    def __call__(self, x: Padded, kept: np.ndarray | None, out: Padded) -> None:
        """A code for each channel."""
        layernorm_rows(x.unsigned, place_of(x, self.zero), self.constants, self.limits, out.unsigned, out.pad)


ROWS: Mapping[type, Callable[[DefinedOp], Rows]] = MappingProxyType({ExactSoftmax: SoftmaxRows, ExactLayerNorm: NormRows})
"""By the class of a definition itself: one derived from it may compute something else."""


def rows_of(op: DefinedOp) -> Rows | None:
    """The loops of an operation; None if its definition has none."""
    build = ROWS.get(type(op.definition))
    return None if build is None else build(op)
