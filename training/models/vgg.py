"""VGG (Simonyan and Zisserman 2014, arXiv 1409.1556): VGG16 as torchvision has it, and the small one of papers."""

from sim.network import Activation, AvgPool, Conv, Graph, Input, MaxPool, NetworkError
from training.models.rows import Rows

VGG16 = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
VGG_SMALL = ((2, 2), (4, 4), (8, 8))
"""Channels of the convolutions of each stage, in units of the width."""
PUBLISHED_WIDTH = 64
FULLY_CONNECTED = 64
"""Channels of a fully connected layer, in units of the width: 4096 at width 64."""
FULL_SIDE = 224
GRID = 7
"""Sides of what VGG16's first fully connected layer reads."""


def vgg16(image: Input, classes: int, width: int, *, norm: bool) -> Graph:
    """VGG16 whose first stage has `width` channels; published width: 64.

    Images of 224 pixels and more: three fully connected layers behind an average to 7x7 pixels.  Smaller ones: five stages,
    as far as there is something to halve, and one fully connected layer, as is usual for CIFAR.  torchvision's dropout is
    left out: at inference it is nothing.
    """
    rows = Rows(image, classes, width)
    _stages(rows, VGG16, width, norm)
    if min(image.height, image.width) >= FULL_SIDE:
        adaptive(rows, GRID)
        for index in (1, 2):
            rows.add(Conv(f"fc{index}", rows.last, FULLY_CONNECTED * width, kernel=rows.shape()[0], norm=False, bias=True,
                          activation=Activation("inner" if index == 1 else "boundary")))
    return rows.classified()


def vgg_small(image: Input, classes: int, width: int) -> Graph:
    """Six convolutions with batch norm, of 2, 4 and 8 `width` channels, and one layer behind them; published width: 64.

    Source: Zhang et al. 2018, LQ-Nets (arXiv 1807.10029), "VGG-Small".
    """
    rows = Rows(image, classes, width)
    _stages(rows, VGG_SMALL, width, norm=True)
    return rows.classified()


def _stages(rows: Rows, stages: tuple[tuple[int, ...], ...], width: int, norm: bool) -> None:
    for stage, channels in enumerate(stages, 1):
        for index, times in enumerate(channels, 1):
            is_first = stage == index == 1
            rows.add(Conv(f"stage{stage}_conv{index}", rows.last, times * width, 3, padding=1, norm=norm, bias=not norm,
                          role="boundary" if is_first else "inner", activation=Activation()))
        if min(rows.shape()[:2]) > 1:  # nothing is left to halve of images of 28 pixels
            rows.add(MaxPool(f"stage{stage}_pool", rows.last, 2, 2, 0))


def adaptive(rows: Rows, grid: int) -> None:
    """The newest row averaged to `grid` x `grid` pixels, where windows of one size do it; nothing if it has them."""
    height, width, _ = rows.shape()
    if height % grid or width % grid or not height:
        raise NetworkError(f"{rows.last}: {height}x{width} pixels are not averaged to {grid}x{grid} by windows of one size, "
                           f"choose other images, such as {FULL_SIDE}x{FULL_SIDE}")
    if (window := (height // grid, width // grid)) != (1, 1):
        if window[0] != window[1]:
            raise NetworkError(f"{rows.last}: {height}x{width} pixels would need strides of two sizes")
        rows.add(AvgPool("pool", rows.last, window[0], window[0], activation=Activation()))


def torch_names(row: str, *, norm: bool) -> tuple[str, str]:
    """The layer and the batch norm of a row in torchvision's state dicts; the small form's one layer is "classifier"."""
    fixed = {"fc1": ("classifier.0", ""), "fc2": ("classifier.3", "")}
    if row in fixed:
        return fixed[row]
    stage, index = (int(part) for part in row.removeprefix("stage").split("_conv"))
    before = sum(len(channels) * (3 if norm else 2) + 1 for channels in VGG16[: stage - 1])
    layer = before + (index - 1) * (3 if norm else 2)
    return f"features.{layer}", f"features.{layer + 1}" if norm else ""
