"""How operations learn, a file each of the same names as in sim/ops: codes in, codes out.

A value travels as `Codes`: integers held in a float tensor, and the real number that one step stands for.  Convolutions
see only the integers, so their float32 sums are exact while they stay below 2^24; a layer that could pass that bound
computes in float64 (contract C2).  In eval() the arithmetic is, operation by operation, that of sim's `fp32`
requantizer (C3), and every code agrees with it (C4).

In train() rows of a usual form run as one operation (fused.py) where its loops can run; the operations of torch in these
files say the same and serve everywhere.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sim.network import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Embedding,
    Flatten,
    GlobalPool,
    Heads,
    Input,
    LayerNorm,
    Linear,
    Lookup,
    MaskedSoftmax,
    MatMul,
    MaxPool,
    Multiply,
    Pad,
    Positions,
    Recode,
    Requantize,
    Row,
    Segments,
    Select,
    Sequence,
    Shortcut,
    Softmax,
    TokenInput,
    Tokens,
)
from training.layers.activate import Activate
from training.layers.add import AddLayer
from training.layers.avgpool import AvgPoolLayer
from training.layers.codes import Codes, weights_from
from training.layers.concat import ConcatLayer
from training.layers.conv import ConvLayer
from training.layers.defined import LayerNormLayer, SoftmaxLayer
from training.layers.globalpool import GlobalPoolLayer
from training.layers.input import InputLayer
from training.layers.layer import Context, Layer
from training.layers.linear import LinearLayer
from training.layers.lookup import LookupLayer
from training.layers.masked import MaskedSoftmaxLayer
from training.layers.matmul import MatMulLayer
from training.layers.maxpool import MaxPoolLayer
from training.layers.move import FlattenLayer, HeadsLayer, SelectLayer, SequenceLayer, TokensLayer
from training.layers.multiply import MultiplyLayer
from training.layers.norm import Norm
from training.layers.pad import PadLayer
from training.layers.recode import RecodeLayer
from training.layers.requantize import RequantizeLayer
from training.layers.segments import SegmentsLayer
from training.layers.shortcut import ShortcutLayer
from training.layers.stored import EmbeddingLayer, PositionsLayer, TokenLayer

__all__ = ["LAYERS", "Activate", "Codes", "Context", "ConvLayer", "Layer", "Norm", "RequantizeLayer", "build_layer",
           "weights_from"]

LAYERS: Mapping[str, Callable[[Any, Context], Layer]] = MappingProxyType({
    Input.kind: InputLayer, Conv.kind: ConvLayer, Requantize.kind: RequantizeLayer, Shortcut.kind: ShortcutLayer,
    AvgPool.kind: AvgPoolLayer, Add.kind: AddLayer, Multiply.kind: MultiplyLayer, MaxPool.kind: MaxPoolLayer,
    GlobalPool.kind: GlobalPoolLayer, Concat.kind: ConcatLayer, Pad.kind: PadLayer,
    Lookup.kind: LookupLayer, Linear.kind: LinearLayer, MatMul.kind: MatMulLayer,
    Heads.kind: HeadsLayer, Tokens.kind: TokensLayer, Flatten.kind: FlattenLayer, Sequence.kind: SequenceLayer,
    Select.kind: SelectLayer, TokenInput.kind: TokenLayer, Embedding.kind: EmbeddingLayer,
    Positions.kind: PositionsLayer, Softmax.kind: SoftmaxLayer, LayerNorm.kind: LayerNormLayer,
    Segments.kind: SegmentsLayer, MaskedSoftmax.kind: MaskedSoftmaxLayer, Recode.kind: RecodeLayer})


def build_layer(row: Row, context: Context) -> Layer:
    """The module that computes one row."""
    return LAYERS[row.kind](row, context)
