"""A2Q and A2Q+: weights trained so that no input can overflow a register of a chosen width.

    A2Q   Colbert, Pappalardo, Petri-Koenig 2023, arXiv 2308.13504                        ARITHMETIC.md, equations 15, 17
    A2Q+  Colbert, Pappalardo, Petri-Koenig, Umuroglu 2024, arXiv 2401.10432              ARITHMETIC.md, equations 16, 17

Of every channel with weights v: w = s rtz(clip(g / s v / ||v||_1)), s = 2^d and g = 2^min(t, T) learned in log2,
T = log2(L) + d, L the limit of the codes' norm (equation 18), rtz rounding toward zero: magnitudes only shrink, so that the
codes' norm is L at most, whatever v, t and d become.  A2Q+ takes v less its mean.  Gradients pass straight through the
rounding, inside the clip; t beyond T has none but that of the penalty (training/registers.py).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sim.functions import exp
from sim.network import Parameters
from sim.quantizers.a2q import LIMIT, MOST_LOG2, NORM, SCALE, UNLIMITED
from training.quantizers.quantizer import LEAST, Quantizer, Scale, best_interval, refuse_one_bit

LN2 = math.log(2.0)
FRACTION_BITS, SUM_BITS = 40, 60


class A2q(Quantizer):
    """Weight codes with a limited norm; activations as another quantizer's.  `centered` is A2Q+."""

    def __init__(self, activations: Quantizer, centered: bool = False) -> None:
        self.activations, self.centered = activations, centered
        self.activation_rate = activations.activation_rate
        self.error_teaches_scale = activations.error_teaches_scale

    def check(self, bits: int) -> None:
        """Signed codes toward zero have no level at 1 bit; and the activations' widths."""
        refuse_one_bit("a2q", bits)
        self.activations.check(bits)

    def weight_parameters(self, channels: int) -> Parameters:
        """log2 of scale and norm of every channel; the limit of the layer's codes, which is set and not learned."""
        return {SCALE: (channels,), NORM: (channels,), LIMIT: (1,)}

    def activation_parameters(self) -> Parameters:
        """The other quantizer's."""
        return self.activations.activation_parameters()

    def weight(self, weight: Tensor, bits: int, learned: Mapping[str, Tensor]) -> tuple[Tensor, Scale]:
        """Equations 15 to 17, in float64."""
        limit = min(max(float(learned[LIMIT].detach().double()), 0.0), UNLIMITED)
        codes = _NormedCodes.apply(weight, learned[SCALE], learned[NORM], limit, self.weight_bound(bits), self.centered)
        scale: Tensor = _PowerOfTwo.apply(learned[SCALE])
        return codes, scale if scale.numel() > 1 else scale.reshape(())

    def weight_bound(self, bits: int) -> int:
        """Codes are symmetric."""
        return 2 ** (bits - 1) - 1

    def activation_scale(self, bits: int, limit: float, learned: Mapping[str, Tensor], features: int) -> Scale:
        """The other quantizer's."""
        return self.activations.activation_scale(bits, limit, learned, features)

    def start_weight(self, weight: Tensor, bits: int, method: str) -> dict[str, Tensor]:
        """The norm that weights have; a scale at which the largest, or the best interval, just ends the codes; no limit.

        Codes are rounded toward zero, so that the largest code m stands for what lies between m and m + 1.
        """
        rows = weight.detach().double().reshape(len(weight), -1)
        levels = self.weight_bound(bits)
        interval = best_interval(rows, rows.abs().amax(1, keepdim=True), levels, method).flatten()
        return {SCALE: (interval.clamp_min(LEAST) / (levels + 1)).log2().float(),
                NORM: rows.abs().sum(1).clamp_min(LEAST).log2().float(),
                LIMIT: torch.tensor([UNLIMITED])}

    def start_activation(self, samples: Tensor, bits: int, method: str) -> dict[str, Tensor]:
        """The other quantizer's."""
        return self.activations.start_activation(samples, bits, method)


class _NormedCodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, log_scale: Tensor, log_norm: Tensor, limit: float, most: int,
                centered: bool) -> Tensor:
        rows = weight.detach().double().reshape(len(weight), -1)
        is_centered = centered and limit < UNLIMITED
        shares, norm = _shares(rows, is_centered)
        wanted = _power_of_two(_bounded(log_norm) - _bounded(log_scale))
        length = wanted.clamp_max(limit)[:, None]
        steps = shares.abs() * length
        ctx.save_for_backward(shares, length / norm.clamp_min(LEAST), steps <= most, wanted < limit, length)
        ctx.is_centered = is_centered and rows.shape[1] > 1
        return torch.copysign(steps.floor().clamp_max(most), shares).to(weight.dtype).reshape(weight.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # y = share * length, share = v / ||v||: d y_i / d v_j = length / ||v|| (1_ij - share_i sign(v_j))
        shares, slope, is_inside, is_free, length = ctx.saved_tensors
        inside = gradients[0].double().reshape(shares.shape) * is_inside
        along = (inside * shares).sum(1, keepdim=True)
        to_weight = slope * (inside - shares.sign() * along)
        if ctx.is_centered:
            to_weight = to_weight - to_weight.mean(1, keepdim=True)
        to_norm = ((along * length)[:, 0] * LN2 * is_free).float()
        return to_weight.reshape(gradients[0].shape).to(gradients[0].dtype), -to_norm, to_norm, None, None, None


def _shares(rows: Tensor, is_centered: bool) -> tuple[Tensor, Tensor]:
    """Signed shares of each channel's norm [channels, weights], of exact integer sums, and the norm [channels, 1]."""
    count = rows.shape[1]
    one = 2.0 ** min(FRACTION_BITS, SUM_BITS - count.bit_length())
    peaks = rows.abs().amax(1, keepdim=True)
    units = (rows / torch.where(peaks > 0.0, peaks, 1.0) * one).round()
    if is_centered:
        if count > 1:  # a weight alone would be nothing less its mean
            units = units - (units.long().sum(1, keepdim=True).double() / count).round()
        above, below = (part.clamp_min(0.0).long().sum(1, keepdim=True) for part in (units, -units))
        whole = 2 * torch.maximum(above, below)
    else:
        whole = units.abs().long().sum(1, keepdim=True)
    total = whole.clamp_min(1).double()
    return units / total, total / one * peaks


class _PowerOfTwo(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exponent: Tensor) -> Tensor:
        value = _power_of_two(_bounded(exponent))
        ctx.save_for_backward(value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (value,) = ctx.saved_tensors
        return (gradients[0] * value * LN2).float()


def _bounded(exponent: Tensor) -> Tensor:
    """In float64, where no training can drive a scale out of what numbers hold."""
    return exponent.detach().double().clamp(-MOST_LOG2, MOST_LOG2)


def _power_of_two(exponent: Tensor) -> Tensor:
    """2^x, the same bits in every library."""
    value: Tensor = exp(exponent * LN2)
    return value
