"""Training a student for the register of its inner layers: which ways there are, what each asks of the network, and when.

    a2q       weights that no sum can overflow by (A2Q)               limits of norms, a penalty on what is beyond them
    a2q+      the same, weights less their mean (A2Q+)                and first weights projected onto the limit
    overflow  forward through the register, overflows and all         training/layers/register.py

The first two are quantizers of weights (training/quantizers/a2q.py) that find their limits here, as these follow from the
register and from the codes that a layer reads.  First and last layer are exempt, as from `sim.eval --accumulator`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sim.accumulator import Accumulator, bits_for
from sim.network import FLOAT_BITS
from sim.ops.matmul import product_bounds
from sim.quantizers.a2q import LIMIT, NORM, SCALE, UNLIMITED, norm_limit
from training.layers import Codes, Layer
from training.layers.matmul import MatMulLayer
from training.network import QuantNetwork
from training.options import ConfigError
from training.register_options import A2Q, A2Q_PLUS, OVERFLOW, accumulator_of

PENALTY = 1e-3
"""Of the norms' excess in the loss, as in the papers."""


class Trained:
    """How a student is trained for a register: nothing happens here, subclasses say what does."""

    def attach(self, network: QuantNetwork) -> None:
        """Once, when the network is built or read."""
        network.register = self

    def fit(self, network: QuantNetwork, sample: Tensor) -> None:
        """When the network's first weights and scales are there; `sample` is what it reads, of any number of images.

        Raises ConfigError for a network that cannot be trained so.
        """

    def penalized(self, network: QuantNetwork, loss: Tensor) -> Tensor:
        """The loss of a step with what this adds to it."""
        return loss


@dataclass(frozen=True)
class Overflowing(Trained):
    """Sums go through the register."""

    accumulator: Accumulator

    def attach(self, network: QuantNetwork) -> None:
        """Inner layers compute with it from now on."""
        super().attach(network)
        network.limit(self.accumulator)


@dataclass(frozen=True)
class Normed(Trained):
    """Norms of weight codes are within what a register of `bits` holds whatever the input is; `centered` is A2Q+."""

    bits: int
    centered: bool

    @torch.no_grad()
    def fit(self, network: QuantNetwork, sample: Tensor) -> None:
        """Give every inner layer its limit; first weights of A2Q+ are the nearest within it."""
        for layer, codes in _operands(network, sample[:1]):
            name = layer.row.name
            if isinstance(layer, MatMulLayer):
                self._check_product(name, codes)
                continue
            if not math.isfinite(codes[0].bound):
                continue  # float weights and activations have no register
            operand = codes[0].format
            limit = norm_limit(self.bits, operand, self.centered)
            if limit < 1:
                raise ConfigError(f"accumulator-bits: {self.bits} bits hold no product of {name}, whose inputs reach "
                                  f"{operand.reach}: choose {bits_for(0, operand.reach)} or more")
            getattr(layer, LIMIT).fill_(_float32_below(min(limit, int(UNLIMITED) - 1)))
            if self.centered:
                _project(layer, float(limit))

    def penalized(self, network: QuantNetwork, loss: Tensor) -> Tensor:
        """Plus 1e-3 times the sum of max(t - T, 0) over inner channels, T = log2(limit) + d (A2Q, section 4.1)."""
        for layer in (layer for layer in network.accumulating() if not isinstance(layer, MatMulLayer)):
            limit = getattr(layer, LIMIT).detach()
            if 0.0 < float(limit) < UNLIMITED:
                excess = getattr(layer, NORM) - getattr(layer, SCALE) - limit.log2()
                loss = loss + PENALTY * excess.clamp_min(0.0).sum()
        return loss

    def _check_product(self, name: str, codes: tuple[Codes, ...]) -> None:
        """Raise ConfigError for a product of activations that has no weights to hold it within the register."""
        needed = bits_for(*product_bounds(codes[0].format, codes[1].format, codes[0].values.shape[1]))
        if needed > self.bits:
            raise ConfigError(f"accumulator-bits: {name} multiplies two activations, so that no weights can keep its sums "
                              f"within {self.bits} bits: choose {needed} or more, or --accumulator-training {OVERFLOW}")


def attach(network: QuantNetwork, config: Any) -> QuantNetwork:
    """`network` as a configuration trains it; networks of other widths than the student's are left as they are."""
    found = trained_for(config)
    if found is not None and network.precision.inner == config.bits != FLOAT_BITS:
        found.attach(network)
    return network


def trained_for(config: Any) -> Trained | None:
    """What a configuration (RunConfig) says of the register; None if nothing."""
    return _MAKERS[config.accumulator_training](config) if config.accumulator_bits else None


_MAKERS: Mapping[str, Callable[[Any], Trained]] = MappingProxyType({
    A2Q: lambda config: Normed(config.accumulator_bits, centered=False),
    A2Q_PLUS: lambda config: Normed(config.accumulator_bits, centered=True),
    OVERFLOW: lambda config: Overflowing(accumulator_of(config))})


@torch.no_grad()
def _operands(network: QuantNetwork, sample: Tensor) -> list[tuple[Layer, tuple[Codes, ...]]]:
    """Inner layers with registers, and the codes that they read."""
    found: list[tuple[Layer, tuple[Codes, ...]]] = []

    def note(module: nn.Module, given: tuple[Codes, ...]) -> None:
        assert isinstance(module, Layer)
        found.append((module, given))

    handles = [layer.register_forward_pre_hook(note) for layer in network.accumulating()]
    was_training = network.training
    try:
        network.eval()(sample)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return found


def _project(layer: Any, limit: float) -> None:
    """Weights less their mean, then the nearest ones whose norm is the limit's; the learned norm follows (A2Q+, 4.2).

    argmin |v - w|^2 with |v|_1 <= z has v = sign(w) max(|w| - theta, 0) (Duchi et al. 2008).
    """
    rows = layer.weight.detach().double().reshape(len(layer.weight), -1)
    if rows.shape[1] > 1:
        rows = rows - rows.mean(1, keepdim=True)
    nearest = project(rows, limit * torch.exp2(getattr(layer, SCALE).double()))
    layer.weight.copy_(nearest.reshape(layer.weight.shape))
    getattr(layer, NORM).copy_(nearest.abs().sum(1).clamp_min(2.0**-20).log2())


def project(rows: Tensor, radius: Tensor) -> Tensor:
    """Float64 [rows, n] -> the nearest of L1 norm `radius` [rows] at most (Duchi et al. 2008, figure 1)."""
    magnitudes = rows.abs()
    falling = magnitudes.sort(1, descending=True).values
    excess = falling.cumsum(1) - radius[:, None]
    counts = torch.arange(1, rows.shape[1] + 1, dtype=rows.dtype, device=rows.device)
    last = (falling * counts > excess).sum(1, keepdim=True).clamp_min(1)
    theta = (excess.gather(1, last - 1) / last).clamp_min(0.0)
    return rows.sign() * (magnitudes - theta).clamp_min(0.0)


def _float32_below(limit: int) -> float:
    """The largest float32 that is no more than a limit."""
    near = np.float32(limit)
    return float(near if float(near) <= limit else np.nextafter(near, np.float32(0.0)))
