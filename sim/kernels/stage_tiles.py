"""One register after another for PIXELS pixels x 16 channels at once, product by product, on any processor with vectors.

Products come in any order: a table says how far from the first code of a window each one's is, another what happens after
it (EVENTS).  Everything is in 32-bit lanes.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange

from sim.kernels.ir import I8, I32, I64, call, constant, load, loop, machine_code, offset, registers, splat, store
from sim.kernels.jit import inline, specialize
from sim.kernels.layout import LANES

PIXELS = 4
CONSULT, HAND_ON, CONSULT_LAST = 1, 2, 4
"""EVENTS, in this order: the first register is consulted, it hands on and begins anew, the last one is consulted."""
NONE, WRAP, SATURATE = "none", "wrap", "saturate"
WORDS = ir.VectorType(I32, LANES)


def events_of(products: int, size: int, tile: int, last_tile: int) -> np.ndarray:
    """uint8 [products] for registers of `size` products; a tile of 0 is all that a register ever receives."""
    number = np.arange(products)
    in_group = number % size
    is_end = (in_group == size - 1) | (number == products - 1)
    is_consulted = is_end if tile == 0 else is_end | (in_group % tile == tile - 1)
    handed = np.cumsum(is_end)
    is_last = number == products - 1
    is_told = is_last if last_tile == 0 else is_end & (is_last | (handed % last_tile == 0))
    events: np.ndarray = (CONSULT * is_consulted + HAND_ON * is_end + CONSULT_LAST * is_told).astype(np.uint8)
    return events


def fit(builder: Any, rule: str, total: Any, low: Any, high: Any) -> Any:
    """What a register makes of sums."""
    if rule == WRAP:
        return builder.add(builder.and_(builder.sub(total, low), builder.sub(high, low)), low)
    if rule == SATURATE:
        above = call(builder, f"llvm.smax.v{LANES}i32", WORDS, [total, low])
        return call(builder, f"llvm.smin.v{LANES}i32", WORDS, [above, high])
    return total


def limits_in(builder: Any, limits: Sequence[Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The ends of two registers, four numbers, in every lane."""
    low, high, last_low, last_high = (splat(builder, builder.trunc(value, I32), LANES) for value in limits)
    return (low, high), (last_low, last_high)


def happens(builder: Any, mask: Any, event: int) -> Any:
    """Whether an event is one of those after a product."""
    return builder.icmp_unsigned("!=", builder.and_(mask, ir.Constant(I8, event)), ir.Constant(I8, 0))


def add_to(builder: Any, register: Any, more: Any) -> None:
    """To what a register holds."""
    builder.store(builder.add(builder.load(register), more), register)


def taken(builder: Any, register: Any) -> Any:
    """What a register held; it is 0 then."""
    held = builder.load(register)
    builder.store(ir.Constant(WORDS, None), register)
    return held


class _Registers:
    """Of PIXELS pixels x 16 channels, and what happens to them; `rules` and `ends` are those of the first and the last,
    which are loaded with `begins`."""

    def __init__(self, builder: Any, rules: tuple[str, str], ends: tuple[tuple[Any, Any], tuple[Any, Any]],
                 begins: Sequence[Any]) -> None:
        self.builder, self._rules, self._ends = builder, rules, ends
        self._held, self._waiting, self._last = (registers(builder, WORDS, PIXELS) for _ in range(3))
        self._handed, self._exact, self._flags = (registers(builder, WORDS, PIXELS) for _ in range(3))
        for p in range(PIXELS):
            builder.store(builder.add(*begins), self._exact[p])
            for which, register in enumerate((self._held[p], self._last[p])):
                self._consult(which, register, begins[which], self._flags[p])

    def receive(self, p: int, product: Any, at_once: bool) -> None:
        """A product of a pixel, which waits for the first register unless that takes it `at_once`."""
        add_to(self.builder, self._exact[p], product)
        if at_once:
            self._consult(0, self._held[p], product, self._flags[p])
        else:
            add_to(self.builder, self._waiting[p], product)

    def consult_first(self, p: int) -> None:
        """What waits goes into the first register."""
        self._consult(0, self._held[p], taken(self.builder, self._waiting[p]), self._flags[p])

    def hand_on(self, p: int) -> None:
        """The first register begins anew."""
        add_to(self.builder, self._handed[p], taken(self.builder, self._held[p]))

    def consult_last(self, p: int) -> None:
        """What was handed on goes into the last register."""
        self._consult(1, self._last[p], taken(self.builder, self._handed[p]), self._flags[p])

    def told(self, pixels: int, valid: Any) -> list[Any]:
        """What the last registers hold, and not 0 where outputs overflowed."""
        found = [self.builder.load(last) for last in self._last[:pixels]]
        differs = [self.builder.xor(held, self.builder.load(exact)) for held, exact in zip(found, self._exact, strict=True)]
        return found + [self.builder.or_(self.builder.load(flag), each)
                        for flag, each in zip(self._flags, differs, strict=True)]

    def _consult(self, which: int, register: Any, more: Any, flag: Any) -> None:
        total = self.builder.add(self.builder.load(register), more)
        kept = fit(self.builder, self._rules[which], total, *self._ends[which])
        if self._rules[which] == SATURATE:
            clipped = self.builder.xor(total, kept)
            self.builder.store(self.builder.or_(self.builder.load(flag), clipped), flag)
        self.builder.store(kept, register)


