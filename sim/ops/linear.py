"""A fully connected layer on the channels of every pixel or token."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from sim.formats import Shape
from sim.ops.conv import biased, lower_products
from sim.ops.op import Op
from sim.ops.row import Activation, Row, check_role

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Linear(Row):
    """[..., in] times weights [features, in], transposed, plus a bias [features] -> [..., features], then an activation.

    It works on the channels of any tensor: of the one pixel behind a pooling, of all tokens, of all pixels.  Without an
    activation the sums are logits.

    >>> Linear("head", "pool", 10, role="boundary").output_shape({"pool": (1, 1, 64)})
    (1, 1, 10)
    """

    kind: ClassVar[str] = "linear"
    gives_logits: ClassVar[bool] = True
    features: int = 0
    role: str = "inner"
    bias: bool = True
    activation: Activation | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_role(self.role)
        self._sizes(features=self.features)

    @property
    def weight_role(self) -> str:
        """The layer's."""
        return self.role

    @property
    def register_role(self) -> str:
        """The layer's."""
        return self.role

    @property
    def weight_channels(self) -> int:
        """Output features."""
        return self.features

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Other channels."""
        return (*shapes[self.source][:2], self.features)

    def array_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[int, ...]]:
        """Weights as torch.nn.Linear has them, and a bias."""
        weight: dict[str, tuple[int, ...]] = {"weight": (self.features, shapes[self.source][2])}
        return weight | ({"bias": (self.features,)} if self.bias else {})

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """A convolution of one pixel; equation 6 without batch norm."""
        return lower_products(self, to, partial(biased, self, to), stride=1, padding=0, groups=1)
