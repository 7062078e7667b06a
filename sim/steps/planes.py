"""Which convolutions run on bit planes, and what their kernels (kernels/planes.py) want to know."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.kernels import planes, planes_lines
from sim.kernels.finish import Ending
from sim.kernels.ir import aligned
from sim.kernels.isa import has_bit_counts
from sim.kernels.layout import Layout
from sim.kernels.lines import TOGETHER
from sim.kernels.planes import Form
from sim.lazy import cached_property

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.ops.conv import ConvOp

MOST_PAIRS = 4
"""Planes of codes times digits of weights: more products of bits than that cost more than one product of bytes."""
WIDEST = 256
"""Channels of a part: the rows that it reads are packed once for all of them."""


class Plan:
    """How one convolution runs on bit planes."""

    def __init__(self, op: "ConvOp", digits: planes.Digits) -> None:
        self.op = op
        columns, depth = op.weights.shape[1:3]
        self.bits = planes.pixel_bits(depth)
        most = (2**op.operand.bits - 1) * digits.reach * op.weights[..., 0].size
        is_paired = self.bits == planes.HALF and op.stride == 1 and op.shape[1] >= 2 and most < 2**16
        pixels, blocks = _tile(op, digits, is_paired)
        self.form = Form(pixels, blocks, op.operand.bits, digits, is_paired,
                         not is_paired and columns * self.bits % planes.WORD > 0)

    @classmethod
    def of(cls, op: "ConvOp") -> "Plan | None":
        """None where the path cannot run it: other widths, groups, registers for which the order of products matters."""
        register = op.accumulator.range
        is_late = op.accumulator.is_whole(op.weights[..., 0].size)
        if not has_bit_counts() or op.groups > 1 or op.operand.bits > MOST_PAIRS \
                or (register is not None and register.bits < op.safe_bits and not is_late):
            return None
        digits = planes.digits_of(op.weights)
        return None if digits is None or op.operand.bits * len(digits.exponents) > MOST_PAIRS else cls(op, digits)

    @cached_property
    def layout(self) -> Layout:
        """Parts of many tiles, as kernels pack the codes of a line once for each."""
        channels, tile = self.op.shape[2], self.form.channels
        width = min(WIDEST, -(-channels // tile) * tile)
        parts = [(0, first, min(width, channels - first)) for first in range(0, channels, width)]
        return Layout(np.array(parts, np.int64), width, 1, self.op.weights.shape[1] * self.op.weights.shape[2])

    def operands(self) -> tuple[Any, ...]:
        """(weights, constants, geometry, packing, memory of planes) as planes_lines wants them, all in one row."""
        op, layout, form = self.op, self.layout, self.form
        rows, columns, depth, _ = op.weights.shape
        channels = len(layout.parts) * layout.width
        words = aligned(planes.pack(op.weights, form, channels))
        base = aligned(planes.constants(op.weights, form, channels, op.operand.signed))
        pixel = self.bits // 8
        steps = columns if form.is_paired else columns * self.bits // planes.WORD
        geometry = rows, op.padding, steps, pixel if form.is_paired else planes.WORD // 8, pixel
        pixels = (op.shape[1] - 1) * op.stride + columns
        registers = -(-pixels * depth // planes.BYTES)
        pitch = -(-pixels * pixel // 8) * 8
        capacity = (TOGETHER - 1) * op.stride + rows
        plane = (capacity + 1) * pitch + 8  # what is stored and read behind the last row
        packing = capacity, pitch, registers if self.is_whole else pixels, depth
        return words, base, *geometry, *packing, form.planes, plane

    @property
    def is_whole(self) -> bool:
        """Whether the channels of a pixel fill its bits."""
        return self.op.weights.shape[2] == self.bits

    def line(self, ending: Ending | None = None) -> "Callable[..., None]":
        """Lines of sums, or to codes."""
        compiled: Callable[..., None] = planes_lines.line(self.form, self.op.operand.signed, self.is_whole, ending)
        return compiled


def _tile(op: "ConvOp", digits: planes.Digits, is_paired: bool) -> tuple[int, int]:
    """Pixels (or pairs) and blocks of a tile, as many as registers allow."""
    levels = op.operand.bits + max(digits.exponents)
    channels, columns = op.shape[2], op.shape[1] // (1 + is_paired)
    most = 24 // levels if levels > 1 else 16
    blocks = 1 if channels <= 16 else 2
    if levels == 1 and channels > 32:
        blocks = 4
    pixels = most // blocks
    pixels = next(p for p in (8, 7, 6, 4, 3, 2, 1) if p <= min(pixels, columns))
    return pixels, blocks
