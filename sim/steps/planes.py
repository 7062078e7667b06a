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
    from sim.ops.conv import ConvOp
    from sim.ops.requantize import TableOp

MOST_PAIRS = 4
"""Planes of codes times digits of weights: more products of bits than that cost more than one product of bytes."""
BYTE_CODES = 256
ROOM = 16 << 10
"""Bytes of planes that a thread packs at once, if that makes no fewer than TOGETHER lines."""


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
        """None where the path cannot run it: other widths, groups, borders that are not 0, an order that matters."""
        register = op.accumulator.range
        is_late = op.accumulator.is_whole(op.weights[..., 0].size)
        if not has_bit_counts() or op.groups > 1 or op.operand.bits > MOST_PAIRS or op.operand_zero or op.start is not None \
                or (register is not None and register.bits < op.safe_bits and not is_late):
            return None
        digits = planes.digits_of(op.weights)
        return None if digits is None or op.operand.bits * len(digits.exponents) > MOST_PAIRS else cls(op, digits)

    @cached_property
    def layout(self) -> Layout:
        """One part of all tiles: codes are packed once for all of them."""
        channels, tile = self.op.shape[2], self.form.channels
        taps = self.op.weights.shape[1] * self.op.weights.shape[2]
        return Layout(np.array([[0, 0, channels]], np.int64), -(-channels // tile) * tile, 1, taps)

    def operands(self, thresholds: np.ndarray | None) -> tuple[Any, ...]:
        """(weights, constants, thresholds, geometry, packing) as planes_lines wants them, all in one row."""
        op, form = self.op, self.form
        rows, columns, depth, _ = op.weights.shape
        words = aligned(planes.pack(op.weights, form, self.layout.width))
        base = aligned(planes.constants(op.weights, form, self.layout.width, op.operand.signed))
        pixel = self.bits // 8
        steps = columns if form.is_paired else columns * self.bits // planes.WORD
        pixels = (op.shape[1] - 1) * op.stride + columns
        pitch = -(-pixels * pixel // 8) * 8
        chunk = min(max(ROOM // (pitch * op.stride * form.planes), TOGETHER), op.shape[0])
        step = pixel if form.is_paired else planes.WORD // 8
        whole = depth == self.bits  # one long pixel
        packing = (1, pixels * depth) if whole else (pixels, depth)
        flip = 1 << (form.planes - 1) if op.operand.signed else 0
        limits = np.zeros(1, np.uint8) if thresholds is None else thresholds
        return words, base, limits, rows, op.padding, steps, step, pixel, form.planes, chunk, pitch, *packing, flip

    def loop(self, through_table: bool, ending: Ending | None = None, **callees: Any) -> Any:
        """Over lines of sums, or with an `ending` to codes."""
        return planes_lines.loop_of(self.form, through_table, ending, **callees)

    def thresholds(self, table: "TableOp") -> np.ndarray | None:
        """The bytes above which a table takes its steps; None if it does more than rise from 0, which packing can do."""
        wide = table.table.astype(np.int64)
        steps = wide[1:] - wide[:-1]
        most = (1 << self.form.planes) - 1
        if table.least or table.zero_point or table.table.dtype != np.uint8 or len(table.table) > BYTE_CODES \
                or self.op.operand.signed or table.table[0] or steps.min(initial=0) < 0 or steps.sum() > most:
            return None
        above = np.repeat(np.arange(len(steps)), steps)
        return np.pad(above, (0, most - len(above)), constant_values=BYTE_CODES - 1).astype(np.uint8)


def _tile(op: "ConvOp", digits: planes.Digits, is_paired: bool) -> tuple[int, int]:
    """Pixels (or pairs of them) and blocks of a tile: what was fastest of all that fit registers, few shapes in all."""
    levels = op.operand.bits + max(digits.exponents)
    channels, columns = op.shape[2], op.shape[1] // (1 + is_paired)
    if levels == 1:
        pixels, blocks = (8, 1) if channels <= 16 else (8, 2) if channels <= 32 else (4, 4)
    else:
        pixels, blocks = (8 if levels == 2 else 4, 1) if channels <= 16 or levels > 3 else (4, 2)
    if columns % 7 == 0 and columns % pixels != 0 and levels <= 3:  # those of ImageNet networks
        pixels, blocks = 7, min(blocks, 2) if levels == 1 else 1
    return (pixels if columns >= pixels else 1), blocks
