"""What registers one after another do, told stage by stage (equations A5 and A6), in the tiles of stage_tiles.py."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange

from sim.kernels.ir import I8, I32, I64, constant, load, loop, machine_code, offset, registers, splat, store
from sim.kernels.jit import specialize
from sim.kernels.layout import LANES
from sim.kernels.stage_tiles import CONSULT, CONSULT_LAST, HAND_ON, NONE, WORDS, fit, happens, limits_in

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
        self._held, self.waiting, self._exact, self._left = (registers(builder, WORDS, PIXELS) for _ in range(4))
        self._persists, self._passes, self._handed = (registers(builder, WORDS, PIXELS) for _ in range(3))
        self._sum, self._beyond = (registers(builder, WORDS, PIXELS) for _ in range(2))

    def add(self, register: Any, more: Any) -> Any:
        """To a register; gives what it is then."""
        found = self.builder.add(self.builder.load(register), more)
        self.builder.store(found, register)
        return found

    def _mark(self, register: Any, more: Any) -> None:
        self.builder.store(self.builder.or_(self.builder.load(register), more), register)

    def _clear(self, *cleared: Any) -> None:
        for register in cleared:
            self.builder.store(ir.Constant(WORDS, None), register)

    def consult_first(self, p: int) -> None:
        """What waits goes into the first register of a pixel."""
        more, (rule, _), (ends, _) = self.builder.load(self.waiting[p]), self._rules, self._ends
        total = self.builder.add(self.builder.load(self._held[p]), more)
        self.builder.store(fit(self.builder, rule, total, *ends), self._held[p])
        self._mark(self._left[p], _outside(self.builder, rule, self.add(self._exact[p], more), ends))
        self._clear(self.waiting[p])

    def hand_on(self, p: int) -> None:
        """The first register is judged, and begins anew."""
        is_out = _outside(self.builder, self._rules[0], self.builder.load(self._exact[p]), self._ends[0])
        self._mark(self._persists[p], is_out)
        self._mark(self._passes[p], self.builder.and_(self.builder.load(self._left[p]), self.builder.not_(is_out)))
        self.add(self._handed[p], self.builder.load(self._held[p]))
        self._clear(self._held[p], self._exact[p], self._left[p])

    def consult_last(self, p: int) -> None:
        """What was handed on goes into the last register."""
        total = self.add(self._sum[p], self.builder.load(self._handed[p]))
        self._mark(self._beyond[p], _outside(self.builder, self._rules[1], total, self._ends[1]))
        self._clear(self._handed[p])

    def told(self, p: int) -> tuple[Any, ...]:
        """TOLD."""
        load_of, also = self.builder.load, self.builder.and_
        persists = load_of(self._persists[p])
        is_out = _outside(self.builder, self._rules[1], load_of(self._sum[p]), self._ends[1])
        return (persists, also(load_of(self._passes[p]), self.builder.not_(persists)), is_out,
                also(load_of(self._beyond[p]), self.builder.not_(is_out)))


def _make_tile(rules: tuple[str, str]) -> Any:
    """tile((addresses, places, w, events, products, low, high, last_low, last_high, out)) as in stage_tiles.py, but for
    `out` int32 [TOLD, PIXELS, 16], not 0 where it is so."""
    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        addresses, places, w, events, products, *limits, out = arguments
        held = _Registers(builder, rules, limits_in(builder, limits))
        sources = [load(builder, offset(builder, addresses, p, 8), I64, 8) for p in range(PIXELS)]
        with loop(builder, products) as product:
            weights = load(builder, offset(builder, w, product.index, 4 * LANES), WORDS, 4 * LANES)
            place = load(builder, offset(builder, places, product.index, 8), I64, 8)
            mask = load(builder, builder.add(events, product.index), I8, 1)
            for p, source in enumerate(sources):
                code = splat(builder, load(builder, builder.add(source, place), I32, 4), LANES)
                held.add(held.waiting[p], builder.mul(code, weights))
            for event, act in ((CONSULT, held.consult_first), (HAND_ON, held.hand_on), (CONSULT_LAST, held.consult_last)):
                with builder.if_then(happens(builder, mask, event)):
                    for p in range(PIXELS):
                        act(p)
        for p in range(PIXELS):
            for number, each in enumerate(held.told(p)):
                store(builder, each, offset(builder, out, number * PIXELS + p, 4 * LANES), 4)

    return machine_code(10, emit)


_tile: Any = constant


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
        first = x.ctypes.data + n * x.strides[0] + (i * steps[0] + corner[0]) * x.strides[1] + corner[1] * x.strides[2]
        for block in range(len(weights)):
            channel = block * LANES
            for begin in range(0, columns, PIXELS):
                for p in range(PIXELS):
                    addresses[p] = first + min(begin + p, columns - 1) * steps[1] * x.strides[2]
                _tile((addresses.ctypes.data, places.ctypes.data, weights[block].ctypes.data, events.ctypes.data,
                       len(places), low, high, last_low, last_high, told.ctypes.data))
                for number in range(TOLD):
                    for p in range(min(PIXELS, columns - begin)):
                        for c in range(min(LANES, channels - channel)):
                            found[number, line, channel + c] += np.int32(told[number, p, c] != 0)


@cache
def told(rules: tuple[str, str]) -> Any:
    """The loop for registers of these rules."""
    return specialize(_told, f"told_{'_'.join(rules)}", _tile=_make_tile(rules))
