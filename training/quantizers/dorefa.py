"""DoReFa (Zhou et al. 2016, arXiv 1606.06160, equations 5, 7, 8, 9 and 11): straight-through rounding on fixed ranges.

Weight codes are odd integers 2 n_i - (2^k - 1): `k` bits of information in a signed operand of k + 1 bits.
Everything that decides a code uses only +, -, *, / and rounding in float64.  IEEE 754 rounds each of these correctly,
so numpy, torch, a CPU and a GPU find the same codes, which library functions such as tanh do not promise.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from training import kernels
from training.quantizers.quantizer import Quantizer, Scale

TANH_DOUBLINGS = 5
MEAN_FRACTION_BITS = 40


class DoReFa(Quantizer):
    """Weights by tanh and a uniform grid (1 bit: sign and mean magnitude), activations by clipping to [0, limit]."""

    keeps_size = False

    def weight(self, weight: Tensor, bits: int, learned: Mapping[str, Tensor]) -> tuple[Tensor, Scale]:
        """Float weights of any shape -> (codes of that shape as float32, scale), ARITHMETIC.md equations 1 to 3."""
        if bits == 1:
            return _SignCodes.apply(weight), mean_magnitude(weight.detach())
        levels = 2**bits - 1
        return _TanhCodes.apply(weight, levels), 1.0 / levels

    def weight_bound(self, bits: int) -> int:
        """Codes are odd and at most 2^bits - 1 in magnitude."""
        return 2**bits - 1

    def activation_scale(self, bits: int, limit: float, learned: Mapping[str, Tensor], features: int) -> Scale:
        """The largest code stands for `limit`."""
        return limit / (2**bits - 1)


def tanh(values: Tensor) -> Tensor:
    """Hyperbolic tangent of a float64 tensor from basic operations alone, to a few units in the last place.

    tanh(x / 32) by Lambert's continued fraction cut after 7 terms, then five times tanh(2 y) = 2 t / (1 + t^2).
    """
    y = values.clamp(-20.0, 20.0) * 2.0**-TANH_DOUBLINGS
    z = y * y
    numerator = y * (((z + 378.0) * z + 17325.0) * z + 135135.0)
    denominator = ((z * 28.0 + 3150.0) * z + 62370.0) * z + 135135.0
    t = numerator / denominator
    for _ in range(TANH_DOUBLINGS):
        t = (t + t) / (t * t + 1.0)
    return t


def mean_magnitude(weight: Tensor) -> Tensor:
    """E|w| as a 0-d float64 tensor, summed in integers so that no order of summation can change it."""
    magnitude = weight.double().abs()
    largest = magnitude.max()
    if largest == 0:
        return largest
    steps = 2.0 ** min(MEAN_FRACTION_BITS, 62 - weight.numel().bit_length())
    total = (magnitude / largest * steps).round().long().sum()
    return largest * (total.double() / (weight.numel() * steps))


def _tanh_codes(weight: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """What _TanhCodes computes and saves, the same bits in two passes."""
    blocks = -(-weight.numel() // kernels.BLOCK)
    shape = torch.tensor([kernels.BLOCK, TANH_DOUBLINGS])
    t, largest = torch.empty_like(weight, dtype=torch.float64), torch.empty(blocks, dtype=torch.float64)
    kernels.tanh(blocks, shape, weight, t, largest)
    numbers = torch.stack([largest.max(), torch.tensor(float(levels), dtype=torch.float64)])
    codes, slope = torch.empty_like(weight), torch.empty_like(weight)
    kernels.tanh_codes(blocks, shape, t, numbers, codes, slope)
    return codes, slope


class _TanhCodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, levels: int) -> Tensor:
        is_dense = weight.is_contiguous() or (weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last))
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and is_dense and kernels.is_available():
            codes, slope = _tanh_codes(weight.detach(), levels)
            ctx.save_for_backward(slope)
            return codes
        t = tanh(weight.detach().double())
        largest = t.abs().max()
        if largest > 0:
            t = t / largest
        ctx.save_for_backward(((1.0 - (t * largest) ** 2) * (levels / largest.clamp_min(1e-300))).float())
        return (((t * 0.5 + 0.5) * levels).round() * 2.0 - levels).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # d(code)/d(weight) with the rounding left out and max|tanh w| held constant
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None


class _SignCodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(1.0 / mean_magnitude(weight).clamp_min(1e-12).to(weight.dtype))
        return torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # the real weight is E|w| code and passes its gradient unchanged, so the code's is divided by E|w|
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope
