"""The product of two activations: exact integer sums, or what a register makes of them, then the affine of the hardware."""

import math

import torch
from torch import Tensor

from sim.formats import EXACT_FLOAT32
from training.layers.codes import Codes, rescaled
from training.layers.layer import Layer
from training.layers.register import matrix_product, through_register


class MatMulLayer(Layer):
    """Equation H."""

    accumulates = True

    def forward(self, x: Codes, other: Codes) -> Codes:
        """[N, depth, heads, tokens] and [N, depth, heads, others] (transposed) or [N, columns, heads, depth].

        -> [N, others or columns, heads, tokens].
        """
        a, b = (values.permute(0, 2, 3, 1) for values in self._exact(x, other))
        step = self.end.step()
        gain = x.scale * other.scale / (self.row.divisor * step)
        if self.end.is_float:  # real numbers have no order of roundings: the smaller tensor is the cheaper one
            a, gain = rescaled(a, gain), 1.0
        sums: Tensor = torch.matmul(a, b.mT if self.row.transpose else b).permute(0, 3, 1, 2)
        if self.register is not None and math.isfinite(x.bound * other.bound):
            sums = through_register(sums, matrix_product(self.row, sums.shape, x, other, self.register), [x, other])
        return self.end(rescaled(sums.float(), gain), step)

    def _exact(self, x: Codes, other: Codes) -> tuple[Tensor, Tensor]:
        """Both in floats that hold every partial sum of their products (contract C2)."""
        most = x.values.shape[1] * x.bound * other.bound
        if math.isfinite(most) and most >= EXACT_FLOAT32:
            return x.values.double(), other.values.double()
        return x.values.float(), other.values.float()
