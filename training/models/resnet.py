"""ResNets: those of He et al. 2015 for small images, shortcuts A, and ResNet-18, 34 and 50 as torchvision has them."""

import re

from sim.network import Activation, AvgPool, Conv, Graph, Input, MaxPool, Requantize, Row, Shortcut
from training.models.rows import RESIDUAL_LIMIT, Rows

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Blocks of each stage."""
BOTTLENECK = 4
"""How many times as many channels the last layer of a bottleneck has."""
RESIDUAL = Activation("skip", RESIDUAL_LIMIT)
PROJECTED = Activation("skip", RESIDUAL_LIMIT, "none")


def cifar_resnet(image: Input, classes: int, width: int, *, depth: int) -> Graph:
    """ResNet of 6 n + 2 layers: three stages of width, 2 width and 4 width channels.

    The residual path stays at its own width (role "skip") from the first layer to the pooling; each block reads it
    through a requantization to its own, narrow one.
    """
    rows = Rows(image, classes, width)
    rows.add(Conv("stem", image.name, channels=width, kernel=3, padding=1, role="boundary", activation=RESIDUAL))
    for stage in range(3):
        for block in range((depth - 2) // 6):
            channels, stride = width << stage, 2 if stage and not block else 1
            for row in _cifar_block(f"stage{stage + 1}_block{block + 1}", rows.last, channels, stride):
                rows.add(row)
    height, width_left = -(-image.height // 4), -(-image.width // 4)  # two stages halve them, rounding up
    rows.add(AvgPool("pool", rows.last, height, kernel_width=width_left, activation=Activation("boundary", RESIDUAL_LIMIT)))
    return rows.classified()


def _cifar_block(name: str, source: str, channels: int, stride: int) -> list[Row]:
    rows: list[Row] = [
        Requantize(f"{name}_in", source),
        Conv(f"{name}_conv1", f"{name}_in", channels, 3, stride, 1, activation=Activation()),
    ]
    skip = source
    if stride != 1:
        skip = f"{name}_skip"
        rows.append(Shortcut(skip, source, channels, stride))
    rows.append(Conv(f"{name}_conv2", f"{name}_conv1", channels, 3, 1, 1, skip=skip, activation=RESIDUAL))
    return rows


def imagenet_resnet(image: Input, classes: int, width: int, *, depth: int) -> Graph:
    """ResNet-18, 34 or 50: four stages of width, 2, 4 and 8 width channels (bottlenecks: 4 times as many), shortcuts B.

    Published width: 64.  Images of 64 pixels and more begin with a 7x7 convolution of stride 2 and a 3x3 maximum of stride
    2, smaller ones with a 3x3 convolution.  Strides of a bottleneck stand in its 3x3 convolution, as in torchvision.
    The residual path has the role "skip"; projections on it keep their sign.
    """
    rows = Rows(image, classes, width)
    kernel, stride = (3, 1) if rows.is_small else (7, 2)
    rows.add(Conv("stem", image.name, width, kernel, stride, kernel // 2, role="boundary", activation=RESIDUAL))
    if not rows.is_small:
        rows.add(MaxPool("stem_pool", rows.last, 3, 2, 1))
    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            _block(rows, f"stage{stage + 1}_block{block + 1}", width << stage, 2 if stage and not block else 1, depth >= 50)
    rows.pooled(Activation("boundary", RESIDUAL_LIMIT))
    return rows.classified()


def _block(rows: Rows, name: str, channels: int, stride: int, is_bottleneck: bool) -> None:
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1, beside a shortcut that is a 1x1 convolution where the shape changes."""
    source, wide = rows.last, channels * (BOTTLENECK if is_bottleneck else 1)
    windows = ((1, 1), (3, stride), (1, 1)) if is_bottleneck else ((3, stride), (3, 1))
    narrow, skip = rows.narrowed(f"{name}_in", source), source
    if stride != 1 or rows.shape(source)[2] != wide:
        skip = rows.add(Conv(f"{name}_skip", narrow, wide, 1, stride, activation=PROJECTED))
    for index, (kernel, step) in enumerate(windows, 1):
        is_last = index == len(windows)
        narrow = rows.add(Conv(
            f"{name}_conv{index}", narrow, wide if is_last else channels, kernel, step, kernel // 2,
            skip=skip if is_last else "", activation=RESIDUAL if is_last else Activation()))


def torch_names(row: str) -> tuple[str, str]:
    """The layer and the batch norm of a row in torchvision's state dicts."""
    fixed = {"stem": ("conv1", "bn1"), "classifier": ("fc", "")}
    if row in fixed:
        return fixed[row]
    stage, block, part = re.fullmatch(r"stage(\d)_block(\d+)_(conv\d|skip)", row).groups()  # type: ignore[union-attr]
    place = f"layer{stage}.{int(block) - 1}"
    if part == "skip":
        return f"{place}.downsample.0", f"{place}.downsample.1"
    return f"{place}.{part}", f"{place}.{part.replace('conv', 'bn')}"


def cifar_torch_names(row: str) -> tuple[str, str]:
    """As akamaster/pytorch_resnet_cifar10 has them."""
    return ("linear", "") if row == "classifier" else torch_names(row)
