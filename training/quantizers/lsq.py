"""Learned step size quantization (Esser et al. 2020, arXiv 1902.08153), per tensor or per channel.

    weights      clip(round(w / s), -2^(k - 1), 2^(k - 1) - 1),  worth s              ARITHMETIC.md, equation 12
    activations  clip(round(a / s), 0, 2^k - 1),                 worth s              ARITHMETIC.md, equation 13

Steps learn with their gradient scaled by 1 / sqrt(number of values x largest code).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sim.network import Parameters
from training.quantizers.quantizer import (
    Quantizer,
    Scale,
    best_interval,
    bounded,
    per_weight,
    refuse_one_bit,
    round_through,
)


class Lsq(Quantizer):
    """Learned steps of weights and activations, first 2 mean |v| / sqrt(largest code)."""

    def __init__(self, per_channel: bool = False) -> None:
        self.per_channel = per_channel

    def check(self, bits: int) -> None:
        """There is no positive weight code at 1 bit."""
        refuse_one_bit("lsq", bits)

    def weight_parameters(self, channels: int) -> Parameters:
        """One step, or one per channel."""
        return {"weight_step": (channels if self.per_channel else 1,)}

    def activation_parameters(self) -> Parameters:
        """One step."""
        return {"activation_step": (1,)}

    def weight(self, weight: Tensor, bits: int, learned: Mapping[str, Tensor]) -> tuple[Tensor, Scale]:
        """Equation 12, in float64."""
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        count = weight[0].numel() if self.per_channel else weight.numel()
        step = _slowed(bounded(learned["weight_step"]), 1.0 / math.sqrt(count * high))
        return round_through((weight.double() / per_weight(step, weight)).clamp(low, high)).float(), step

    def weight_bound(self, bits: int) -> int:
        """The most negative code has the largest magnitude."""
        return 2 ** (bits - 1)

    def activation_scale(self, bits: int, limit: float, learned: Mapping[str, Tensor], features: int) -> Scale:
        """Equation 13."""
        return _slowed(bounded(learned["activation_step"]), 1.0 / math.sqrt(features * (2**bits - 1)))

    def start_weight(self, weight: Tensor, bits: int, method: str) -> dict[str, Tensor]:
        """As the paper says, or with the least squared error."""
        rows = weight.detach().double().reshape(len(weight) if self.per_channel else 1, -1)
        levels = 2 ** (bits - 1) - 1
        step = 2.0 * rows.abs().mean(1) / math.sqrt(levels)
        if method == "mse":
            step = best_interval(rows, rows.abs().amax(1, keepdim=True), levels, method).flatten() / levels
        return {"weight_step": step.float()}

    def start_activation(self, samples: Tensor, bits: int, method: str) -> dict[str, Tensor]:
        """As the paper says, or with the least squared error."""
        rows, levels = samples.double().reshape(1, -1), 2**bits - 1
        step = 2.0 * rows.mean(1) / math.sqrt(levels)
        if method == "mse":
            step = best_interval(rows, rows.amax(1, keepdim=True), levels, method).flatten() / levels
        return {"activation_step": step.float()}


class _Slowed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return step.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def _slowed(step: Tensor, factor: float) -> Tensor:
    """The same step, its gradient times `factor`."""
    slowed: Tensor = _Slowed.apply(step, factor)
    return slowed
