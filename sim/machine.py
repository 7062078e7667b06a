"""Runs a program on batches of images, in integers."""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import numpy as np

from sim.accumulator import AccumulatorOverflowError, prefix_bounds
from sim.kernels.conv import CONV_EXACT, CONV_SATURATING
from sim.kernels.pool import window_sums
from sim.program import ConvOp, InputOp, Op, PoolOp, Program, ShortcutOp, TableOp


class Machine:
    """A program ready to run, and its overflow counters.

    `overflows` counts, per convolution and channel, the outputs that a limited register got wrong: under "saturate"
    those of which at least one addition was clipped, under "wrap" those whose exact sum does not fit.  `outputs` counts
    all outputs per channel.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.reset()
        self._types = {op.name: _sum_type(op) for op in program.convolutions}

    def reset(self) -> None:
        """Forget all counts."""
        self.overflows = {op.name: np.zeros(op.shape[2], np.int64) for op in self.program.convolutions}
        self.images = 0

    def run(self, pixels: np.ndarray, trace: MutableMapping[str, np.ndarray] | None = None) -> np.ndarray:
        """uint8 pixels [N, H, W, C] -> logits [N, classes]; `trace` receives every operation's result [N, H, W, C].

        Raises ValueError for pixels of another type or shape, AccumulatorOverflowError under overflow "error".
        """
        first = self.program.ops[0]
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != first.shape:
            raise ValueError(f"expected uint8 pixels [N, {', '.join(map(str, first.shape))}], "
                             f"not {pixels.dtype} {pixels.shape}")
        values: dict[str, np.ndarray] = {}
        for op in self.program.ops:
            values[op.name] = self.apply(op, pixels, values)
        if trace is not None:
            trace.update(values)
        self.images += len(pixels)
        return values[self.program.ops[-1].name].reshape(len(pixels), -1)

    def apply(self, op: Op, pixels: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """One operation, given the results of those it reads."""
        result: np.ndarray = _STEPS[type(op)](self, op, values[op.source] if op.source else pixels, values)
        return result

    def _input(self, op: InputOp, x: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        return op.table[np.arange(op.shape[2]), x]

    def _conv(self, op: ConvOp, x: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        sums = self.sums(op, x)
        if op.format is None:
            return op.requant.logits(sums)
        return op.requant.codes(sums, values[op.skip] if op.skip else None, op.format)

    def sums(self, op: ConvOp, x: np.ndarray) -> np.ndarray:
        """What the registers hold after all products; counts overflows."""
        padded = _pad(x, op.padding)
        integer = self._types[op.name]
        sums = np.empty((len(x), *op.shape), integer)
        register = op.accumulator.range
        if register is None or register.bits >= op.safe_bits:
            CONV_EXACT[integer](padded, op.weights, op.stride, op.groups, sums)
            return sums
        if op.accumulator.overflow == "wrap":
            # Wrapping is a ring homomorphism: one reduction of the exact sum equals wrapping after every addition (C7).
            CONV_EXACT[integer](padded, op.weights, op.stride, op.groups, sums)
            wrapped = ((sums.astype(np.int64) - register.min) & ((1 << register.bits) - 1)) + register.min
            self.overflows[op.name] += (wrapped != sums).sum((0, 1, 2))
            return wrapped
        clipped = np.empty(sums.shape, np.uint8)
        CONV_SATURATING[integer](padded, op.weights, op.stride, op.groups, op.accumulator.tile,
                                 register.min, register.max, sums, clipped)
        counts = clipped.sum((0, 1, 2), dtype=np.int64)
        self.overflows[op.name] += counts
        if op.accumulator.overflow == "error" and counts.any():
            channel = int(np.flatnonzero(counts)[0])
            raise AccumulatorOverflowError(
                f"{op.name}, channel {channel}: a sum does not fit the {register.bits}-bit accumulator "
                f"({counts[channel]} of {counts.size and clipped[..., channel].size} outputs of this batch); "
                f"{op.safe_bits} bits can never overflow")
        return sums

    def _table(self, op: TableOp, x: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        return op.table[x]

    def _shortcut(self, op: ShortcutOp, x: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        out = np.zeros((len(x), *op.shape), x.dtype)
        before = (op.shape[2] - x.shape[3]) // 2
        out[..., before : before + x.shape[3]] = x[:, :: op.stride, :: op.stride]
        return out

    def _pool(self, op: PoolOp, x: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        sums = np.empty((len(x), *op.shape), np.int64)
        window_sums(_pad(x, op.padding), op.size, op.stride, sums)
        assert op.format is not None
        return op.requant.codes(sums, None, op.format)


_STEPS: Mapping[type[Op], Callable[[Machine, Any, np.ndarray, Mapping[str, np.ndarray]], np.ndarray]] = {
    InputOp: Machine._input, ConvOp: Machine._conv, TableOp: Machine._table,
    ShortcutOp: Machine._shortcut, PoolOp: Machine._pool}


def _pad(x: np.ndarray, padding: int) -> np.ndarray:
    """Code 0, which stands for 0, around every image (contract C8)."""
    if not padding:
        return np.ascontiguousarray(x)
    images, rows, columns, channels = x.shape
    out = np.zeros((images, rows + 2 * padding, columns + 2 * padding, channels), x.dtype)
    out[:, padding:-padding, padding:-padding] = x
    return out


def _sum_type(op: ConvOp) -> str:
    """int32 where every partial sum, and a register plus a whole tile, is proved to fit; else int64 (contract C9)."""
    low, high = prefix_bounds(op.weights, op.operand)
    reach = max(-int(low.min()), int(high.max()))
    register = op.accumulator.range
    if register is not None:
        reach += register.max
    return "int32" if reach < 2**31 - 1 else "int64"
