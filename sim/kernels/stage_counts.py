"""What registers one after another do, told stage by stage (equations A5 and A6), in the tiles of stage_tiles.py."""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange

from sim.kernels.ir import constant, registers
from sim.kernels.jit import specialize
from sim.kernels.layout import LANES
from sim.kernels.stage_tiles import NONE, WORDS, aim, fit, make_tile

PIXELS = 2
"""Of a tile, whose outputs take nine registers each."""
TOLD = 4
"""Persistent and transient at the first stage, then at the last."""


def _outside(builder: Any, rule: str, total: Any, ends: tuple[Any, Any]) -> Any:
    """All ones where a sum does not fit."""
    if rule == NONE:
        return ir.Constant(WORDS, None)
    low, high = ends
    above = builder.icmp_unsigned(">", builder.sub(total, low), builder.sub(high, low))
    return builder.sext(above, WORDS)


class _Registers:
    """Of PIXELS pixels x 16 channels, and what happens to them; `rules` and `ends` are those of the first and the last."""

    def __init__(self, builder: Any, rules: tuple[str, str], ends: tuple[tuple[Any, Any], tuple[Any, Any]]) -> None:
        self.builder, self._rules, self._ends = builder, rules, ends
        self._held, self._waiting, self._exact, self._left = (registers(builder, WORDS, PIXELS) for _ in range(4))
        self._persists, self._passes, self._handed = (registers(builder, WORDS, PIXELS) for _ in range(3))
        self._sum, self._beyond = (registers(builder, WORDS, PIXELS) for _ in range(2))

    def _add(self, register: Any, more: Any) -> Any:
        """To a register; gives what it is then."""
        found = self.builder.add(self.builder.load(register), more)
        self.builder.store(found, register)
        return found

    def receive(self, p: int, product: Any, at_once: bool) -> None:
        """A product of a pixel, which waits for the first register; `at_once` would save that, and is for sums alone."""
        assert not at_once
        self._add(self._waiting[p], product)

    def _mark(self, register: Any, more: Any) -> None:
        self.builder.store(self.builder.or_(self.builder.load(register), more), register)

    def _clear(self, *cleared: Any) -> None:
        for register in cleared:
            self.builder.store(ir.Constant(WORDS, None), register)

    def consult_first(self, p: int) -> None:
        """What waits goes into the first register of a pixel."""
        more, (rule, _), (ends, _) = self.builder.load(self._waiting[p]), self._rules, self._ends
        total = self.builder.add(self.builder.load(self._held[p]), more)
        self.builder.store(fit(self.builder, rule, total, *ends), self._held[p])
        self._mark(self._left[p], _outside(self.builder, rule, self._add(self._exact[p], more), ends))
        self._clear(self._waiting[p])

    def hand_on(self, p: int) -> None:
        """The first register is judged, and begins anew."""
        is_out = _outside(self.builder, self._rules[0], self.builder.load(self._exact[p]), self._ends[0])
        self._mark(self._persists[p], is_out)
        self._mark(self._passes[p], self.builder.and_(self.builder.load(self._left[p]), self.builder.not_(is_out)))
        self._add(self._handed[p], self.builder.load(self._held[p]))
        self._clear(self._held[p], self._exact[p], self._left[p])

    def consult_last(self, p: int) -> None:
        """What was handed on goes into the last register."""
        total = self._add(self._sum[p], self.builder.load(self._handed[p]))
        self._mark(self._beyond[p], _outside(self.builder, self._rules[1], total, self._ends[1]))
        self._clear(self._handed[p])

    def told(self, p: int) -> tuple[Any, ...]:
        """TOLD."""
        load_of, also = self.builder.load, self.builder.and_
        persists = load_of(self._persists[p])
        is_out = _outside(self.builder, self._rules[1], load_of(self._sum[p]), self._ends[1])
        return (persists, also(load_of(self._passes[p]), self.builder.not_(persists)), is_out,
                also(load_of(self._beyond[p]), self.builder.not_(is_out)))


_tile: Any = constant
"""As in stage_tiles.py; tells TOLD, not 0 where it is so."""


def _told(x: np.ndarray, corner: tuple[int, int], steps: tuple[int, int], tables: Any, limits: Any, sides: tuple[int, int],
          found: np.ndarray) -> None:
    """How many outputs of each line are persistent and transient: `found` int32 [TOLD, N * H, Cout], H and W are `sides`.

    The rest as in stage_tiles.py.
    """
    rows, columns = sides
    channels = found.shape[2]
    places, weights, events = tables
    low, high, last_low, last_high = limits
    for line in prange(len(x) * rows):
        n, i = line // rows, line % rows
        found[:, line] = np.int32(0)
        addresses = np.empty(PIXELS, np.int64)
        told = np.empty((TOLD, PIXELS, LANES), np.int32)
        for block in range(len(weights)):
            channel = block * LANES
            for begin in range(0, columns, PIXELS):
                aim(addresses, x, (n, i, begin), columns, corner, steps)
                _tile((addresses.ctypes.data, places.ctypes.data, weights[block].ctypes.data, events.ctypes.data,
                       len(places), low, high, last_low, last_high, told.ctypes.data))
                for number in range(TOLD):
                    for p in range(min(PIXELS, columns - begin)):
                        for c in range(min(LANES, channels - channel)):
                            found[number, line, channel + c] += np.int32(told[number, p, c] != 0)


@cache
def told(rules: tuple[str, str]) -> Any:
    """The loop for registers of these rules."""
    return specialize(_told, f"told_{'_'.join(rules)}", _tile=make_tile(_Registers, rules, PIXELS))
