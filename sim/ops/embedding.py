"""Embeddings: a row of codes for each id."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim.formats import IntFormat, Shape
from sim.ops.op import MAX_TABLE_BITS, Op, check_shape, check_sizes, check_table, read
from sim.ops.row import NetworkError, Row, check_role
from sim.ops.segments import vocabulary_of

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Embedding(Row):
    """Ids (tokens, 1, vocabulary) -> (tokens, 1, features): rows of the weights [vocabulary, features].

    The weights are quantized as those of a layer, with one scale; their codes are the row's results.
    """

    kind: ClassVar[str] = "embedding"
    reads_ids: ClassVar[bool] = True
    features: int = 0
    role: str = "boundary"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_role(self.role)
        self._sizes(features=self.features)

    @property
    def weight_role(self) -> str:
        """The layer's."""
        return self.role

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Features of each token."""
        return shapes[self.source][0], 1, self.features

    def array_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[int, ...]]:
        """Weights as torch.nn.Embedding has them."""
        return {"weight": (shapes[self.source][2], self.features)}

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Weight codes, worth the weights' scale."""
        table, form, scale = stored_codes(to, self)
        return EmbeddingOp(self.name, self.source, to.shapes[self.name], form, table), scale


def stored_codes(to: "Lowering", row: Row) -> tuple[np.ndarray, IntFormat, float]:
    """The quantized weights of a row as results: codes, their format, and the one scale."""
    codes, scale, form, _ = to.weight_codes(row)
    if form.bits > MAX_TABLE_BITS:
        raise NetworkError(f"its weight codes are {form}, results have at most {MAX_TABLE_BITS} bits: choose a "
                           "smaller width")
    return codes.astype(form.dtype), form, float(np.asarray(scale, np.float64).reshape(()))


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingOp(Op):
    """`table` [vocabulary, features] of codes: the row of each id."""

    kind: ClassVar[str] = "embedding"
    table: np.ndarray

    def check(self, before: Mapping[str, Op]) -> None:
        """A row for every id."""
        check_sizes(self)
        source = read(before, self.source)
        vocabulary = vocabulary_of(source)
        check_shape(self, (source.shape[0], 1, self.shape[2]))
        check_table(self, self.table, (vocabulary, self.shape[2]))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Look up."""
        table = self.table.tolist()
        return [[list(table[pixel[0]]) for pixel in row] for row in inputs[0]], None
