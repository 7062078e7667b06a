"""Sums of chosen products of a window, those above and those below 0 apart, for all pixels of a line.

No sum on the way, in whatever order, leaves what lies between the two.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.kernels.ir import I8, I32, I64, aligned, call, load, loop, machine_code, offset, registers, splat, store

WIDTH = 16
"""Neighboring bytes that are multiplied together."""
_CODES, _WORDS = ir.VectorType(I8, WIDTH), ir.VectorType(I32, WIDTH)


def pack_products(places: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products as few runs of WIDTH bytes: of codes at these distances (bytes, int [products]) from a window's first one.

    Gives the distance of each run, int64 [runs], and the weight of each byte, int32 [runs, WIDTH], 0 where there is none.
    """
    order = np.argsort(places)
    begins: list[int] = []
    for place in places[order].tolist():
        if not begins or place >= begins[-1] + WIDTH:
            begins.append(place)
    run = np.searchsorted(begins, places, side="right") - 1
    packed = np.zeros((len(begins), WIDTH), np.int32)
    packed[run, places - np.array(begins, np.int64)[run]] = weights
    return np.array(begins, np.int64), packed


def join(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Several of them one behind the other: where each begins int64 [parts + 1], and all runs."""
    firsts = np.cumsum([0, *(len(begins) for begins, _ in parts)]).astype(np.int64)
    return firsts, np.concatenate([begins for begins, _ in parts]), aligned(np.concatenate([packed for _, packed in parts]))


def _emit(builder: Any, arguments: Sequence[Any]) -> None:
    x, stride, columns, begins, weights, runs, sign, above, below = arguments
    zero = ir.Constant(_WORDS, None)
    signs = splat(builder, builder.trunc(sign, I32), WIDTH)
    with loop(builder, columns) as column:
        pixel = offset(builder, x, column.index, stride)
        sums = registers(builder, _WORDS, 2)
        with loop(builder, runs) as run:
            begin = load(builder, offset(builder, begins, run.index, 8), I64, 8)
            codes = builder.zext(load(builder, builder.add(pixel, begin), _CODES, 1), _WORDS)
            codes = builder.sub(builder.xor(codes, signs), signs)
            products = builder.mul(codes, load(builder, offset(builder, weights, run.index, 4 * WIDTH), _WORDS, 4))
            for total, name in zip(sums, ("smax", "smin"), strict=True):
                more = call(builder, f"llvm.{name}.v{WIDTH}i32", _WORDS, [products, zero])
                builder.store(builder.add(builder.load(total), more), total)
        for total, out in zip(sums, (above, below), strict=True):
            found = call(builder, f"llvm.vector.reduce.add.v{WIDTH}i32", I32, [builder.load(total)])
            store(builder, found, offset(builder, out, column.index, 4), 4)


reach = machine_code(9, _emit)
"""reach((x, stride, columns, begins, weights, runs, sign, above, below)): of windows that begin at the address x and every
`stride` bytes after it, the sums of products above and below 0, int32 [columns] each.

`begins` and `weights` are the addresses of so many `runs`; codes are bytes with a `sign` bit (0: unsigned).
"""
