"""Convolutions of two stages of which few first registers can overflow: exact codes, of which those that do are made anew.

The codes of exact sums, or of sums that the last register wraps, go to memory by the fastest kernels.  Then the registers
that can leave their range at all (equation A7) are looked at, pixel by pixel; only outputs of which one did are computed
again, and requantized.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.accumulator import END, Accumulator
from sim.buffers import Padded
from sim.kernels.group_search import PERSISTENT, TRANSIENT, collect_changed, find_changes, replace_changed
from sim.kernels.isa import PLAIN
from sim.kernels.reach import join, pack_products
from sim.ops.conv import ConvOp
from sim.steps.conv import Convolution
from sim.steps.groups import Groups
from sim.steps.loops import ConvLoops, StagedConvolution, Told
from sim.steps.paths import sign_of
from sim.steps.zero import requantize_into

Changes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of outputs, their marks, and how many pixels of a line have some, as kernels/group_search.py has them."""
MOST = 0.004
"""So many groups for each product may be looked at; for more, other ways are faster."""
TOGETHER = 32
"""Pixels that are requantized as if they were a line."""


def is_better(op: ConvOp, isa: str, groups: Groups) -> bool:
    """Than other ways; compiled kernels are a must."""
    return isa != PLAIN and len(groups.products) <= MOST * op.weights.size


@dataclass(frozen=True)
class Found:
    """Outputs that are computed again: `marks` as kernels/group_search.py has them, `pixels` int32 [pixels, 3] that have
    some, `sums` int32 [1, lines, TOGETHER, C] of these, and of each channel how many more outputs overflowed."""

    marks: np.ndarray
    pixels: np.ndarray
    sums: np.ndarray
    overflows: np.ndarray

    def chosen(self, x: Padded) -> Padded:
        """The codes of such pixels, in the places of their sums."""
        n, i, j = self.pixels.T
        codes = np.zeros(self.sums.shape, x.array.dtype)
        codes.reshape(-1, codes.shape[3])[: len(n)] = x.interior[n, i, j]
        return Padded(codes, 0)


