"""Ids, their embeddings, and what is the same for every image."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.ops.embedding import EmbeddingOp
from sim.ops.positions import ConstantOp
from sim.ops.segments import SegmentsOp
from sim.ops.token_input import TokenInputOp
from sim.steps.step import Step


class Ids(Step):
    """Ids as codes."""

    def __init__(self, op: TokenInputOp, isa: str) -> None:
        pass

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """int32 [N, tokens, 1, 1], narrowed: they were checked."""
        out.interior[...] = inputs[0].array


class Rows(Step):
    """A row of the table for each id."""

    def __init__(self, op: EmbeddingOp, isa: str) -> None:
        self.table = op.table

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """[N, tokens, 1, 1] -> [N, tokens, 1, features]."""
        out.interior[...] = self.table[inputs[0].interior[..., 0]]


class Halves(Step):
    """Which of two texts a token belongs to."""

    def __init__(self, op: SegmentsOp, isa: str) -> None:
        self.separator = op.separator

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """[N, tokens, 1, 1], the same shape."""
        ends = inputs[0].interior == self.separator
        codes = out.interior
        codes[:, :1] = 0
        codes[:, 1:] = np.logical_or.accumulate(ends[:, :-1], 1)


class Constant(Step):
    """The same for every image."""

    def __init__(self, op: ConstantOp, isa: str) -> None:
        self.table = op.table

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Into each of them."""
        out.interior[...] = self.table
