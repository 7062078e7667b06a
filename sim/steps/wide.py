"""Operations on codes that are wider than kernels take: sums, products and windows in int64, then the requantizer."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.ops.add import AddOp
from sim.ops.average import AverageOp, WindowAverage
from sim.ops.avgpool import PoolOp
from sim.ops.multiply import MultiplyOp
from sim.ops.op import Op
from sim.requantizers.requantizer import residual_arguments
from sim.steps.rounding import rounded_quotients
from sim.steps.step import Step
from sim.steps.zero import clamp_into, less, requantize_plain, residual_of

NARROW_BITS = 16
"""Codes of so many bits are what kernels read."""


class WideSum(Step):
    """One addition, of operands of any width; either may be of one row, column or channel for all."""

    path = "wide"

    def __init__(self, op: AddOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes of both -> codes."""
        op, shape = self.op, out.interior.shape
        a, b = (np.broadcast_to(less(x, zero), shape)
                for x, zero in zip(inputs, (op.source_zero, op.other_zero), strict=True))
        requantize_plain(op, a, residual_of(b), out)


class WideProduct(Step):
    """One multiplication, as above."""

    path = "wide"

    def __init__(self, op: MultiplyOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes of both -> codes."""
        x, y = inputs
        products = less(x, self.op.source_zero) * less(y, self.op.other_zero)
        requantize_plain(self.op, products, residual_arguments(None), out)


class WidePool(Step):
    """One pool."""

    path = "wide"

    def __init__(self, op: PoolOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        op = self.op
        sums = window_sums(less(inputs[0], op.source_zero), op.window, (op.stride, op.stride), (op.padding,) * 4)
        requantize_plain(op, sums, residual_arguments(None), out)


class WideAverage(Step):
    """One average pool."""

    path = "wide"

    def __init__(self, op: AverageOp, isa: str) -> None:
        self.op = op

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Codes -> codes."""
        op, x = self.op, less(inputs[0], self.op.source_zero)
        sums = window_sums(x, op.taps, op.strides, op.paddings)
        clamp_into(op, rounded_quotients(sums, window_counts(op, x.shape[1:3]), op.rounding), out)


def window_sums(x: np.ndarray, taps: Sequence[int], strides: Sequence[int], paddings: Sequence[int]) -> np.ndarray:
    """Sums of numbers [N, H, W, C] over windows (rows, columns), with 0 around the image: tap by tap, row by row."""
    top, bottom, left, right = paddings
    framed = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    rows, columns = (framed.shape[axis] - taps[axis - 1] for axis in (1, 2))  # the last position of a window
    parts = [framed[:, a : a + rows + 1 : strides[0], b : b + columns + 1 : strides[1]]
             for a in range(taps[0]) for b in range(taps[1])]
    sums: np.ndarray = sum(parts[1:], parts[0].copy())
    return sums


def window_counts(op: WindowAverage, sides: Sequence[int]) -> np.ndarray:
    """What sums over the windows of an image of these sides are divided by, int64 [1, rows, columns, 1], or one for all."""
    if op.divisor == "window":
        return np.full((1, 1, 1, 1), math.prod(op.taps), np.int64)
    return window_sums(np.ones((1, *sides, 1), np.int64), op.taps, op.strides, op.paddings)


def is_spread_plainly(op: Op, sources: Sequence[Op]) -> bool:
    """Whether operands are of one shape, or the second factor of one pixel for all: what kernels know."""
    shapes = [source.shape for source in sources]
    one_pixel = [(1, 1, op.shape[2])] if op.kind == MultiplyOp.kind else []
    return op.kind in (PoolOp.kind, AverageOp.kind) or (shapes[0] == op.shape and shapes[1] in (op.shape, *one_pixel))


WIDE: Mapping[str, Any] = MappingProxyType({
    AddOp.kind: WideSum, MultiplyOp.kind: WideProduct, PoolOp.kind: WidePool, AverageOp.kind: WideAverage})
"""For the kinds whose kernels want narrow codes."""