class PatchedConvolution(StagedConvolution):
    """As above."""

    path = "stages of few groups"

    def __init__(self, op: ConvOp, isa: str, loops: ConvLoops, groups: Groups) -> None:
        super().__init__(op, loops)
        self._exact = Convolution(replace(op, accumulator=Accumulator(loops.accumulator.bits)), isa)
        self._groups, stage = groups, loops.accumulator.before[0]
        assert stage.range is not None
        self._size = len(loops.weights) if stage.products == END else stage.products
        self._register = stage.range.min, stage.range.max, stage.tile, stage.overflow == "wrap"
        self._channels = np.flatnonzero(np.diff(groups.firsts))
        self._begin = np.zeros(len(self._channels), np.int64) if op.start is None else op.start[self._channels]
        self._packed: tuple[int, Any, Any] | None = None

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> np.ndarray | None:
        """Codes of the input, and of the residual if there is one, -> codes."""
        return self._patch(self._changes(inputs[0], False), inputs, out)

    def codes(self, inputs: Sequence[Padded], out: Padded) -> tuple[np.ndarray, Told]:
        """The same; overflows, and what is told of the first stage, by one search."""
        changes = self._changes(inputs[0], True)
        return self._patch(changes, inputs, out), self._told(changes[1])

    def _patch(self, changes: Changes, inputs: Sequence[Padded], out: Padded) -> np.ndarray:
        """Codes, and overflows."""
        overflows = self._exact(inputs, out)
        found = self._search(inputs[0], *changes)
        if found is None:
            return self._counts(overflows, None)
        sums = self._corrected(found.sums)
        codes = Padded(np.empty(sums.shape, out.array.dtype), 0)
        requantize_into(self.op, sums, found.chosen(inputs[1]) if self.op.skip else None, codes)
        self._replace(found, codes.unsigned, out.unsigned, out.pad)
        return self._counts(overflows, found)

    def registers(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """What the last registers hold in the end [N, H, W, C]; and how many outputs of each channel overflowed."""
        sums, overflows = self._exact.registers(inputs)
        found = self._search(inputs[0], *self._changes(inputs[0], False))
        if found is not None:
            self._replace(found, found.sums, sums, 0)
        return sums, self._counts(overflows, found)

    def _search(self, x: Padded, changes: np.ndarray, marks: np.ndarray, found: np.ndarray) -> Found | None:
        """What has to be computed again, None if nothing."""
        ends = found.cumsum().reshape(found.shape)
        count = int(ends[-1, -1])
        if count == 0:
            return None
        channels = self.op.shape[2]
        pixels = np.empty((count, 3), np.int32)
        sums = np.zeros((1, -(-count // TOGETHER), TOGETHER, channels), np.int32)
        more = np.empty(marks.shape[:3], np.int64)
        collect_changed(*self._place(x), self._channels, self._tables(x.array.strides)[1], self._begin,
                        self._loops.accumulator.bits or 0, changes, marks, ends - found, not self._register[3], pixels,
                        sums.reshape(-1, channels), more)
        return Found(marks, pixels, sums, more.sum((0, 1)))

    def counters(self, inputs: Sequence[Padded]) -> Told:
        """Outputs that are persistent and transient at the first stage."""
        return self._told(self._changes(inputs[0], True)[1])

    def _told(self, marks: np.ndarray) -> Told:
        counts = np.zeros((2, 1, len(marks), self.op.shape[2]), np.int64)
        persists = marks & PERSISTENT != 0
        counts[0, 0][:, self._channels] = persists.sum((1, 3))
        counts[1, 0][:, self._channels] = ((marks & TRANSIENT != 0) & ~persists).sum((1, 3))
        return counts[0], counts[1]

    def _place(self, x: Padded) -> tuple[Any, ...]:
        """The codes, their sign bit, where the first window begins, and the strides."""
        top, _, left, _ = self.op.window.paddings
        return x.unsigned, sign_of(self.op), (x.pad - top, x.pad - left), self.op.window.steps[:2]

    def _changes(self, x: Padded, tells: bool) -> Changes:
        """What `find_changes` writes."""
        rows, columns, _ = self.op.shape
        shape = len(x.array), rows, len(self._channels), columns
        changes, marks, found = np.empty(shape, np.int32), np.empty(shape, np.uint8), np.empty(shape[:2], np.int32)
        find_changes(*self._place(x), self._tables(x.array.strides)[0], (*self._register, tells), changes, marks, found)
        return changes, marks, found

    def _replace(self, found: Found, values: np.ndarray, out: np.ndarray, pad: int) -> None:
        replace_changed(found.pixels, self._channels, found.marks, values.reshape(-1, values.shape[3]), pad, out)

    def _counts(self, overflows: np.ndarray | None, found: Found | None) -> np.ndarray:
        """Of each channel: outputs that exact sums have alone, and what stages add."""
        counts = np.zeros(self.op.shape[2], np.int64) if overflows is None else overflows
        if found is not None:
            counts[self._channels] += found.overflows
        return counts

    def _tables(self, strides: tuple[int, ...]) -> tuple[Any, Any]:
        """Tables of registers, and of all products of their channels, for codes whose rows are so many bytes apart."""
        if self._packed is None or self._packed[0] != strides[1]:
            self._packed = strides[1], *self._pack(self._loops.taps @ np.array(strides[1:], np.int64))
        return self._packed[1:]

    def _pack(self, places: np.ndarray) -> tuple[Any, Any]:
        """The same, of products whose codes are at these distances from the first one of a window."""
        weights, groups = self._loops.weights, self._groups
        owners = np.repeat(np.arange(len(groups.firsts) - 1), np.diff(groups.firsts))
        members = [slice(first, min(first + self._size, len(places))) for first in groups.products]
        parts = [pack_products(places[part], weights[part, owner])
                 for part, owner in zip(members, owners, strict=True)]
        starts = np.cumsum([0, *(part.stop - part.start for part in members)]).astype(np.int64)
        ordered = np.concatenate([weights[part, owner] for part, owner in zip(members, owners, strict=True)])
        firsts = groups.firsts[np.append(self._channels, len(groups.firsts) - 1)]
        tables = (self._channels, firsts, *join(parts), starts, np.concatenate([places[part] for part in members]),
                  ordered.astype(np.int32))
        return tables, join([pack_products(places, weights[:, channel]) for channel in self._channels])
