"""A fully connected layer: a convolution of one pixel, with weights as torch.nn.Linear has them."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.network import FLOAT_BITS, Conv, Linear
from training.layers.codes import Codes, first_weights, is_one
from training.layers.conv import ConvLayer
from training.layers.layer import Context
from training.quantizers import Scale


class LinearLayer(ConvLayer):
    """`weight` [features, in]; first weights are those of Glorot and Bengio 2010, uniform, as in torch's attention."""

    def __init__(self, row: Linear, context: Context) -> None:
        conv = Conv(row.name, row.source, row.features, role=row.role, norm=False, bias=row.bias, activation=row.activation)
        super().__init__(conv, context)
        features, inputs = self.weight.shape[:2]
        bound = math.sqrt(6.0 / (features + inputs))
        self.weight = nn.Parameter(torch.empty(features, inputs).uniform_(-bound, bound, generator=first_weights()))

    def forward(self, x: Codes, skip: Codes | None = None) -> Codes:
        """As a convolution; of real numbers in one product."""
        if self.bits == FLOAT_BITS and x.bound == float("inf") and is_one(x.scale) and (
                self.activate is None or self.activate.is_float):
            steps = F.linear(x.values.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)
            return self.activate(steps, 1.0) if self.activate else Codes(steps, 1.0, float("inf"))
        return super().forward(x, skip)

    def sums(self, x: Codes, weight: Tensor) -> Tensor:
        """Exact as those of a convolution, in a library's product of matrices; bytes and bfloat16 go through one."""
        exceeds = self._exceeds_float32(x, weight)
        if self.training and not exceeds and (x.packed is not None or self.gradients != torch.float32):
            return super().sums(x, weight)
        kind = torch.float64 if exceeds else weight.dtype
        return F.linear(x.values.to(kind).permute(0, 2, 3, 1), weight[:, :, 0, 0].to(kind)).permute(0, 3, 1, 2)

    def weight_codes(self) -> tuple[Tensor, Scale]:
        """As a convolution sees them, [features, in, 1, 1]."""
        codes, scale = super().weight_codes()
        return codes[:, :, None, None], scale
