"""What registers one after another hold in the end, and what they did, stage by stage (equations A5 and A6).

In the tiles of stage_tiles.py.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange

from sim.kernels.ir import I32, call, constant, registers, splat, stored
from sim.kernels.jit import specialize
from sim.kernels.layout import LANES
from sim.kernels.stage_tiles import NONE, PIXELS, SATURATE, WORDS, add_to, aim, fit, make_tile, taken

COUNTS = 5
"""Outputs that overflowed, then persistent and transient ones at the first stage and at the last."""


class _Exact:
    """Exact sums of registers of PIXELS pixels, and how far from the range of these they ever were.

    Sums are kept less the lowest one that fits, and compared as unsigned numbers: one that does not fit is above `_width`.
    """

    def __init__(self, builder: Any, rule: str, ends: tuple[Any, Any], make: Any) -> None:
        self._builder, self._rule, (self._low, high) = builder, rule, ends
        self._width = builder.sub(high, self._low)
        self._sums, self._farthest = (make(builder, WORDS, PIXELS) for _ in range(2))
        for p in range(PIXELS):
            self.begin(p)

    def begin(self, p: int) -> None:
        """Anew, with 0."""
        self._builder.store(self._builder.neg(self._low), self._sums[p])
        self._builder.store(ir.Constant(WORDS, None), self._farthest[p])

    def add(self, p: int, more: Any) -> None:
        """What the register of a pixel receives before it is consulted."""
        total = self._builder.add(self._builder.load(self._sums[p]), more)
        self._builder.store(total, self._sums[p])
        if self._rule != NONE:
            self.keep_largest(self._farthest[p], total)

    def keep_largest(self, kept: Any, more: Any) -> None:
        """As unsigned numbers."""
        largest = call(self._builder, f"llvm.umax.v{LANES}i32", WORDS, [self._builder.load(kept), more])
        self._builder.store(largest, kept)

    def sums(self, p: int) -> Any:
        """As they are."""
        return self._builder.add(self._builder.load(self._sums[p]), self._low)

    def ends(self, p: int) -> tuple[Any, Any]:
        """The sum, and the one that was farthest on the way, both less the lowest that fits."""
        return self._builder.load(self._sums[p]), self._builder.load(self._farthest[p])

    def beyond(self, sums: Any) -> Any:
        """All ones where a sum does not fit."""
        if self._rule == NONE:
            return ir.Constant(WORDS, None)
        return self._builder.sext(self._builder.icmp_unsigned(">", sums, self._width), WORDS)


class _Registers:
    """Of PIXELS pixels x 16 channels, and what happens to them; `rules` and `ends` are those of the first and the last,
    which are loaded with `begins`."""

    def __init__(self, builder: Any, rules: tuple[str, str], ends: tuple[tuple[Any, Any], tuple[Any, Any]],
                 begins: Sequence[Any]) -> None:
        self.builder, self._rules, self._ends = builder, rules, ends
        self._exact = [_Exact(builder, *each) for each in zip(rules, ends, (registers, stored), strict=True)]
        self._held, self._waiting = (registers(builder, WORDS, PIXELS) for _ in range(2))
        self._handed, self._last, self._products = (stored(builder, WORDS, PIXELS) for _ in range(3))
        self._persists, self._leaves = (stored(builder, WORDS, PIXELS) for _ in range(2))
        for p in range(PIXELS):
            self._take(0, self._held[p], p, begins[0])
            self._take(1, self._last[p], p, begins[1])
            builder.store(begins[1], self._products[p])

    def receive(self, p: int, product: Any, at_once: bool) -> None:
        """A product of a pixel, which waits for the first register unless that takes it `at_once`."""
        if at_once:
            self._take(0, self._held[p], p, product)
        else:
            add_to(self.builder, self._waiting[p], product)

    def consult_first(self, p: int) -> None:
        """What waits goes into the first register."""
        self._take(0, self._held[p], p, taken(self.builder, self._waiting[p]))

    def hand_on(self, p: int) -> None:
        """The first register is judged, and begins anew."""
        exact = self._exact[0]
        if self._rules[0] != NONE:
            for kept, end in zip((self._persists[p], self._leaves[p]), exact.ends(p), strict=True):
                exact.keep_largest(kept, end)
        add_to(self.builder, self._products[p], exact.sums(p))
        add_to(self.builder, self._handed[p], taken(self.builder, self._held[p]))
        exact.begin(p)

    def consult_last(self, p: int) -> None:
        """What was handed on goes into the last register."""
        self._take(1, self._last[p], p, taken(self.builder, self._handed[p]))

    def told(self, pixels: int, valid: Any) -> list[Any]:
        """What the last register of each pixel holds, then how many of those that are valid are one of COUNTS."""
        helds, counts = [], [ir.Constant(WORDS, None)] * COUNTS
        for p in range(pixels):
            held, *flags = self._of(p)
            is_valid = self.builder.icmp_signed("<", constant(p), valid)
            is_valid = splat(self.builder, self.builder.sext(is_valid, I32), LANES)
            helds.append(held)
            counts = [self.builder.sub(count, self.builder.and_(flag, is_valid))
                      for count, flag in zip(counts, flags, strict=True)]
        return helds + counts

    def _of(self, p: int) -> tuple[Any, ...]:
        """What the last register of a pixel holds; all ones where it is one of COUNTS."""
        build, (first, last) = self.builder, self._exact
        persists, leaves = (first.beyond(build.load(each[p])) for each in (self._persists, self._leaves))
        persists_last, leaves_last = (last.beyond(end) for end in last.ends(p))
        held = build.load(self._last[p])
        overflows = build.sext(build.icmp_signed("!=", held, build.load(self._products[p])), WORDS)
        for rule, clipped in zip(self._rules, (leaves, leaves_last), strict=True):
            overflows = build.or_(overflows, clipped) if rule == SATURATE else overflows
        return (held, overflows, persists, build.and_(leaves, build.not_(persists)), persists_last,
                build.and_(leaves_last, build.not_(persists_last)))

    def _take(self, which: int, register: Any, p: int, more: Any) -> None:
        total = self.builder.add(self.builder.load(register), more)
        self.builder.store(fit(self.builder, self._rules[which], total, *self._ends[which]), register)
        if which == 0 or self._rules[which] != NONE:
            self._exact[which].add(p, more)


_tile: Any = constant


def _told(x: np.ndarray, corner: tuple[int, int], steps: tuple[int, int], tables: Any, limits: Any, sums: np.ndarray,
          counts: np.ndarray) -> None:
    """Codes int32 [N, rows, columns, C] -> what last registers hold, int32 `sums` [N, H, W, Cout].

    `tables` are (places, weights int32 [blocks, products, 16], starts int32 [blocks, 2, 16], events), `limits` the
    ends of both registers; `counts` int32 [COUNTS, N * H, blocks * 16] receives how many outputs of a line are so.
    """
    images, rows, columns, channels = sums.shape
    places, weights, starts, events = tables
    low, high, last_low, last_high = limits
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        counts[:, line] = np.int32(0)
        addresses = np.empty(PIXELS, np.int64)
        found = np.empty((PIXELS + COUNTS, LANES), np.int32)
        for block in range(len(weights)):
            channel = block * LANES
            for begin in range(0, columns, PIXELS):
                aim(addresses, x, (n, i, begin), columns, corner, steps)
                valid = min(PIXELS, columns - begin)
                _tile((addresses.ctypes.data, places.ctypes.data, weights[block].ctypes.data, starts[block].ctypes.data,
                       events.ctypes.data, len(places), low, high, last_low, last_high, valid, found.ctypes.data))
                for p in range(valid):
                    for c in range(min(LANES, channels - channel)):
                        sums[n, i, begin + p, channel + c] = found[p, c]
                for kind in range(COUNTS):
                    for c in range(LANES):
                        counts[kind, line, channel + c] += found[PIXELS + kind, c]


@cache
def told(rules: tuple[str, str], every: bool) -> Any:
    """The loop for registers of these rules; `every`: the first one is consulted after each product."""
    name = f"told_{'_'.join(rules)}{'_each' if every else ''}"
    return specialize(_told, name, _tile=make_tile(_Registers, rules, PIXELS, every))
