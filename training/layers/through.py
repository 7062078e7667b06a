"""Codes that a definition finds, with the gradients of its smooth shape."""

from typing import Any

import torch
from torch import Tensor

from training.layers.codes import Codes


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, smooth: Tensor, codes: Tensor) -> Tensor:
        return codes.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through(smooth: Codes, codes: Tensor) -> Codes:
    """`codes` in place of the values of `smooth`, which pass on all gradients: an addition of differences would round."""
    return smooth._replace(values=_Through.apply(smooth.values, codes.to(smooth.values.dtype)))
