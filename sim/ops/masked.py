"""Softmax over tokens of which some are padding: these get the weight 0 and are in no sum."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sim import reference
from sim.formats import Shape, is_whole
from sim.ops.defined import SHIFTLESS, DefinedOp
from sim.ops.op import Op, ProgramError, read
from sim.ops.row import NetworkError
from sim.ops.segments import vocabulary_of
from sim.ops.softmax import Softmax

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class MaskedSoftmax(Softmax):
    """Softmax of scores (heads, tokens, others), where the others whose id is `padding` count as minus infinity.

    By definition: of every row the channels at padding are taken out, the definition is applied to what remains, and those
    taken out get the code that stands for 0.  So it is the same for every definition, and padding more changes no code of
    any other token.  Where all are padding all are 0.

    >>> shapes = {"scores": (12, 192, 192), "ids": (192, 1, 30522)}
    >>> MaskedSoftmax("weights", "scores", ids="ids").output_shape(shapes)
    (12, 192, 192)
    """

    kind: ClassVar[str] = "maskedsoftmax"
    ids: str = ""
    padding: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.padding) or self.padding < 0:
            raise NetworkError(f"{self.name}: padding must be an id, 0 or more, not {self.padding!r}")

    def sources(self) -> tuple[str, ...]:
        """Scores, and ids of the tokens that they are about."""
        return self.source, self.ids

    def id_sources(self) -> tuple[str, ...]:
        """The ids."""
        return (self.ids,)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Unchanged."""
        tokens, _, vocabulary = shapes[self.ids]
        if shapes[self.source][2] != tokens:
            raise NetworkError(f"{self.name}: scores of {shapes[self.source][2]} tokens, and ids of {tokens}")
        if self.padding >= vocabulary:
            raise NetworkError(f"{self.name}: padding {self.padding} is no id of a vocabulary of {vocabulary}")
        return shapes[self.source]

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """As without a mask, which the ids make."""
        op, step = super().lower(to)
        assert isinstance(op, DefinedOp)
        return MaskedOp(op.name, op.source, op.shape, op.format, op.definition, op.source_zero, zero_point=op.zero_point,
                        ids=self.ids, padding=self.padding), step


@dataclass(frozen=True, eq=False, repr=False)
class MaskedOp(DefinedOp):
    """A definition of a softmax on the channels of which the token of `ids` (channels, 1, 1) is not `padding`."""

    kind: ClassVar[str] = "masked"
    ids: str = field(default="", kw_only=True)
    padding: int = field(default=0, kw_only=True)

    def sources(self) -> tuple[str, ...]:
        """Scores and ids."""
        return self.source, self.ids

    def details(self) -> list[str]:
        """And what is taken out."""
        return [*super().details(), f"but for id {self.padding} of {self.ids}"]

    def check(self, before: Mapping[str, Op]) -> None:
        """A softmax, and an id for each channel."""
        super().check(before)
        ids = read(before, self.ids)
        vocabulary = vocabulary_of(ids)
        if self.definition.kind not in SHIFTLESS:
            raise ProgramError(f"a mask is for a softmax, not for {self.definition.kind}")
        if ids.shape != (self.shape[2], 1, 1):
            raise ProgramError(f"its channels are {self.shape[2]}, and {self.ids} has {ids.shape[0]} tokens")
        if not is_whole(self.padding) or not 0 <= self.padding < vocabulary:
            raise ProgramError(f"its padding {self.padding!r} is no id of a vocabulary of {vocabulary}")

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """The definition's own oracle for what remains of each row."""
        kept = [channel for channel, row in enumerate(inputs[1]) if row[0][0] != self.padding]
        x = reference.less(inputs[0], self.source_zero)
        return [[self._spread(kept, pixel) for pixel in row] for row in x], None

    def _spread(self, kept: list[int], pixel: list[int]) -> list[int]:
        found = dict(zip(kept, self.definition.oracle([pixel[channel] for channel in kept]), strict=True)) if kept else {}
        return [found.get(channel, self.zero_point) for channel in range(len(pixel))]
