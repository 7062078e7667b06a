"""What lookups (tables.py) want of codes: tables of the sums of all subsets of four, and sums of pixels and of windows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I8, I32, I64, call, constant, every, load, loop, machine_code, offset, registers, splat, store
from sim.kernels.tables import BYTES, GROUP, NOTHING, TABLE, TABLES, WORDS, look_up

_HALF, _SUMS, _QUADS = ir.VectorType(I8, TABLE), ir.VectorType(I32, BYTES // 4), ir.VectorType(I64, BYTES // 8)


def make_builder() -> Callable[..., None]:
    """Codes to tables: build((codes, target, count, channels, lift)), as machine code.

    `count` pixels of so many channels, each of which begins a new table.  `lift` is added to each code first.  16 codes are
    made 4 tables at once: a lane has codes of two groups, each beside the sums of its first two and its last two codes, and
    an entry is one of the first (or none) and one of the last.  What lies behind a pixel is written now and again with the
    next one.
    """
    dwords = 2 * np.arange(4)[:, None] + [0, 9]  # of codes, and of sums, which have moved to the next one

    def entries(group: int, last: int) -> Any:
        """Which bytes of a lane of (4 codes, 4 sums) x 2 entries 0 .. 15 take; the last two codes are bits 2 and 3."""
        choices = np.array([NOTHING, *(8 * group + (np.array([2, 3, 6]) if last else np.array([0, 1, 4])))])
        return ir.Constant(TABLES, 2 * choices[np.arange(TABLE) >> 2 * last & 3].tolist())

    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        codes, target, count, channels, lift = arguments
        lifts = splat(builder, builder.trunc(lift, I8), BYTES)
        steps = builder.lshr(builder.add(channels, constant(TABLE - 1)), constant(4))
        tables = builder.lshr(builder.add(channels, constant(GROUP - 1)), constant(2))
        with loop(builder, count) as pixel:
            here = offset(builder, codes, pixel.index, channels)
            there = offset(builder, target, pixel.index, builder.shl(tables, constant(4)))
            with loop(builder, steps) as step:
                at, place = offset(builder, here, step.index, TABLE), offset(builder, there, step.index, 2 * BYTES)
                lanes = [load(builder, offset(builder, at, lane, GROUP), _HALF, 1) for lane in range(2)]
                found = builder.shuffle_vector(*lanes, ir.Constant(ir.VectorType(I32, BYTES), list(range(BYTES))))
                found = builder.add(found, lifts)
                next_ones = builder.bitcast(builder.lshr(builder.bitcast(found, WORDS), every(8, WORDS)), TABLES)
                pairs = builder.shl(builder.bitcast(builder.add(found, next_ones), _QUADS), every(32, _QUADS))
                mixed = builder.bitcast(builder.shuffle_vector(
                    builder.bitcast(found, _SUMS), builder.bitcast(pairs, _SUMS),
                    ir.Constant(_SUMS, dwords.reshape(-1).tolist())), TABLES)
                for group in range(2):
                    entry = builder.add(*(look_up(builder, mixed, entries(group, last)) for last in (0, 1)))
                    store(builder, entry, offset(builder, place, group, BYTES), 1)

    return machine_code(5, emit)


def make_pixel_sums() -> Callable[..., None]:
    """Codes to their sums, int32 of each pixel: sums((codes, target, count, channels, lift)), as machine code."""
    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        codes, target, count, channels, lift = arguments
        lifts = splat(builder, builder.trunc(lift, I8), BYTES)
        full = builder.lshr(builder.sub(channels, constant(1)), constant(5))
        rest = splat(builder, builder.trunc(builder.sub(channels, builder.shl(full, constant(5))), I8), BYTES)
        mask = builder.sext(builder.icmp_unsigned("<", ir.Constant(TABLES, list(range(BYTES))), rest), TABLES)
        total = registers(builder, _QUADS)

        def emit_register(at: Any, kept: Any) -> None:
            found = builder.add(load(builder, at, TABLES, 1), lifts)
            found = found if kept is None else builder.and_(found, kept)
            more = call(builder, "llvm.x86.avx2.psad.bw", _QUADS, [found, ir.Constant(TABLES, None)])
            builder.store(builder.add(builder.load(total), more), total)

        with loop(builder, count) as pixel:
            here = offset(builder, codes, pixel.index, channels)
            builder.store(ir.Constant(_QUADS, None), total)
            with loop(builder, full) as step:
                emit_register(offset(builder, here, step.index, BYTES), None)
            emit_register(offset(builder, here, full, BYTES), mask)
            whole = call(builder, f"llvm.vector.reduce.add.v{_QUADS.count}i64", I64, [builder.load(total)])
            store(builder, builder.trunc(whole, I32), offset(builder, target, pixel.index, 4), 4)

    return machine_code(5, emit)


def make_window_sums(columns: int, factor: int) -> Callable[..., None]:
    """Sums of pixels to `factor` times those of windows of so many columns: sums((pixels, pitch, rows, count, target)).

    `pixels` points to int32 of the first row, the rows `pitch` bytes apart; `count` windows begin in neighboring pixels.
    """
    def emit(builder: Any, arguments: Sequence[Any]) -> None:
        pixels, pitch, rows, count, target = arguments
        total = registers(builder, _SUMS)
        with loop(builder, builder.lshr(builder.add(count, constant(7)), constant(3))) as step:
            here = offset(builder, pixels, step.index, BYTES)
            builder.store(ir.Constant(_SUMS, None), total)
            with loop(builder, rows) as row:
                at = offset(builder, here, row.index, pitch)
                for column in range(columns):
                    more = load(builder, offset(builder, at, column, 4), _SUMS, 4)
                    builder.store(builder.add(builder.load(total), more), total)
            whole = builder.mul(builder.load(total), every(factor, _SUMS))
            store(builder, whole, offset(builder, target, step.index, BYTES), 4)

    return machine_code(5, emit)
