"""A fully connected layer: a convolution of one pixel, with weights as torch.nn.Linear has them."""

import math

import torch
from torch import Tensor, nn

from sim.network import Conv, Linear
from training.layers.codes import first_weights
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

    def weight_codes(self) -> tuple[Tensor, Scale]:
        """As a convolution sees them, [features, in, 1, 1]."""
        codes, scale = super().weight_codes()
        return codes[:, :, None, None], scale
