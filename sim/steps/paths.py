"""Kernel paths of convolutions: ways to compute exact sums of bytes or bits.

Each, a row of `PATHS`, says whether it can do a convolution, packs the weights into `operands`, and names the compiled
function that computes a line of sums from them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.formats import EXACT_FLOAT32
from sim.kernels import amx, amx_lines, blocks, depthwise, depthwise_vnni, shorts, vnni, vnni_lines
from sim.kernels.finish import Ending
from sim.kernels.ir import aligned
from sim.kernels.isa import AMX, AMX_EMULATED, AVX_VNNI, PLAIN, PORTABLE, VNNI, has_byte_pairs
from sim.kernels.layout import LANES, Layout, divide
from sim.kernels.lines import conv_codes, conv_direct, depart, driver, stay
from sim.kernels.overflow import CLIP, WRAP
from sim.kernels.stages import divide_stages
from sim.steps.choice import PLANES, TABLES
from sim.steps.planes import Plan
from sim.steps.tables import Plan as TablePlan

if TYPE_CHECKING:
    from sim.ops.conv import ConvOp


@dataclass(frozen=True)
class KernelPath:
    """`layout(op)` is None where this path cannot run the operation; `line` compiles when it is first called.

    `enter(operands)` gives a thread the operands for some lines, `leave` is what it does after them.  `to_codes(op, layout,
    ending, is_watched)` is a line that goes on to codes in registers, if the path has that; it writes so many channels
    together as `registers` says.

    Some paths can watch saturating registers in stages: `stages(op, layout, operands)` gives the operands for that and the
    limits, or None where watching is no use; `watched` is a line of sums, on instructions of so many `lanes`.

    Some have registers of their own: `counted(op, layout)` is a line of what these hold, which counts overflowed outputs, as
    a line to codes does.

    `screens`: two passes of its sums, which tell where registers may clip, take less time than the fastest replay.
    """

    name: str
    layout: Callable[["ConvOp"], Layout | None]
    operands: Callable[["ConvOp", np.ndarray, Layout], tuple[Any, ...]]
    line: Callable[..., None]
    enter: Callable[..., Any] = stay
    leave: Callable[..., None] = depart
    to_codes: Callable[["ConvOp", Layout, Ending, bool], Callable[..., None]] | None = None
    registers: Callable[[Layout], int] = attrgetter("width")
    stages: Callable[["ConvOp", Layout, tuple[Any, ...]], tuple[Any, ...] | None] | None = None
    watched: Callable[..., None] = stay
    lanes: int = LANES
    counted: Callable[["ConvOp", Layout], Callable[..., None]] | None = None
    screens: bool = True

    def run(self, template: Callable[..., None], **callees: Callable[..., None]) -> Any:
        """The compiled loop `template` over lines of this path."""
        return driver(template, enter=self.enter, line=self.line, leave=self.leave, **callees)

    def sums_loop(self, op: "ConvOp", **callees: Any) -> Any:
        """The loop that makes sums and hands them to "limit" and "codes"."""
        return self.run(conv_codes, **callees)

    def codes_loop(self, op: "ConvOp", layout: Layout, ending: Ending) -> Any:
        """The loop from codes to codes in registers; None if there is none."""
        return None if self.to_codes is None else driver(conv_direct, line=self.to_codes(op, layout, ending, False))


@dataclass(frozen=True)
class BitPath(KernelPath):
    """Bit planes, whose loops pack the codes of several lines at once, from behind a table if there are `thresholds`."""

    thresholds: np.ndarray | None = None

    def sums_loop(self, op: "ConvOp", **callees: Any) -> Any:
        """As above."""
        return plan_of(op).loop(self.thresholds is not None, **callees)

    def codes_loop(self, op: "ConvOp", layout: Layout, ending: Ending) -> Any:
        """As above."""
        return plan_of(op).loop(self.thresholds is not None, ending)


@dataclass(frozen=True)
class TablePath(KernelPath):
    """Tables of bytes, whose loops make those of several lines at once."""

    def sums_loop(self, op: "ConvOp", **callees: Any) -> Any:
        """As above."""
        return _table_plan(op).loop(**callees)

    def codes_loop(self, op: "ConvOp", layout: Layout, ending: Ending) -> Any:
        """As above; None where some channels of registers are not written, which with AVX2 alone goes byte by byte."""
        return None if ending.partial else _table_plan(op).loop(ending)


def whole_sums(op: "ConvOp") -> str:
    """What limited registers do with whole sums, WRAP or CLIP; "" if they clip on the way to them."""
    if not op.accumulator.is_whole(op.weights[..., 0].size):
        return ""
    return WRAP if op.accumulator.overflow == "wrap" else CLIP


def largest_product(op: "ConvOp") -> int:
    """Magnitude that no product passes."""
    return max(-op.operand.min, op.operand.max) * int(np.abs(op.weights.astype(np.int64)).max(initial=0))


def sign_of(op: "ConvOp") -> int:
    """The sign bit of a byte of its input, 0 if there is none."""
    return 128 if op.operand.signed else 0


def _blocks_layout(op: "ConvOp") -> Layout | None:
    layout = divide(op.weights, op.groups, 64)
    exact = max(map(abs, op.bounds)) <= EXACT_FLOAT32
    return layout if exact or _exact_run(op) >= blocks.LEAST_RUN else None


def _exact_run(op: "ConvOp") -> int:
    """So many products can never pass 2^24."""
    return EXACT_FLOAT32 // max(largest_product(op), 1)


def _blocks_operands(op: "ConvOp", weights: np.ndarray, layout: Layout) -> tuple[Any, ...]:
    rows, columns = op.weights.shape[:2]
    exact = (rows, layout.run) if max(map(abs, op.bounds)) <= EXACT_FLOAT32 else (0, min(layout.run, _exact_run(op)))
    return aligned(blocks.pack(weights, layout)), rows, columns, layout.segments, layout.run, *exact, sign_of(op)


def _shorts_layout(op: "ConvOp") -> Layout | None:
    fits = has_byte_pairs() and not op.operand.signed and _is_byte(op.weights)
    return divide(op.weights, op.groups, 64) if fits and _exact_pairs(op) >= shorts.LEAST_PAIRS else None


def _exact_pairs(op: "ConvOp") -> int:
    return shorts.pairs_that_fit(largest_product(op))


def _shorts_operands(op: "ConvOp", weights: np.ndarray, layout: Layout) -> tuple[Any, ...]:
    pairs = -(-layout.run // shorts.PAIR)
    return aligned(shorts.pack(weights, layout)), op.weights.shape[0], layout.segments, pairs, _exact_pairs(op)


def _depthwise_layout(op: "ConvOp") -> Layout | None:
    channels = op.shape[2]
    if op.weights.shape[2] != 1 or op.groups != channels or channels == 1 or np.abs(op.weights).max(initial=0) >= 2**15:
        return None
    width = min(depthwise.WIDTH, -(-channels // 16) * 16)
    parts = [(first, first, min(width, channels - first)) for first in range(0, channels, width)]
    return Layout(np.array(parts, np.int64), width, 1, 1)


def _depthwise_operands(op: "ConvOp", weights: np.ndarray, layout: Layout) -> tuple[Any, ...]:
    return aligned(depthwise.pack(weights)), layout.parts[:, 2].copy(), op.operand.signed


def _is_byte(weights: np.ndarray) -> bool:
    return bool(weights.min(initial=0) >= -128 and weights.max(initial=0) <= 127)


def _depthwise_vnni_layout(op: "ConvOp", terms: int = 1) -> Layout | None:
    is_possible = op.shape[1] >= depthwise_vnni.fewest_pixels(op.weights.shape[1], op.stride)
    return _depthwise_layout(op) if depthwise_vnni.fits(op.weights, terms) and is_possible else None


def _depthwise_vnni_operands(op: "ConvOp", weights: np.ndarray, layout: Layout, terms: int = 1) -> tuple[Any, ...]:
    packed = aligned(depthwise_vnni.pack(weights, op.stride, terms))
    extra = vnni.surplus(weights, layout, op.operand.signed)  # parts are whole blocks side by side, as channels are
    outputs = depthwise_vnni.outputs_of_pairs(op.weights.shape[1], op.stride)
    return packed, extra, outputs, layout.parts[:, 2].copy(), op.operand.signed


NOWHERE = -(1 << 20)
"""So far outside an image no row of it is padding."""
_SURPLUS = 1.15
"""So many times the work that channels are worth may wide registers do: narrow ones wait more for codes."""


def _vnni_layout(isa: str) -> Callable[["ConvOp"], Layout | None]:
    def layout(op: "ConvOp") -> Layout | None:
        if not vnni.fits(op.weights):
            return None
        # 7 pixels x 32 channels waste nothing on the 7 and 14 columns of ImageNet networks, where 4 x 64 would
        is_sevens = op.shape[1] % 7 == 0 and op.shape[1] % 4 != 0
        if isa != VNNI or is_sevens:
            return divide(op.weights, op.groups, 32)
        widths = (64, 32, 16) if op.shape[1] >= 16 else (64, 32)  # narrow tiles want that many pixels
        layouts = [divide(op.weights, op.groups, width) for width in widths]
        return next(found for found in layouts if _computed(found) <= _SURPLUS * min(map(_computed, layouts)))

    return layout


def _odd_layout(op: "ConvOp") -> Layout | None:
    """For whole sums of odd weights."""
    if not vnni.are_odd(op.weights):
        return None
    register = op.accumulator.range
    if register is not None and register.bits < op.safe_bits and not whole_sums(op):
        return None
    layouts = [divide(op.weights, op.groups, width) for width in (64, 32, 16)]
    return next(found for found in layouts if _computed(found) <= _SURPLUS * min(map(_computed, layouts)))


def _computed(layout: Layout) -> int:
    """Channels that are computed, the surplus included."""
    return len(layout.parts) * layout.width


def _vnni_operands(op: "ConvOp", weights: np.ndarray, layout: Layout) -> tuple[Any, ...]:
    return vnni_packed(op, weights, layout, vnni.pack(weights, layout))


def _odd_operands(op: "ConvOp", weights: np.ndarray, layout: Layout) -> tuple[Any, ...]:
    return vnni_packed(op, weights, layout, vnni.pack_odd(weights, layout))


def vnni_packed(op: "ConvOp", weights: np.ndarray, layout: Layout, content: np.ndarray) -> tuple[Any, ...]:
    """Operands of a line of vnni_lines.py, of the weights as a kernel wants them."""
    packed = aligned(content)
    _, planes, rows, quads = packed.shape[:4]
    shape = (planes, rows // layout.segments, layout.segments, quads)
    # rows that see only padding add nothing, unless it is not 0, or codes are signed and have 128 added; nor is there a way
    # past them in a second plane
    padding = op.padding if planes == 1 and not op.operand.signed else 0
    if op.operand_zero or op.paddings:
        padding = NOWHERE
    return packed, vnni.surplus(weights, layout, op.operand.signed), *shape, padding, op.operand.signed


def _divided(op: "ConvOp", layout: Layout) -> tuple[int, np.ndarray] | None:
    assert op.accumulator.range is not None
    return divide_stages(op.weights, layout, vnni.QUAD, op.operand, op.accumulator.range) if _is_byte(op.weights) else None


def _vnni_stages(op: "ConvOp", layout: Layout, operands: tuple[Any, ...]) -> tuple[Any, ...] | None:
    stages = _divided(op, layout)
    if stages is None:
        return None
    w, surplus, planes, rows, _, quads, padding, signed = operands
    size, limits = stages
    return (w, surplus, planes, rows, quads // size, size, padding, signed), limits


def _watched_layout(op: "ConvOp") -> Layout | None:
    """For registers that can be watched only: AMX adds up whole windows where no one can look."""
    register = op.accumulator.range
    if register is None or register.bits >= op.safe_bits or whole_sums(op) or op.groups > 1:
        return None
    layout = _VNNI.layout(op)
    return layout if layout is not None and _divided(op, layout) is not None else None


def _amx_layout(op: "ConvOp") -> Layout | None:
    return divide(op.weights, op.groups, 64) if vnni.fits(op.weights) else None


def _amx_operands(op: "ConvOp", weights: np.ndarray, layout: Layout) -> tuple[Any, ...]:
    packed = aligned(amx.pack(weights, layout))
    _, planes, rows, chunks = packed.shape[:4]
    pixels = amx_lines.pixels_of(op.shape[1])
    shape = (planes, rows // layout.segments, layout.segments, chunks)
    return packed, *shape, pixels, op.operand.signed, aligned(amx.config(pixels))


def _vnni_to_codes(op: "ConvOp", layout: Layout, ending: Ending, is_watched: bool) -> Callable[..., None]:
    line: Callable[..., None] = vnni_lines.line_to_codes(op.operand.signed, ending, op.shape[1], layout.width, is_watched)
    return line


def _odd_to_codes(op: "ConvOp", layout: Layout, ending: Ending, is_watched: bool) -> Callable[..., None]:
    line: Callable[..., None] = vnni_lines.line_to_codes(op.operand.signed, ending, op.shape[1], layout.width, is_odd=True)
    return line


def _depthwise_to_codes(op: "ConvOp", layout: Layout, ending: Ending, is_watched: bool, terms: int = 1
                        ) -> Callable[..., None]:
    line: Callable[..., None] = depthwise_vnni.line_to_codes(op.operand.signed, ending, terms)
    return line


def _depthwise_vnni(name: str, terms: int) -> KernelPath:
    """For weights that are sums of so many bytes."""
    return KernelPath(name, partial(_depthwise_vnni_layout, terms=terms), partial(_depthwise_vnni_operands, terms=terms),
                      depthwise_vnni.LINES[terms], to_codes=partial(_depthwise_to_codes, terms=terms),
                      registers=lambda layout: LANES)


def plan_of(op: "ConvOp") -> Plan:
    """How bit planes run an operation that they can."""
    plan = Plan.of(op)
    assert plan is not None
    return plan


def _planned_layout(plans: type[Plan | TablePlan], op: "ConvOp") -> Layout | None:
    plan = plans.of(op)
    return None if plan is None else plan.layout


def bit_path(thresholds: np.ndarray | None) -> BitPath:
    """Bit planes of codes, or of what a table with these thresholds makes of them."""
    def operands(op: "ConvOp", weights: np.ndarray, layout: Layout) -> tuple[Any, ...]:
        return plan_of(op).operands(thresholds)

    return BitPath("planes" if thresholds is None else "planes from a table", partial(_planned_layout, Plan), operands, stay,
                    thresholds=thresholds)


def _table_plan(op: "ConvOp") -> TablePlan:
    plan = TablePlan.of(op)
    assert plan is not None
    return plan


def _tables_operands(op: "ConvOp", weights: np.ndarray, layout: Layout) -> tuple[Any, ...]:
    return _table_plan(op).operands()


_DEPTHWISE = KernelPath("depthwise", _depthwise_layout, _depthwise_operands, depthwise.depthwise_line)
_DEPTHWISE_VNNI = _depthwise_vnni("depthwise vnni", 1)
_DEPTHWISE_WIDE = _depthwise_vnni("depthwise vnni wide", depthwise_vnni.WIDE_TERMS)
_BLOCKS = KernelPath("blocks", _blocks_layout, _blocks_operands, blocks.blocks_line, screens=False)
_SHORTS = KernelPath("16-bit lanes", _shorts_layout, _shorts_operands, shorts.shorts_line)
_AMX = KernelPath("amx", _amx_layout, _amx_operands, amx_lines.AMX_LINE, amx_lines.AMX_ENTER, amx_lines.AMX_LEAVE)
_AMX_EMULATED = KernelPath("amx emulated", _amx_layout, _amx_operands, amx_lines.EMULATED_LINE, amx_lines.EMULATED_ENTER)
_VNNI = KernelPath("vnni", _vnni_layout(VNNI), _vnni_operands, vnni_lines.LINES[VNNI], to_codes=_vnni_to_codes,
              stages=_vnni_stages, watched=vnni_lines.WATCHED[VNNI])
_ODD = KernelPath("vnni odd", _odd_layout, _odd_operands, vnni_lines.ODD_LINE, to_codes=_odd_to_codes)
_AVX_VNNI = KernelPath("avx vnni", _vnni_layout(AVX_VNNI), _vnni_operands, vnni_lines.LINES[AVX_VNNI], stages=_vnni_stages,
                  watched=vnni_lines.WATCHED[AVX_VNNI], lanes=LANES // 2)
PLANES_PATH = bit_path(None)
TABLES_PATH = TablePath("tables", partial(_planned_layout, TablePlan), _tables_operands, stay)
_WATCHED = replace(_VNNI, layout=_watched_layout)
PATHS: Mapping[str, tuple[KernelPath, ...]] = {
    PLAIN: (),
    PORTABLE: (_DEPTHWISE, _SHORTS, _BLOCKS),
    AVX_VNNI: (_DEPTHWISE, _AVX_VNNI, _BLOCKS),
    AMX: (_DEPTHWISE_VNNI, _DEPTHWISE_WIDE, _DEPTHWISE, _WATCHED, _AMX, _BLOCKS),
    AMX_EMULATED: (_DEPTHWISE, _AMX_EMULATED, _BLOCKS),
    VNNI: (_DEPTHWISE_VNNI, _DEPTHWISE_WIDE, _DEPTHWISE, _ODD, _VNNI, _BLOCKS),
}
"""For each instruction set its paths, the first that can run a convolution does."""
OTHER_WAYS: Mapping[str, Mapping[str, KernelPath]] = {
    **{isa: {TABLES: TABLES_PATH} for isa in (PORTABLE, AVX_VNNI)}, **{isa: {PLANES: PLANES_PATH} for isa in (VNNI, AMX)}}
"""Paths for few bits beside those, of which choice.py finds out whether they are faster."""
