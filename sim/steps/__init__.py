"""How operations run fast: for each a class that makes its constants ready once and then turns tensors into tensors.

    step = STEPS[op.kind](op, isa);  counts = step([inputs ...], out)

`counts` int64 [channels] are overflowed outputs, None where there is no limited register.  A step keeps nothing of a run, so
that any number of threads may use it at once.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sim.ops.add import AddOp
from sim.ops.avgpool import PoolOp
from sim.ops.concat import ConcatOp
from sim.ops.conv import ConvOp
from sim.ops.defined import DefinedOp
from sim.ops.embedding import EmbeddingOp
from sim.ops.input import InputOp
from sim.ops.matmul import MatMulOp
from sim.ops.maxpool import MaxPoolOp
from sim.ops.move import MoveOp
from sim.ops.multiply import MultiplyOp
from sim.ops.pad import PadOp
from sim.ops.positions import ConstantOp
from sim.ops.requantize import TableOp
from sim.ops.select import SelectOp
from sim.ops.shortcut import ShortcutOp
from sim.ops.token_input import TokenInputOp
from sim.steps.add import Sum
from sim.steps.concat import Concatenation
from sim.steps.conv import Convolution
from sim.steps.defined import Defined
from sim.steps.input import PixelLookup
from sim.steps.lookup import Lookup
from sim.steps.matmul import MatrixProduct
from sim.steps.maxpool import Largest
from sim.steps.move import Pick, Rearrange
from sim.steps.multiply import Product
from sim.steps.pad import Frame
from sim.steps.pool import Pool
from sim.steps.shortcut import Copy
from sim.steps.step import Step
from sim.steps.tokens import Constant, Ids, Rows

__all__ = ["STEPS", "Step"]

STEPS: Mapping[str, Callable[[Any, str], Step]] = MappingProxyType({
    InputOp.kind: PixelLookup, ConvOp.kind: Convolution, TableOp.kind: Lookup, ShortcutOp.kind: Copy, PoolOp.kind: Pool,
    AddOp.kind: Sum, MultiplyOp.kind: Product, MaxPoolOp.kind: Largest, ConcatOp.kind: Concatenation, PadOp.kind: Frame,
    MatMulOp.kind: MatrixProduct, MoveOp.kind: Rearrange, SelectOp.kind: Pick,
    TokenInputOp.kind: Ids, EmbeddingOp.kind: Rows, ConstantOp.kind: Constant, DefinedOp.kind: Defined})
