"""Norms over channels, by an integer definition of one's choice."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sim.definitions import NORMS, DefinitionError
from sim.formats import Shape
from sim.ops.defined import DefinedOp
from sim.ops.op import Op
from sim.ops.row import Activation, NetworkError, Row
from sim.registry import RegistryError

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering

BIASLESS = ("irmsnorm",)
"""Norms that have no bias."""


@dataclass(frozen=True)
class LayerNorm(Row):
    """The channels of every pixel, normalized by one of sim.definitions.NORMS, times a weight plus a bias, then codes.

    `definition` "irmsnorm" takes away no mean and has no bias: it is RMSNorm.
    """

    kind: ClassVar[str] = "layernorm"
    definition: str = "exact"
    eps: float = 1e-5
    activation: Activation = field(default_factory=lambda: Activation(limit=4.0, function="none"))

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            NORMS.known(self.definition)
        except RegistryError as error:
            raise NetworkError(f"{self.name}: {error}") from None
        if not isinstance(self.eps, float) or not (math.isfinite(self.eps) and self.eps > 0.0):
            raise NetworkError(f"{self.name}: eps must be positive and finite, not {self.eps!r}")

    @property
    def has_bias(self) -> bool:
        """Whether there is one."""
        return self.definition not in BIASLESS

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Unchanged."""
        return shapes[self.source]

    def array_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[int, ...]]:
        """A weight and a bias for each channel, as torch.nn.LayerNorm has them."""
        names = ("weight", "bias") if self.has_bias else ("weight",)
        return {name: (shapes[self.source][2],) for name in names}

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """The definition for the scales of input and output."""
        form, step = to.activation(self, self.activation)
        learned = {"gamma": to.array(self, "weight")} | ({"beta": to.array(self, "bias")} if self.has_bias else {})
        try:
            definition = NORMS[self.definition].build(
                to.scales[self.source], to.format_of(self.source), form, step, learned, self.eps)
            definition.check(to.shapes[self.name][2])
        except DefinitionError as error:
            raise NetworkError(str(error)) from None
        return DefinedOp(self.name, self.source, to.shapes[self.name], form, definition, zero_point=definition.zero), step
