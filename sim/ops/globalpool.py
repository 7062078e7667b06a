"""Global average pooling: an average pool whose window is the whole image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sim.formats import Shape
from sim.ops.avgpool import PoolOp
from sim.ops.op import Op
from sim.ops.row import Activation, Row

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class GlobalPool(Row):
    """The average of every channel over the whole image, whatever its size, then an activation."""

    kind: ClassVar[str] = "globalpool"
    activation: Activation = field(default_factory=lambda: Activation("boundary"))

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """One pixel."""
        return 1, 1, shapes[self.source][2]

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation 7 with the number of pixels as divisor."""
        (rows, columns, channels), source = to.shapes[self.source], to.format_of(self.source)
        form, step = to.activation(self, self.activation)
        gain = to.scales[self.source] / (rows * columns * step)
        bounds = (rows * columns * source.min, rows * columns * source.max)
        requant, _ = to.requantizer_of(form, np.full(channels, gain), np.zeros(channels), bounds)
        return PoolOp(self.name, self.source, (1, 1, channels), form, rows, 1, 0, requant, columns), step
