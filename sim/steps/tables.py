"""Which convolutions run by tables of bytes, and what their kernels (kernels/tables.py) want to know."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.kernels import tables, tables_lines
from sim.kernels.finish import Ending
from sim.kernels.ir import aligned
from sim.kernels.isa import has_byte_tables
from sim.kernels.layout import LANES, Layout
from sim.kernels.lines import TOGETHER
from sim.kernels.planes import Digits, digits_of
from sim.kernels.tables import BYTES, GROUP, TABLE, Form
from sim.lazy import cached_property

if TYPE_CHECKING:
    from sim.ops.conv import ConvOp

MOST_BITS = 4
"""Of codes: of wider ones bytes hold no more than two sums of four."""
ROOM = 128 << 10
"""Bytes of tables that a thread makes at once, if that makes no fewer than TOGETHER lines."""


class Plan:
    """How one convolution runs by tables."""

    def __init__(self, op: "ConvOp", digits: Digits) -> None:
        self.op = op
        rows, columns, depth, _ = op.weights.shape
        self.steps = -(-columns * tables.groups_of(depth) // 2)
        """Of a row of a window."""
        self.run = tables.lookups_that_fit(2**op.operand.bits - 1)
        self.most = digits.reach * GROUP * (2**op.operand.bits - 1) * rows * self.steps
        """No sum of a word passes it."""
        self.form = Form(*_tile(op, digits), digits, rows * self.steps > self.run, op.operand.signed)

    @classmethod
    def of(cls, op: "ConvOp") -> "Plan | None":
        """None where the path cannot run it: other widths, groups, borders that are not 0, an order that matters, sums of
        digits beyond 16 bits."""
        register = op.accumulator.range
        is_late = op.accumulator.is_whole(op.weights[..., 0].size)
        if not has_byte_tables() or op.groups > 1 or op.operand.bits > MOST_BITS or op.operand_zero or op.start is not None \
                or (register is not None and register.bits < op.safe_bits and not is_late):
            return None
        digits = digits_of(op.weights)
        plan = None if digits is None else cls(op, digits)
        return None if plan is None or plan.most > tables.MOST_WORD else plan

    @cached_property
    def layout(self) -> Layout:
        """One part of all tiles: tables are made once for all of them."""
        channels, tile = self.op.shape[2], max(self.form.channels, LANES)
        taps = self.op.weights.shape[1] * self.op.weights.shape[2]
        return Layout(np.array([[0, 0, channels]], np.int64), -(-channels // tile) * tile, 1, taps)

    def operands(self) -> tuple[Any, ...]:
        """(indices, constants, offsets, geometry, packing) as tables_lines wants them, all in one row."""
        op = self.op
        rows, columns, depth, _ = op.weights.shape
        lift = 1 << (op.operand.bits - 1) if op.operand.signed else 0
        index = aligned(tables.pack(op.weights, self.form, self.layout.width))
        base = aligned(tables.constants(op.weights, self.layout.width, lift))
        pixel = tables.groups_of(depth) * TABLE
        pixels = (op.shape[1] - 1) * op.stride + columns
        pitch = pixels * pixel
        offsets = (pitch * np.arange(rows)[:, None] + BYTES * np.arange(self.steps)).reshape(-1)
        chunk = min(max(ROOM // (pitch * op.stride), TOGETHER), op.shape[0])
        build = (1, pixels * depth) if depth % GROUP == 0 else (pixels, depth)  # one long pixel
        return (index, base, offsets.astype(np.int64), rows, self.steps, op.padding, self.run, pixel, chunk, pitch, pixels,
                build, depth, lift)

    def loop(self, ending: Ending | None = None, **callees: Any) -> Any:
        """Over lines of sums, or with an `ending` to codes."""
        return tables_lines.loop_of(self.form, self.op.weights.shape[1], ending, **callees)


def _tile(op: "ConvOp", digits: Digits) -> tuple[int, int]:
    """Pixels and units of a tile: the first, or what computes fewer pixels twice, of what was fastest; few shapes in all."""
    columns, channels, of_unit = op.shape[1], op.shape[2], LANES // len(digits.exponents)
    if of_unit == LANES and -(-channels // LANES) % 2 == 1:  # of two units one would have no channels
        shapes = [(8, 1), (4, 1)]
    else:
        shapes = [(4, 2), (2, 4)] if channels % (4 * of_unit) == 0 else [(4, 2)]
    fitting = [shape for shape in shapes if shape[0] <= columns] or [(1, shapes[0][1])]
    return min(fitting, key=lambda shape: -(-columns // shape[0]) * shape[0])
