"""What depends on no input: learned positions of tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim.formats import Shape
from sim.ops.embedding import stored_codes
from sim.ops.op import Op, ProgramError, check_sizes, check_table
from sim.ops.row import Row, check_role

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Positions(Row):
    """A learned table (tokens, 1, features), the same for every image; weights [tokens, features], as an embedding's.

    >>> Positions("positions", 128, 64).output_shape({})
    (128, 1, 64)
    """

    kind: ClassVar[str] = "positions"
    is_constant: ClassVar[bool] = True
    source: str = field(default="", kw_only=True)
    tokens: int = 0
    features: int = 0
    role: str = "boundary"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_role(self.role)
        self._sizes(tokens=self.tokens, features=self.features)

    @property
    def weight_role(self) -> str:
        """The layer's."""
        return self.role

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """As declared."""
        return self.tokens, 1, self.features

    def array_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[int, ...]]:
        """Weights as those of torch.nn.Embedding."""
        return {"weight": (self.tokens, self.features)}

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Weight codes, worth the weights' scale."""
        table, form, scale = stored_codes(to, self)
        return ConstantOp(self.name, "", to.shapes[self.name], form, table[:, None]), scale


@dataclass(frozen=True, eq=False, repr=False)
class ConstantOp(Op):
    """`table` [height, width, channels]: the same codes for every image."""

    kind: ClassVar[str] = "constant"
    reads: ClassVar[str] = "nothing"
    table: np.ndarray

    def check(self, before: Mapping[str, Op]) -> None:
        """Codes of its format."""
        check_sizes(self)
        if self.source:
            raise ProgramError(f"reads {self.source!r}: a constant reads no operation")
        check_table(self, self.table, self.shape)

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """The table."""
        return self.table.tolist(), None
