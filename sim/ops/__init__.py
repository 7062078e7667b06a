"""Operations, a file each: the row of the float network, the operation of the integer program, the way between them.

A new one is a file beside this and its rows in the two tables below, with a file of its name in sim/steps (how it runs fast)
and one in training/layers (how it learns): ADDING.md shows it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sim.ops.add import Add, AddOp
from sim.ops.average import AverageOp
from sim.ops.avgpool import AvgPool, PoolOp
from sim.ops.codes_input import CodesInputOp
from sim.ops.compare import MinMaxOp
from sim.ops.concat import Concat, ConcatOp
from sim.ops.conv import Conv, ConvOp
from sim.ops.defined import DefinedOp
from sim.ops.divide import DivideOp
from sim.ops.embedding import Embedding, EmbeddingOp
from sim.ops.float_average import FloatAverageOp
from sim.ops.globalpool import GlobalPool
from sim.ops.input import Input, InputOp
from sim.ops.layernorm import LayerNorm
from sim.ops.linear import Linear
from sim.ops.lookup import Lookup
from sim.ops.masked import MaskedOp, MaskedSoftmax
from sim.ops.matmul import MatMul, MatMulOp
from sim.ops.maxpool import MaxPool, MaxPoolOp
from sim.ops.move import Flatten, Heads, MoveOp, Sequence, Tokens
from sim.ops.multiply import Multiply, MultiplyOp
from sim.ops.op import Op
from sim.ops.pad import Pad, PadOp
from sim.ops.positions import ConstantOp, Positions
from sim.ops.recode import Recode
from sim.ops.reduce import ReduceOp
from sim.ops.requantize import Requantize, TableOp
from sim.ops.rescale import RescaleOp
from sim.ops.row import Row
from sim.ops.segments import Segments, SegmentsOp
from sim.ops.select import Select, SelectOp
from sim.ops.shortcut import Shortcut, ShortcutOp
from sim.ops.slice import SliceOp
from sim.ops.softmax import Softmax
from sim.ops.table16 import Table16Op
from sim.ops.token_input import TokenInput, TokenInputOp

__all__ = ["OPS", "ROWS"]

ROWS: Mapping[str, type[Row]] = MappingProxyType({row.kind: row for row in (
    Input, Conv, Requantize, Shortcut, AvgPool, Add, Multiply, MaxPool, GlobalPool, Concat, Pad,
    Lookup, Linear, MatMul, Heads, Tokens, Flatten, Sequence, Select, TokenInput, Embedding, Positions, Softmax,
    LayerNorm, Segments, MaskedSoftmax, Recode)})
OPS: Mapping[str, type[Op]] = MappingProxyType({op.kind: op for op in (
    InputOp, ConvOp, TableOp, ShortcutOp, PoolOp, AddOp, MultiplyOp, MaxPoolOp, ConcatOp, PadOp,
    MatMulOp, MoveOp, SelectOp, TokenInputOp, EmbeddingOp, ConstantOp, DefinedOp,
    CodesInputOp, RescaleOp, AverageOp, ReduceOp, SliceOp, DivideOp, MinMaxOp, Table16Op, FloatAverageOp,
    SegmentsOp, MaskedOp)})
