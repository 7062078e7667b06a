"""The input of a language model: ids of tokens, which an embedding reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim.formats import IntFormat, Shape, is_whole
from sim.inputs import accept_ids
from sim.ops.op import MAX_SIZE, Op, ProgramError, check_shape, check_sizes
from sim.ops.row import NetworkError, Row
from sim.values import LATER

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class TokenInput(Row):
    """int32 ids [N, tokens] of 0 .. vocabulary - 1.

    Its shape is (tokens, 1, vocabulary), that of the one-hot vectors that ids stand for; ids are what is held.

    >>> TokenInput("ids", tokens=128, vocabulary=30522).output_shape({})
    (128, 1, 30522)
    """

    kind: ClassVar[str] = "tokeninput"
    is_input: ClassVar[bool] = True
    gives_ids: ClassVar[bool] = True
    source: str = field(default="", kw_only=True)
    tokens: int = 0
    vocabulary: int = 0
    separator: int = field(default=0, metadata=LATER)
    """The id behind each of two texts that stand side by side; 0 where there is one text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes(tokens=self.tokens, vocabulary=self.vocabulary)
        if not is_whole(self.separator) or not 0 <= self.separator < self.vocabulary:
            raise NetworkError(f"{self.name}: separator {self.separator!r} is no id of a vocabulary of {self.vocabulary}")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """One-hot vectors."""
        return self.tokens, 1, self.vocabulary

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Ids are codes of as many bits as the vocabulary needs."""
        form = IntFormat(max(1, (self.vocabulary - 1).bit_length()), signed=False)
        return TokenInputOp(self.name, "", (self.tokens, 1, 1), form, self.vocabulary), 1.0


@dataclass(frozen=True, eq=False, repr=False)
class TokenInputOp(Op):
    """Ids [N, tokens] below `vocabulary`, as codes (tokens, 1, 1)."""

    kind: ClassVar[str] = "tokeninput"
    is_input: ClassVar[bool] = True
    reads: ClassVar[str] = "ids"
    vocabulary: int

    @property
    def given(self) -> str:
        """Ids."""
        return f"{self.shape[0]} ids below {self.vocabulary}"

    def accept(self, given: Any) -> np.ndarray:
        """Ids int32 or int64 [N, tokens] -> int32 [N, tokens, 1, 1]."""
        return accept_ids(given, self.shape[0], self.vocabulary)

    def check(self, before: Mapping[str, Op]) -> None:
        """A code for every id."""
        check_sizes(self)
        check_shape(self, (self.shape[0], 1, 1))
        if not is_whole(self.vocabulary) or not 1 <= self.vocabulary <= MAX_SIZE:
            raise ProgramError(f"a vocabulary has 1 to {MAX_SIZE} words, not {self.vocabulary!r}")
        if self.format is None or self.format.signed or self.format.max < self.vocabulary - 1:
            raise ProgramError(f"{self.format} has no code for each of {self.vocabulary} ids")

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """The ids."""
        return [[[index]] for index in inputs[0]], None
