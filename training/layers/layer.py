"""What every layer is, and what it finds when it is built."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from sim.accumulator import Accumulator
from sim.network import Precision, Row, Shape
from training.layers.activate import Activate
from training.quantizers import Quantizer


@dataclass(frozen=True)
class Context:
    """The network that a layer is built for: shapes of all rows, widths, and the quantizer."""

    shapes: Mapping[str, Shape]
    precision: Precision
    quantizer: Quantizer

    def activate(self, row: Row) -> Activate | None:
        """The end of a row; None if it has none."""
        end = row.ends()
        if end is None:
            return None
        bits = self.precision.activation_bits(end.role, row.name)
        return Activate(end, bits, self.quantizer, math.prod(self.shapes[row.name]))

    def weight_bits(self, row: Row) -> int:
        """Width of a row's weights."""
        assert row.weight_role is not None
        return self.precision.weight_bits(row.weight_role, row.name)


class Layer(nn.Module):
    """The module of one row: `Codes` of its sources, in their order, -> `Codes`.

    An input gets what the user hands over, and so does a constant, which asks only for how many images it is.

    `gradients` is what products multiply their gradients in; `learned` names the parameters that the quantizer learns about
    the weights; `register` is what sums go through where a network is trained with its overflows (training/registers.py).
    """

    learned: tuple[str, ...] = ()
    accumulates: ClassVar[bool] = False
    """Whether its products go through a register."""
    register: Accumulator | None = None

    def __init__(self, row: Any, context: Context) -> None:
        super().__init__()
        self.row = row
        self.activate = context.activate(row)
        self.gradients = torch.float32

    @property
    def end(self) -> Activate:
        """The end of a row that has one."""
        assert self.activate is not None
        return self.activate

    def calibrate_weights(self, method: str) -> None:
        """First values of what the quantizer learns about the weights."""
