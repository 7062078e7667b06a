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
from sim.kernels.jit import specialize
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


def _make_tile(rules: tuple[str, str], every: bool) -> Any:
    """tile((addresses, places, w, events, products, low, high, last_low, last_high, out)).

    `addresses` points to the int64 addresses of the first int32 code of PIXELS windows, `places` to int64 [products] bytes,
    `w` to int32 [products, 16], `out` to int32 [2, PIXELS, 16]: what last registers hold, and not 0 where an output
    overflowed.  `rules` are those of both registers; `every`: the first one is consulted after each product.
    """
    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        addresses, places, w, events, products, *limits, out = arguments
        first_ends, last_ends = limits_in(builder, limits)
        held, waiting, last, handed, exact, flags = (registers(builder, WORDS, PIXELS) for _ in range(6))
        sources = [load(builder, offset(builder, addresses, p, 8), I64, 8) for p in range(PIXELS)]
        zero = ir.Constant(WORDS, None)

        def consult(rule: str, register: Any, more: Any, ends: tuple[Any, Any], flag: Any) -> None:
            total = builder.add(builder.load(register), more)
            kept = fit(builder, rule, total, *ends)
            if rule == SATURATE:
                builder.store(builder.or_(builder.load(flag), builder.xor(total, kept)), flag)
            builder.store(kept, register)

        def at_event(event: int, act: Any) -> None:
            with builder.if_then(happens(builder, mask, event)):
                for p in range(PIXELS):
                    act(p)

        def consult_first(p: int) -> None:
            consult(rules[0], held[p], builder.load(waiting[p]), first_ends, flags[p])
            builder.store(zero, waiting[p])

        def hand_on(p: int) -> None:
            builder.store(builder.add(builder.load(handed[p]), builder.load(held[p])), handed[p])
            builder.store(zero, held[p])

        def consult_last(p: int) -> None:
            consult(rules[1], last[p], builder.load(handed[p]), last_ends, flags[p])
            builder.store(zero, handed[p])

        with loop(builder, products) as product:
            weights = load(builder, offset(builder, w, product.index, 4 * LANES), WORDS, 4 * LANES)
            place = load(builder, offset(builder, places, product.index, 8), I64, 8)
            mask = load(builder, builder.add(events, product.index), I8, 1)
            for p, source in enumerate(sources):
                code = splat(builder, load(builder, builder.add(source, place), I32, 4), LANES)
                more = builder.mul(code, weights)
                builder.store(builder.add(builder.load(exact[p]), more), exact[p])
                if every:
                    consult(rules[0], held[p], more, first_ends, flags[p])
                else:
                    builder.store(builder.add(builder.load(waiting[p]), more), waiting[p])
            if not every:
                at_event(CONSULT, consult_first)
            at_event(HAND_ON, hand_on)
            at_event(CONSULT_LAST, consult_last)
        for p in range(PIXELS):
            found = builder.load(last[p])
            wrong = builder.or_(builder.load(flags[p]), builder.xor(found, builder.load(exact[p])))
            store(builder, found, offset(builder, out, p, 4 * LANES), 4)
            store(builder, wrong, offset(builder, out, PIXELS + p, 4 * LANES), 4)

    return machine_code(10, emit)


_tile: Any = constant


def _tiled(x: np.ndarray, corner: tuple[int, int], steps: tuple[int, int], tables: Any, limits: Any, sums: np.ndarray,
           counts: np.ndarray) -> None:
    """Codes int32 [N, rows, columns, C] -> what last registers hold, int32 `sums` [N, H, W, Cout].

    `tables` are (places, weights int32 [blocks, products, 16], events), `limits` the ends of both registers; `counts` int32
    [N * H, Cout] receives how many outputs of a line overflowed.
    """
    images, rows, columns, channels = sums.shape
    places, weights, events = tables
    low, high, last_low, last_high = limits
    for line in prange(images * rows):
        n, i = line // rows, line % rows
        counts[line] = np.int32(0)
        addresses = np.empty(PIXELS, np.int64)
        found = np.empty((2, PIXELS, LANES), np.int32)
        first = x.ctypes.data + n * x.strides[0] + (i * steps[0] + corner[0]) * x.strides[1] + corner[1] * x.strides[2]
        for block in range(len(weights)):
            channel = block * LANES
            for begin in range(0, columns, PIXELS):
                for p in range(PIXELS):
                    addresses[p] = first + min(begin + p, columns - 1) * steps[1] * x.strides[2]
                _tile((addresses.ctypes.data, places.ctypes.data, weights[block].ctypes.data, events.ctypes.data,
                       len(places), low, high, last_low, last_high, found.ctypes.data))
                for p in range(min(PIXELS, columns - begin)):
                    for c in range(min(LANES, channels - channel)):
                        sums[n, i, begin + p, channel + c] = found[0, p, c]
                        counts[line, channel + c] += np.int32(found[1, p, c] != 0)


@cache
def tiled(rules: tuple[str, str], every: bool) -> Any:
    """The loop for registers of these rules; `every`: the first one is consulted after each product."""
    name = f"stages_{'_'.join(rules)}{'_each' if every else ''}"
    return specialize(_tiled, name, _tile=_make_tile(rules, every))
