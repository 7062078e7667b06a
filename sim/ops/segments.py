"""Which of two texts, side by side, each token belongs to, as told by the id that ends a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sim.formats import IntFormat, Shape, is_whole
from sim.ops.op import Op, ProgramError, check_shape, check_sizes, read
from sim.ops.row import NetworkError, Row

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering

SEGMENTS = 2


@dataclass(frozen=True)
class Segments(Row):
    """Ids (tokens, 1, vocabulary) -> ids (tokens, 1, 2): 0 up to the first `separator`, that included, and 1 behind it.

    These are BERT's segments of "[CLS] question [SEP] text [SEP]" (Devlin et al. 2019), but for padding, which is in the
    second here, and which no token that counts may attend to (`MaskedSoftmax`).

    >>> Segments("kinds", "ids", 102).output_shape({"ids": (128, 1, 30522)})
    (128, 1, 2)
    """

    kind: ClassVar[str] = "segments"
    gives_ids: ClassVar[bool] = True
    reads_ids: ClassVar[bool] = True
    separator: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.separator) or self.separator < 0:
            raise NetworkError(f"{self.name}: separator must be an id, 0 or more, not {self.separator!r}")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """One-hot vectors of two."""
        tokens, width, vocabulary = shapes[self.source]
        if self.separator >= vocabulary:
            raise NetworkError(f"{self.name}: separator {self.separator} is no id of a vocabulary of {vocabulary}")
        return tokens, width, SEGMENTS

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Codes of one bit."""
        shape = (to.shapes[self.name][0], 1, 1)
        return SegmentsOp(self.name, self.source, shape, IntFormat(1, signed=False), self.separator), 1.0


@dataclass(frozen=True, eq=False, repr=False)
class SegmentsOp(Op):
    """Codes (tokens, 1, 1): whether the id `separator` is among those before."""

    kind: ClassVar[str] = "segments"
    separator: int

    @property
    def vocabulary(self) -> int:
        """Ids that it gives."""
        return SEGMENTS

    def check(self, before: Mapping[str, Op]) -> None:
        """Ids of as many tokens."""
        check_sizes(self)
        vocabulary = vocabulary_of(read(before, self.source))
        check_shape(self, (before[self.source].shape[0], 1, 1))
        if self.format != IntFormat(1, signed=False):
            raise ProgramError(f"its codes are u1, not {self.format}")
        if not is_whole(self.separator) or not 0 <= self.separator < vocabulary:
            raise ProgramError(f"its separator {self.separator!r} is no id of a vocabulary of {vocabulary}")

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Each token looks back."""
        ids = [row[0][0] for row in inputs[0]]
        return [[[int(self.separator in ids[:token])]] for token in range(len(ids))], None


def vocabulary_of(source: Op) -> int:
    """How many ids an operation may give; raises ProgramError if it gives codes of another kind."""
    vocabulary = getattr(source, "vocabulary", None)
    if vocabulary is None:
        raise ProgramError(f"reads {source.name}, ids of tokens are wanted")
    return int(vocabulary)
