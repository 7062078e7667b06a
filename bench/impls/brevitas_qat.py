"""Brevitas: ResNet-20 with its int8-style quantizers at 2 or 3 bits, training step and evaluation."""

from collections.abc import Callable
from functools import partial

import brevitas.nn as qnn
import torch
from brevitas.quant import Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from torch import nn

from bench.cases import NetworkCase, Work
from bench.resnet import BOUNDARY, ResNet20, evaluation, training_step

WARM_UP = 2
"""Steps in which its activations collect statistics, slower ones than all later steps."""
DEFAULT_WARM_UP = 300
"""As long as a user who leaves it alone waits for the later steps."""


def isa() -> str:
    """The level torch's own kernels were built for."""
    return torch.backends.cpu.get_cpu_capability()


def _model(bits: int, case: NetworkCase, warm_up: int = WARM_UP) -> ResNet20:
    """After the shorter warm-up."""
    torch.manual_seed(0)
    activation = partial(_activation, warm_up=warm_up)
    model = ResNet20(_conv, activation, activation, _linear, bits).to(memory_format=torch.channels_last)
    model.train()
    pixels = torch.from_numpy(case.pixels()[: case.batch]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        for _ in range(WARM_UP + 1):
            model(pixels.contiguous(memory_format=torch.channels_last))
    return model


def _conv(depth: int, channels: int, stride: int, bits: int) -> nn.Module:
    return qnn.QuantConv2d(depth, channels, 3, stride=stride, padding=1, bias=False,
                           weight_quant=Int8WeightPerTensorFloat, weight_bit_width=bits)


def _activation(bits: int, warm_up: int) -> nn.Module:
    return qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=bits, collect_stats_steps=warm_up)


def _linear(depth: int, channels: int) -> nn.Module:
    return qnn.QuantLinear(depth, channels, bias=True, weight_quant=Int8WeightPerTensorFloat, weight_bit_width=BOUNDARY)


def network(case: NetworkCase) -> Work:
    """As model.eval() runs it."""
    return evaluation(_model(3, case), case)


def inference_network(case: NetworkCase) -> Work:
    """With the context manager that keeps quantized weights between calls."""
    from brevitas.export.inference import quant_inference_mode

    model = _model(3, case).eval()
    mode = quant_inference_mode(model)
    mode.__enter__()  # for as long as this process lives
    return evaluation(model, case)


def step(case: NetworkCase, bits: int, warm_up: int = WARM_UP, autocast: bool = False) -> Work:
    """A quantization-aware training step of cross-entropy alone."""
    return training_step(_model(bits, case, warm_up), case, autocast)


BUILD: dict[str, dict[str, Callable[..., Work]]] = {
    "Brevitas W3A3": {"network": network},
    "Brevitas W3A3, quant_inference_mode": {"network": inference_network},
    "Brevitas W2A2": {"train_step": partial(step, bits=2)},
    "Brevitas W2A2, bfloat16 autocast": {"train_step": partial(step, bits=2, autocast=True)},
    "Brevitas W2A2, first 300 steps": {"train_step": partial(step, bits=2, warm_up=DEFAULT_WARM_UP)},
}
