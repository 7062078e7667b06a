"""Softmax and norms: integer definitions by name forward, in train() too; the gradients of their float shape backward."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.definitions import NORMS, SOFTMAXES, Definition
from sim.network import FLOAT_BITS, IntFormat, LayerNorm, NetworkError, Softmax
from training.layers.codes import Codes, in_steps, number, rescaled
from training.layers.layer import Context, Layer
from training.layers.through import straight_through
from training.quantizers import Scale


def rows_of(definition: Definition, values: Tensor) -> Tensor:
    """Codes [N, C, H, W] -> those of the definition, for the channels of every pixel."""
    rows = values.permute(0, 2, 3, 1).long()
    codes: Tensor = definition.codes(rows)
    return codes.permute(0, 3, 1, 2).float()


class SoftmaxLayer(Layer):
    """The definition's codes, worth what it says."""

    def __init__(self, row: Softmax, context: Context) -> None:
        super().__init__(row, context)
        self.bits = row.width(context.precision)

    def forward(self, x: Codes) -> Codes:
        """[N, C, H, W], over C."""
        return self._masked(x, None)

    def _masked(self, x: Codes, kept: Tensor | None) -> Codes:
        """Of the channels that are kept (bool [N, C]; None for all of them)."""
        if self.bits == FLOAT_BITS:
            return self._smooth(x, 1.0, float("inf"), kept)
        levels = 2.0**self.bits - 1.0
        if not math.isfinite(x.bound):  # real numbers have no definition
            smooth = self._smooth(x, 1.0 / levels, levels, kept)
            return straight_through(smooth, smooth.values.detach().round())
        with torch.no_grad():
            definition = SOFTMAXES[self.row.definition].build(number(x.scale), x.format, IntFormat(self.bits, signed=False))
            codes = self._found(definition, x.values, kept)
        step = definition.output_scale(number(x.scale))
        if step is None:
            raise NetworkError(f"{self.row.name}: codes of {self.row.definition} are exponents, which no other row reads")
        if not torch.is_grad_enabled():
            return Codes(codes, step, levels, least=0.0)
        return straight_through(self._smooth(x, step, levels, kept), codes)

    def _found(self, definition: Definition, values: Tensor, kept: Tensor | None) -> Tensor:
        """Its codes."""
        return rows_of(definition, values)

    def _smooth(self, x: Codes, step: float, levels: float, kept: Tensor | None = None) -> Codes:
        """In real numbers, in units of `step`."""
        weights = torch.softmax(rescaled(x.values.float(), x.scale).permute(0, 2, 3, 1), -1)  # the last axis is the fast one
        return Codes(in_steps(weights.permute(0, 3, 1, 2), step), step, levels, least=0.0)


def _layer_norm(values: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    return F.layer_norm(values, weight.shape, weight, bias, eps)


def _rms_norm(values: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    return values * (values.square().mean(-1, keepdim=True) + eps).rsqrt() * weight


def _no_norm(values: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    return values * weight if bias is None else values * weight + bias


SHAPES: Mapping[str, Callable[[Tensor, Tensor, Tensor | None, float], Tensor]] = {"irmsnorm": _rms_norm, "inonorm": _no_norm}
"""Float shapes of norms on [..., C], by definition; what is not here is a layer norm."""


class LayerNormLayer(Layer):
    """The definition's codes, worth the activation's step."""

    def __init__(self, row: LayerNorm, context: Context) -> None:
        super().__init__(row, context)
        channels = context.shapes[row.name][2]
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if row.has_bias else None

    def forward(self, x: Codes) -> Codes:
        """[N, C, H, W], over C."""
        step = self.end.step()
        if self.end.is_float or not math.isfinite(x.bound):
            return self._smooth(x, step)
        with torch.no_grad():
            arrays = {"gamma": self.weight} | ({} if self.bias is None else {"beta": self.bias})
            definition = NORMS[self.row.definition].build(
                number(x.scale), x.format, self.end.activation.format(self.end.bits), number(step),
                {name: array.detach().cpu().numpy() for name, array in arrays.items()}, self.row.eps)
            codes = rows_of(definition, x.values)
        if not torch.is_grad_enabled():
            return Codes(codes, step, self.end.levels, least=self.end.least)
        return straight_through(self._smooth(x, step), codes)

    def _smooth(self, x: Codes, step: Scale) -> Codes:
        """In real numbers, with gradients, then as codes."""
        shape = SHAPES.get(self.row.definition, _layer_norm)
        values = rescaled(x.values.float(), x.scale).permute(0, 2, 3, 1)
        normalized = shape(values, self.weight, self.bias, self.row.eps).permute(0, 3, 1, 2)
        return self.end(in_steps(normalized, step), step)
