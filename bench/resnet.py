"""ResNet-20 as a torch module out of anybody's layers, and the two things that are done with a torch model here."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cases import MEAN, STD, NetworkCase, Work

INNER, BOUNDARY = 3, 8

ConvLayer = Callable[[int, int, int, int], nn.Module]
"""(channels in, channels out, stride, bits) -> 3x3 convolution with padding 1 and without bias"""
Activation = Callable[[int], nn.Module]
"""bits -> what follows a sum, or what narrows a block's input"""


class ResNet20(nn.Module):
    """The topology of training/models/resnet.py: the residual path stays wide, each block reads it at its own width."""

    def __init__(self, conv: ConvLayer, relu: Activation, narrow: Activation, linear: Callable[[int, int], nn.Module],
                 bits: int = INNER) -> None:
        super().__init__()
        self.register_buffer("mean", 255.0 * torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(STD).view(1, 3, 1, 1))
        self.stem = nn.Sequential(conv(3, 16, 1, BOUNDARY), nn.BatchNorm2d(16), relu(BOUNDARY))
        self.blocks = nn.Sequential(*(
            Block(conv, relu, narrow, (8 << stage) if stage and not block else (16 << stage), 16 << stage, bits)
            for stage in range(3) for block in range(3)))
        self.classifier = linear(64, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels of 0 .. 255 -> logits."""
        x = self.blocks(self.stem((pixels - self.mean) / self.std))
        return self.classifier(x.mean((2, 3)))


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters."""

    def __init__(self, conv: ConvLayer, relu: Activation, narrow: Activation, depth: int, channels: int, bits: int) -> None:
        super().__init__()
        self.stride, self.added = channels // depth, channels - depth
        self.inner = nn.Sequential(
            narrow(bits), conv(depth, channels, self.stride, bits), nn.BatchNorm2d(channels), relu(bits),
            conv(channels, channels, 1, bits), nn.BatchNorm2d(channels))
        self.relu = relu(BOUNDARY)

    def forward(self, x: Tensor) -> Tensor:
        """The wide residual path in and out."""
        shortcut = x
        if self.added:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return self.relu(self.inner(x) + shortcut)


def evaluation(model: nn.Module, case: NetworkCase, layout: torch.memory_format = torch.channels_last) -> Work:
    """uint8 pixels -> logits in eval mode."""
    model.eval()
    pixels = torch.from_numpy(case.pixels()).permute(0, 3, 1, 2).contiguous()

    @torch.no_grad()
    def run() -> None:
        for start in case.starts():
            model(pixels[start : start + case.batch].float().contiguous(memory_format=layout))

    return Work(run, case.images)


def training_step(model: nn.Module, case: NetworkCase, autocast: bool = False) -> Work:
    """Forward, backward and an SGD step on one batch, channels-last; under bfloat16 autocast if asked to."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
    pixels = torch.from_numpy(case.pixels()).permute(0, 3, 1, 2)
    labels = torch.arange(case.images) % 10

    def run() -> None:
        batch = pixels.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(batch), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return Work(run, case.images)
