"""torch in float32, as a user would write it, in both layouts."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from bench.cases import MEAN, STD, ConvCase, NetworkCase, Work
from bench.resnet import ResNet20, evaluation
from training.torchvision_cpu import prepare_torchvision


def isa() -> str:
    """The level torch's own kernels were built for."""
    return torch.backends.cpu.get_cpu_capability()


def convolution(case: ConvCase, layout: torch.memory_format) -> Work:
    """The convolution alone, real numbers in and out."""
    x = torch.from_numpy(case.codes(8)).permute(0, 3, 1, 2).float().contiguous(memory_format=layout)
    weight = torch.from_numpy(case.weights(8)).permute(3, 2, 0, 1).float().contiguous(memory_format=layout)

    @torch.no_grad()
    def run() -> torch.Tensor:
        return F.conv2d(x, weight, None, case.stride, case.padding, 1, case.groups)

    return Work(run, case.gmacs)


def network(case: NetworkCase, layout: torch.memory_format) -> Work:
    """ResNet-20 out of torch's own modules."""
    def conv(depth: int, channels: int, stride: int, bits: int) -> nn.Module:
        return nn.Conv2d(depth, channels, 3, stride, 1, bias=False)

    model = ResNet20(conv, lambda bits: nn.ReLU(inplace=True), lambda bits: nn.Identity(), nn.Linear)
    return evaluation(model.to(memory_format=layout), case, layout)


TORCHVISION = {"mobilenetv2": "mobilenet_v2", "efficientnet_b0": "efficientnet_b0", "resnet18": "resnet18"}
"""The networks that both have -> torchvision's names."""


class _Normalized(nn.Module):
    """A network that takes pixels of 0 .. 255, as everyone's here does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255.0 * torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels -> logits."""
        return self.network((pixels - self.mean) / self.std)


def imagenet_module(case: NetworkCase) -> nn.Module:
    """torchvision's own module, as it comes."""
    prepare_torchvision()
    from torchvision import models

    torch.manual_seed(0)
    return _Normalized(getattr(models, TORCHVISION[case.model])())


def imagenet(case: NetworkCase, layout: torch.memory_format) -> Work:
    """It from pixels to logits."""
    return evaluation(imagenet_module(case).to(memory_format=layout), case, layout)


def _both(layout: torch.memory_format) -> dict[str, Callable[..., Work]]:
    conv = partial(convolution, layout=layout)
    return {"conv": conv, "depthwise": conv, "network": partial(network, layout=layout),
            "imagenet": partial(imagenet, layout=layout)}


BUILD = {"torch float32": _both(torch.contiguous_format), "torch float32 channels-last": _both(torch.channels_last)}
