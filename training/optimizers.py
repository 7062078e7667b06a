"""Optimizers by name, and how fast each group of parameters learns.  A new one is a function and its row."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from training.network import QuantNetwork
from training.presets import Recipe
from training.quantizers import QUANTIZERS

Group = dict[str, Any]
"""Parameters, their weight decay, and the part of the rate that they learn at."""
SGD, NESTEROV, ADAMW = "sgd", "nesterov", "adamw"
SECOND_BETA, ADAM_EPS = 0.999, 1e-8
"""Of Kingma and Ba 2015."""


def _sgd(groups: list[Group], recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=recipe.optimizer == NESTEROV)


def _adamw(groups: list[Group], recipe: Recipe) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2)."""
    return torch.optim.AdamW(groups, recipe.lr, betas=(recipe.momentum, SECOND_BETA), eps=ADAM_EPS)


def _all(parameters: list[nn.Parameter], decay: float) -> list[Group]:
    """Everything decays, as in most recipes for convolutional networks, those of Liao et al. 2020 among them."""
    return [{"params": parameters, "rate_scale": 1.0, "weight_decay": decay}]


def _matrices(parameters: list[nn.Parameter], decay: float) -> list[Group]:
    """Biases and what norms learn do not decay, as in BERT (Devlin et al. 2019): whatever has one axis."""
    parts = [([p for p in parameters if p.ndim > 1], decay), ([p for p in parameters if p.ndim <= 1], 0.0)]
    return [{"params": part, "rate_scale": 1.0, "weight_decay": its} for part, its in parts if part]


OPTIMIZERS: Mapping[str, tuple[Callable[[list[Group], Recipe], torch.optim.Optimizer],
                               Callable[[list[nn.Parameter], float], list[Group]]]] = MappingProxyType({
    SGD: (_sgd, _all), NESTEROV: (_sgd, _all), ADAMW: (_adamw, _matrices)})
"""name -> how it is built of groups, and which of the network's own parameters decay."""


def optimizer_of(networks: Iterable[QuantNetwork], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of a recipe; the loop sets the rates of its groups before each step.

    What quantizers learn has rates of its own, and weight decay only if its quantizer wants it.
    """
    build, decaying = OPTIMIZERS[recipe.optimizer]
    groups: list[Group] = []
    for network in networks:
        learned = network.learned_parameters()
        special = {id(parameter) for parameter in learned.values()}
        groups += decaying([p for p in network.parameters() if id(p) not in special], recipe.weight_decay)
        rules = QUANTIZERS[network.quantizer]
        for scale, chosen in ((rules.weight_rate, [p for name, p in learned.items() if ".activate." not in name]),
                              (rules.activation_rate, [p for name, p in learned.items() if ".activate." in name])):
            if chosen:
                decay = recipe.weight_decay if rules.decays else 0.0
                groups.append({"params": chosen, "rate_scale": scale, "weight_decay": decay})
    return build(groups, recipe)


def clip_gradients(parameters: Iterable[Tensor], most: float) -> None:
    """Scale all gradients together down to a norm of `most`, if it is larger (Pascanu et al. 2013); 0: nothing."""
    if most:
        torch.nn.utils.clip_grad_norm_(parameters, most)
