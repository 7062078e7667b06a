"""What every quantizer is, and the straight-through pieces that quantizers are made of."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sim.network import Parameters, QuantizerError
from sim.quantizers import Quantizer as TwinQuantizer

Scale = float | Tensor
"""What one code step stands for: a plain number where it is fixed, else a float64 tensor, 0-d or [channels]."""
LEAST, MOST = 2.0**-20, 2.0**20
"""A learned interval outside these counts as the nearest of them: no training can drive a scale to 0 or below (eq. 10)."""
CALIBRATIONS = ("minmax", "mse")


class Quantizer:
    """How real values become integer codes, with gradients that pass straight through the rounding.

    Learned numbers are parameters of the layer: `weight_parameters` and `activation_parameters` name them, the other methods
    receive them.  This base class has none.
    """

    twin: TwinQuantizer | None = None
    """The numpy half of a quantizer that is not built in (those find theirs by name, in sim/quantizers)."""
    weight_rate, activation_rate = 0.01, 1.0
    """Learning rates of what is learned, as parts of the weights'; those of QKD's recipe."""
    decays = False
    """Whether weight decay pulls at what is learned."""

    keeps_size = True
    """Whether weights stand for numbers as large as the float ones; if not, only a batch norm makes it good."""
    is_elementwise = False
    """Whether code and gradient of a weight depend on no other weight: then rows of a table can be quantized alone."""
    error_teaches_scale = False
    """Whether the scale of an activation learns from values beyond the clip alone, as PACT's: the gradient that reaches it
    through values inside is then taken back."""

    def check(self, bits: int) -> None:
        """Raise QuantizerError unless there is such a width."""

    def weight_parameters(self, channels: int) -> Parameters:
        """Names and shapes of what is learned about the weights of a layer."""
        return {}

    def activation_parameters(self) -> Parameters:
        """Names and shapes of what is learned about an activation."""
        return {}

    def weight(self, weight: Tensor, bits: int, learned: Mapping[str, Tensor]) -> tuple[Tensor, Scale]:
        """Float weights [Cout, ...] -> (float32 tensor of integer codes, scale)."""
        raise NotImplementedError

    def weight_bound(self, bits: int) -> int:
        """Largest absolute weight code."""
        raise NotImplementedError

    def activation(self, steps: Tensor, bits: int, scale: Scale, signed: bool = False) -> Tensor:
        """Real values, measured in code steps of size `scale` -> codes; gradient inside the clip only.

        Codes are 0 .. m, or -m .. m if `signed`, with m = 2^bits - 1: `bits` are those without the sign.
        """
        most = 2**bits - 1
        if self.error_teaches_scale:
            return ClipTaughtCodes.apply(steps, scale, most, -most * signed)
        return ActivationCodes.apply(steps, most, -most * signed)

    def activation_scale(self, bits: int, limit: float, learned: Mapping[str, Tensor], features: int) -> Scale:
        """What one activation code step stands for; `limit` is the network's clip, `features` the values of one image."""
        raise NotImplementedError

    def start_weight(self, weight: Tensor, bits: int, method: str) -> dict[str, Tensor]:
        """First values of what is learned about these weights; `method` is one of CALIBRATIONS."""
        return {}

    def start_activation(self, samples: Tensor, bits: int, method: str) -> dict[str, Tensor]:
        """First values of what is learned about an activation, from real values [any number], none negative."""
        return {}


class ActivationCodes(torch.autograd.Function):
    """Round and clip.  Few passes over the tensor: they are most of what quantization costs a training step."""

    @staticmethod
    def forward(ctx: Any, steps: Tensor, levels: int, least: int = 0) -> Tensor:
        """Nearest code, ties to even."""
        ctx.save_for_backward(steps)
        ctx.limits = least, levels
        return F.hardtanh(steps, float(least), float(levels)).round_()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient inside the clip, limits included."""
        (steps,) = ctx.saved_tensors
        return inside_gradient(gradients[0], steps, *ctx.limits), None, None


class ClipTaughtCodes(torch.autograd.Function):
    """Round and clip; the scale learns from what lies beyond the clip (PACT)."""

    @staticmethod
    def forward(ctx: Any, steps: Tensor, scale: Tensor, levels: int, least: int = 0) -> Tensor:
        """Nearest code, ties to even."""
        codes = steps.clamp(float(least), float(levels)).round_()
        ctx.save_for_backward(steps, codes, scale)
        ctx.limits = least, levels
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Of the steps inside the clip, and of the scale."""
        # steps = a / scale pass on -steps / scale, and whoever reads the codes + codes / scale: what is left of them inside
        # the clip, the rounding error, is taken back here
        steps, codes, scale = ctx.saved_tensors
        inside = inside_gradient(gradients[0], steps, *ctx.limits)
        return inside, ((inside * (steps - codes)).sum().double() / scale).reshape(scale.shape), None, None


def inside_gradient(gradient: Tensor, steps: Tensor, least: int, levels: int) -> Tensor:
    """`gradient` where least <= steps <= levels, else 0."""
    # the clip passes gradients at its limits, hardtanh_backward does not: its limits are the next floats outside
    low, high = torch.nextafter(torch.tensor([float(least), levels]), torch.tensor([-torch.inf, torch.inf])).tolist()
    # in the layout of `steps`: the gradient of a pool comes in another one, which would slow down all layers before it
    result = torch.empty_like(steps)
    torch.ops.aten.hardtanh_backward(gradient, steps, low, high, grad_input=result)
    return result


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Bound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.double().clamp(LEAST, MOST)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].float()


def round_through(values: Tensor) -> Tensor:
    """Nearest integers, ties to even; the gradient passes unchanged."""
    return _Round.apply(values)


def bounded(parameter: Tensor) -> Tensor:
    """A learned interval as float64 inside LEAST .. MOST; the gradient passes unchanged, so that it can come back."""
    value: Tensor = _Bound.apply(parameter)
    return value if value.numel() > 1 else value.reshape(())


def per_weight(scale: Tensor, weight: Tensor) -> Tensor:
    """A scale per tensor or per channel in a shape that broadcasts over weights."""
    return scale if scale.ndim == 0 else scale.view(-1, *[1] * (weight.ndim - 1))


def refuse_one_bit(name: str, bits: int) -> None:
    """Signed uniform codes of 1 bit are all zero."""
    if bits == 1:
        raise QuantizerError(f"quantizer {name} has no levels at 1 bit: choose 2 or more, or another quantizer")


def best_interval(values: Tensor, largest: Tensor, levels: int, method: str) -> Tensor:
    """The interval [rows, 1] that codes `values` [rows, n] best: up to the largest, or with the least squared error.

    `largest` [rows, 1] is max |value|; of 80 fractions of it the best is taken ("mse").
    """
    if method == "minmax":
        return largest
    values = values.detach()
    best, least = largest, torch.full_like(largest, torch.inf)
    work = torch.empty_like(values)
    for fraction in torch.linspace(0.05, 1.0, 80, dtype=values.dtype):
        interval = largest * fraction
        torch.div(values, interval.clamp_min(LEAST), out=work).clamp_(-1.0, 1.0).mul_(levels).round_()
        error = work.mul_(interval / levels).sub_(values).square_().sum(1, keepdim=True)
        best, least = torch.where(error < least, interval, best), torch.minimum(error, least)
    return best
