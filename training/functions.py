"""What teaches gradients where a network computes with tables: smooth functions, for backward passes alone.

A forward pass takes codes from the table that sim.functions fills.  Its derivative is that of the function here, which may
come from any library, as no code depends on it.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sim.functions import FUNCTIONS, SCALED

Smooth = Callable[[Tensor], Tensor]

SMOOTH: dict[str, Smooth] = {
    "erf": torch.erf,
    "exp": torch.exp,
    "gelu": functools.partial(F.gelu, approximate="tanh"),
    "gelu_erf": F.gelu,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "hardtanh": F.hardtanh,
    "identity": torch.clone,
    "igelu": F.gelu,
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def smooth(name: str) -> Smooth:
    """The torch function (float tensor of any shape -> the same shape) to differentiate for a name in sim's FUNCTIONS.

    One of your own is differentiated as it stands: operators have gradients, rounding has none.  Raises RegistryError for a
    name that FUNCTIONS does not know.
    """
    return SMOOTH[name] if name in SCALED else SMOOTH.get(name, FUNCTIONS.known(name))


def slope(name: str, values: Tensor) -> Tensor:
    """The derivative of that function at each of the values, a tensor of their shape and type without history."""
    with torch.enable_grad():
        leaf = values.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(smooth(name)(leaf).sum(), leaf)
    return gradient
