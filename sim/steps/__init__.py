"""How operations run fast: for each a class that makes its constants ready once and then turns tensors into tensors.

    step = step_for(op, sources, isa);  counts = step([inputs ...], out)

`counts` int64 [channels] are overflowed outputs, None where there is no limited register.  A step keeps nothing of a run, so
that any number of threads may use it at once.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sim.ops.add import AddOp
from sim.ops.average import AverageOp
from sim.ops.avgpool import PoolOp
from sim.ops.codes_input import CodesInputOp
from sim.ops.compare import MinMaxOp
from sim.ops.concat import ConcatOp
from sim.ops.conv import ConvOp
from sim.ops.defined import DefinedOp
from sim.ops.divide import DivideOp
from sim.ops.embedding import EmbeddingOp
from sim.ops.float_average import FloatAverageOp
from sim.ops.input import InputOp
from sim.ops.masked import MaskedOp
from sim.ops.matmul import MatMulOp
from sim.ops.maxpool import MaxPoolOp
from sim.ops.move import MoveOp
from sim.ops.multiply import MultiplyOp
from sim.ops.op import Op
from sim.ops.pad import PadOp
from sim.ops.positions import ConstantOp
from sim.ops.reduce import ReduceOp
from sim.ops.requantize import TableOp
from sim.ops.rescale import RescaleOp
from sim.ops.segments import SegmentsOp
from sim.ops.select import SelectOp
from sim.ops.shortcut import ShortcutOp
from sim.ops.slice import SliceOp
from sim.ops.table16 import Table16Op
from sim.ops.token_input import TokenInputOp
from sim.steps.add import Sum
from sim.steps.arithmetic import Extreme, Interpolation, Quotient
from sim.steps.average import Average, Reduction
from sim.steps.concat import Concatenation
from sim.steps.defined import Defined, Masked
from sim.steps.float_average import FloatAverage
from sim.steps.input import PixelLookup
from sim.steps.lookup import Lookup
from sim.steps.maxpool import Largest
from sim.steps.move import Part, Pick, Rearrange
from sim.steps.multiply import Product
from sim.steps.pad import Frame
from sim.steps.pool import Pool
from sim.steps.rescale import Rescale
from sim.steps.shortcut import Copy
from sim.steps.staged import convolution, matrix_product
from sim.steps.step import Step
from sim.steps.tokens import Constant, Halves, Ids, Rows
from sim.steps.wide import NARROW_BITS, WIDE, is_spread_plainly

__all__ = ["STEPS", "Step", "step_for"]

STEPS: Mapping[str, Callable[[Any, str], Step]] = MappingProxyType({
    InputOp.kind: PixelLookup, ConvOp.kind: convolution, TableOp.kind: Lookup, ShortcutOp.kind: Copy, PoolOp.kind: Pool,
    AddOp.kind: Sum, MultiplyOp.kind: Product, MaxPoolOp.kind: Largest, ConcatOp.kind: Concatenation, PadOp.kind: Frame,
    MatMulOp.kind: matrix_product, MoveOp.kind: Rearrange, SelectOp.kind: Pick,
    TokenInputOp.kind: Ids, EmbeddingOp.kind: Rows, ConstantOp.kind: Constant, DefinedOp.kind: Defined,
    CodesInputOp.kind: Ids, RescaleOp.kind: Rescale, AverageOp.kind: Average, ReduceOp.kind: Reduction, SliceOp.kind: Part,
    DivideOp.kind: Quotient, MinMaxOp.kind: Extreme, Table16Op.kind: Interpolation, FloatAverageOp.kind: FloatAverage,
    SegmentsOp.kind: Halves, MaskedOp.kind: Masked})


def step_for(op: Op, sources: Sequence[Op], isa: str) -> Step:
    """How an operation that reads these runs: by kernels, or in int64 where codes are too wide for them or are spread."""
    formats = [each.format for each in (op, *sources) if each.format is not None]
    is_wide = any(form.bits > NARROW_BITS for form in formats)
    table = WIDE if op.kind in WIDE and (is_wide or not is_spread_plainly(op, sources)) else STEPS
    step: Step = table[op.kind](op, isa)
    return step
