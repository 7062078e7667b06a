"""Saturating registers watched in stages: whether any order of the next products could take one out of its range.

A stage is some products in the order of contract C7.  No product of a stage adds more than its largest possible value, so a
register that begins the stage far enough from its limits is never clipped in it, whatever the codes are.  Where every stage
began so, the register held the exact sum all along; where one did not, the output is flagged, and replay.py looks at it.

Comparing the running sums of a tile with limits costs a few instructions for 16 channels of a pixel and stage.  The two sums
of products of either sign, the other screen, cost a second multiplication of everything and flag far more.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sim.formats import IntFormat
from sim.kernels.ir import I8, aligned, call, load, offset, store
from sim.kernels.jit import inline
from sim.kernels.layout import LANES, Layout, arrange

ARGUMENTS = 3
"""(limits, flags, their stride): of a tile that is watched, before those of its end.

`limits` are the address of int32 [stages, 3, channels]: lowest and highest sum with which a stage may begin, and between
them the distance of the two, as unsigned numbers.  `flags` uint8 [pixels, blocks of 16 channels], `stride` bytes from pixel
to pixel, become 1 where a stage began outside.
"""
_NEVER = 2**31 - 1
"""A limit for stages that no sum may begin: none is that large."""
_SHARE = 8
"""A stage may move a register by one such part of its range: longer ones flag too much, shorter ones cost too much."""


def divide_stages(weights: np.ndarray, layout: Layout, quad: int, operand: IntFormat,
                  register: IntFormat) -> tuple[int, np.ndarray] | None:
    """(quads of a stage, limits int32 [parts, stages, 3, width]) for weights [KH, KW, C, Cout] without groups.

    A stage is a divisor of a row of products, in units of `quad` products.  None where half of all blocks of channels or
    more would be flagged whatever the codes, and where a sum with its surplus could pass for _NEVER.
    """
    sign = 128 if operand.signed else 0
    largest = max(operand.max, -operand.min) + sign
    if largest * int(np.abs(weights.astype(np.int64)).sum((0, 1, 2)).max()) >= _NEVER:
        return None
    run = arrange(weights, layout, quad)
    parts, rows, length, width = run.shape
    products = run.reshape(parts, rows * length // quad, quad, width)
    ends = products * operand.min, products * operand.max
    least, most = np.minimum(np.minimum(*ends), 0).sum(2), np.maximum(np.maximum(*ends), 0).sum(2)
    surplus = sign * products.sum(2)
    typical = (most - least).sum() / (least[0, :, 0].size * weights.shape[3])
    longest = (register.max - register.min) / _SHARE / max(typical, 1)
    quads = length // quad
    size = max(size for size in range(1, quads + 1) if quads % size == 0 and (size == 1 or size <= longest))
    least, most, surplus = (each.reshape(parts, -1, size, width).sum(2) for each in (least, most, surplus))
    before = surplus.cumsum(1) - surplus
    low, high = register.min - least, register.max - most
    is_hopeless = low > high
    by_block = is_hopeless.any(1).reshape(parts, -1, LANES).any(-1)
    used = np.arange(0, width, LANES) < layout.parts[:, 2:]
    if 2 * by_block[used].sum() >= used.sum():
        return None
    lowest, highest = (np.where(is_hopeless, _NEVER, limit + before) for limit in (low, high))
    limits = np.stack([lowest, highest - lowest, highest], 2)
    return size, aligned(limits.astype(np.int32))


@inline
def watch(limits: np.ndarray, part: int, stage: int, flags: np.ndarray, end: Any) -> Any:
    """What a watched tile that begins with some stage needs, (limits, flags, their stride, what its end needs): addresses.

    `flags` are uint8 [pixels, blocks of 16 channels].
    """
    return (limits.ctypes.data + part * limits.strides[0] + stage * limits.strides[1], flags.ctypes.data, flags.strides[0],
            end)


def emit_watch(builder: Any, sums: Sequence[Sequence[Any]], limits: Any, flags: Any, stride: Any) -> None:
    """Flag where registers of sums [pixels][blocks] are outside the limits at an address."""
    kind = sums[0][0].type.pointee
    lanes, blocks = kind.count, len(sums[0])
    outside = None
    for b in range(blocks):
        lowest, distance = (_limit(builder, limits, which, b, blocks, kind) for which in (0, 1))
        farthest = None
        for pixel in sums:
            above = builder.sub(builder.load(pixel[b]), lowest)
            farthest = above if farthest is None else call(builder, f"llvm.umax.v{lanes}i32", kind, [above, farthest])
        beyond = builder.icmp_unsigned(">", farthest, distance)
        outside = beyond if outside is None else builder.or_(outside, beyond)
    with builder.if_then(_any(builder, outside), likely=False):
        for b in range(blocks):
            distance, highest = (_limit(builder, limits, which, b, blocks, kind) for which in (1, 2))
            for p, pixel in enumerate(sums):
                # not the difference from the lowest again: LLVM would keep all of those for here
                below = builder.sub(highest, builder.load(pixel[b]))
                address = offset(builder, offset(builder, flags, p, stride), b * lanes // LANES, 1)
                found = builder.zext(_any(builder, builder.icmp_unsigned(">", below, distance)), I8)
                store(builder, builder.or_(load(builder, address, I8, 1), found), address, 1)


def _limit(builder: Any, limits: Any, which: int, block: int, blocks: int, kind: Any) -> Any:
    return load(builder, offset(builder, limits, which * blocks + block, 4 * kind.count), kind, 4)


def stage_bytes(blocks: int, lanes: int) -> int:
    """Of the limits of one stage."""
    return 3 * 4 * blocks * lanes


def _any(builder: Any, bits: Any) -> Any:
    """Whether any lane is true."""
    number = ir.IntType(bits.type.count)
    return builder.icmp_unsigned("!=", builder.bitcast(bits, number), ir.Constant(number, 0))
