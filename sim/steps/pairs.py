"""Convolutions of pairs that saturate to 16 bits, then wide sums: vpmaddubsw in code for AVX2, on the instruction itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sim.accumulator import Accumulator
from sim.kernels import pairs
from sim.kernels.finish import Ending
from sim.kernels.isa import AMX, VNNI
from sim.kernels.layout import Layout, divide
from sim.kernels.lines import stay
from sim.ops.conv import ConvOp
from sim.orders import SORTED, permutation
from sim.steps.choice import BYTES
from sim.steps.conv import Convolution
from sim.steps.conv_kernels import Kernels
from sim.steps.loops import ConvLoops
from sim.steps.paths import KernelPath, vnni_packed

BITS = 16


def is_possible(loops: ConvLoops, isa: str) -> bool:
    """Whether the instruction does what these registers do; a first product alone fits 16 bits, whatever it is."""
    op, accumulator = loops.op, loops.accumulator
    if isa not in (VNNI, AMX) or len(accumulator.before) != 1 or accumulator.bits is not None:
        return False
    stage = accumulator.before[0]
    is_pair = (stage.products, stage.bits, stage.overflow) == (2, BITS, "saturate") and _are_neighbors(loops)
    is_plain = op.start is None and len(set(op.window.strides)) == 1 and not op.operand.signed and op.operand.bits <= 8
    is_byte = op.weights.min(initial=0) >= -128 and op.weights.max(initial=0) <= 127
    return bool(is_pair and is_plain and is_byte and 2 * max(map(abs, op.bounds)) < 2**31)


def _are_neighbors(loops: ConvLoops) -> bool:
    """Whether the two channels of each pair are side by side, and the first is even: then pairs may come in any order."""
    rows, columns, depth = loops.op.weights.shape[:3]
    if depth % 2 or loops.accumulator.order == SORTED:
        return False
    first, other = permutation(loops.accumulator.order, rows, columns, depth).reshape(-1, 2).T
    return bool((first % 2 == 0).all() and (other == first + 1).all())


def _layout(op: ConvOp) -> Layout:
    """As wide parts as waste least; 64 channels would leave registers for two pixels only."""
    return min((divide(op.weights, op.groups, width) for width in (32, 16)), key=lambda each: len(each.parts) * each.width)


def _operands(op: ConvOp, weights: np.ndarray, layout: Layout) -> tuple[Any, ...]:
    return vnni_packed(op, weights, layout, pairs.pack(weights, layout))


def _to_codes(op: ConvOp, layout: Layout, ending: Ending, is_watched: bool) -> Callable[..., None]:
    line: Callable[..., None] = pairs.line_of(op.shape[1], layout.width, ending)
    return line


def _counted(op: ConvOp, layout: Layout) -> Callable[..., None]:
    line: Callable[..., None] = pairs.line_of(op.shape[1], layout.width)
    return line


PATH = KernelPath("pairs", _layout, _operands, stay, to_codes=_to_codes, counted=_counted)


class PairConvolution(Convolution):
    """As above."""

    def __init__(self, op: ConvOp, isa: str) -> None:
        super().__init__(replace(op, accumulator=Accumulator()), isa)
        (plain, *_) = self._ways.values()
        self._ways = {BYTES: Kernels(plain.op, (PATH,), plain.correction)}
