"""This project's torch models: the fake-quantized one in eval mode, and training steps at several widths."""

from collections.abc import Callable
from functools import partial

import torch

from bench.cases import NetworkCase, Work, resnet20
from bench.resnet import evaluation, training_step
from sim.network import Precision
from training.network import QuantNetwork


def isa() -> str:
    """The level torch's own kernels were built for."""
    return torch.backends.cpu.get_cpu_capability()


def _model(bits: int) -> QuantNetwork:
    torch.manual_seed(0)
    return QuantNetwork(resnet20(), Precision.of(bits)).channels_last()


def network(case: NetworkCase) -> Work:
    """W3A3, whose codes the machine reproduces."""
    return evaluation(_model(3), case)


def step(case: NetworkCase, bits: int, gradients: torch.dtype = torch.float32) -> Work:
    """A training step of cross-entropy alone."""
    model = _model(bits)
    model.multiply_gradients_as(gradients)
    return training_step(model, case)


BUILD: dict[str, dict[str, Callable[..., Work]]] = {
    "torch FQ W3A3": {"network": network},
    "bittrue float32": {"train_step": partial(step, bits=32)},
    **{f"bittrue W{bits}A{bits}": {"train_step": partial(step, bits=bits)} for bits in (8, 4, 2, 1)},
    **{f"bittrue {name}, bfloat16 gradients": {"train_step": partial(step, bits=bits, gradients=torch.bfloat16)}
       for name, bits in (("float32", 32), ("W2A2", 2))},
}