def make_tile(kind: Any, rules: tuple[str, str], pixels: int, every: bool = False) -> Any:
    """tile((addresses, places, w, starts, events, products, low, high, last_low, last_high, valid, out)).

    `addresses` points to the int64 addresses of the first int32 code of so many windows, `places` to int64 [products] bytes,
    `w` to int32 [products, 16], `starts` to int32 [2, 16], what the first and the last register begin with, `out` to
    int32 [told, 16]: what registers of this `kind` tell of all pixels, of which so many are `valid`.  `rules` are those
    of both registers; `every`: the first one is consulted after each product.
    """
    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        addresses, places, w, starts, events, products, *limits, valid, out = arguments
        begins = [load(builder, offset(builder, starts, which, 4 * LANES), WORDS, 4 * LANES) for which in range(2)]
        held = kind(builder, rules, limits_in(builder, limits), begins)
        sources = [load(builder, offset(builder, addresses, p, 8), I64, 8) for p in range(pixels)]
        acts = ((CONSULT, held.consult_first), (HAND_ON, held.hand_on), (CONSULT_LAST, held.consult_last))
        with loop(builder, products) as product:
            weights = load(builder, offset(builder, w, product.index, 4 * LANES), WORDS, 4 * LANES)
            place = load(builder, offset(builder, places, product.index, 8), I64, 8)
            mask = load(builder, builder.add(events, product.index), I8, 1)
            for p, source in enumerate(sources):
                code = splat(builder, load(builder, builder.add(source, place), I32, 4), LANES)
                held.receive(p, builder.mul(code, weights), every)
            for event, act in acts[every:]:
                with builder.if_then(happens(builder, mask, event)):
                    for p in range(pixels):
                        act(p)
        for number, each in enumerate(held.told(pixels, valid)):
            store(builder, each, offset(builder, out, number, 4 * LANES), 4)

    return machine_code(12, emit)


@inline
def aim(addresses: np.ndarray, x: np.ndarray, place: tuple[int, int, int], columns: int, corner: tuple[int, int],
        steps: tuple[int, int]) -> None:
    """Addresses of windows side by side, from `place` (image, row, column) on; beyond the line they are its last one's."""
    n, i, begin = place
    first = x.ctypes.data + n * x.strides[0] + (i * steps[0] + corner[0]) * x.strides[1] + corner[1] * x.strides[2]
    for p in range(len(addresses)):
        addresses[p] = first + min(begin + p, columns - 1) * steps[1] * x.strides[2]


_tile: Any = constant


def _tiled(x: np.ndarray, corner: tuple[int, int], steps: tuple[int, int], tables: Any, limits: Any, sums: np.ndarray,
           counts: np.ndarray) -> None:
    """Codes int32 [N, rows, columns, C] -> what last registers hold, int32 `sums` [N, H, W, Cout].

    `tables` are (places, weights int32 [blocks, products, 16], starts int32 [blocks, 2, 16], events), `limits` the
    ends of both registers; `counts` int32 [N * H, Cout] receives how many outputs of a line overflowed.
    """
    images, rows, columns, channels = sums.shape
    places, weights, starts, events = tables
    low, high, last_low, last_high = limits
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        counts[line] = np.int32(0)
        addresses = np.empty(PIXELS, np.int64)
        found = np.empty((2, PIXELS, LANES), np.int32)
        for block in range(len(weights)):
            channel = block * LANES
            for begin in range(0, columns, PIXELS):
                aim(addresses, x, (n, i, begin), columns, corner, steps)
                _tile((addresses.ctypes.data, places.ctypes.data, weights[block].ctypes.data, starts[block].ctypes.data,
                       events.ctypes.data, len(places), low, high, last_low, last_high, PIXELS, found.ctypes.data))
                for p in range(min(PIXELS, columns - begin)):
                    for c in range(min(LANES, channels - channel)):
                        sums[n, i, begin + p, channel + c] = found[0, p, c]
                        counts[line, channel + c] += np.int32(found[1, p, c] != 0)


@cache
def tiled(rules: tuple[str, str], every: bool) -> Any:
    """The loop for registers of these rules; `every`: the first one is consulted after each product."""
    name = f"stages_{'_'.join(rules)}{'_each' if every else ''}"
    return specialize(_tiled, name, _tile=make_tile(_Registers, rules, PIXELS, every))
