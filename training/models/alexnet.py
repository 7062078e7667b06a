"""AlexNet (Krizhevsky 2014, arXiv 1404.5997), as torchvision has it."""

from sim.network import Activation, Conv, Graph, Input, MaxPool
from training.models.rows import Rows
from training.models.vgg import FULL_SIDE, FULLY_CONNECTED, adaptive

CHANNELS = (1, 3, 6, 4, 4)
"""Of the five convolutions, in units of the width."""
POOLED = (1, 2, 5)
"""Convolutions that a maximum follows."""
GRID = 6


def alexnet(image: Input, classes: int, width: int) -> Graph:
    """AlexNet whose first layer has `width` channels; published width: 64.

    Images of 224 pixels and more: 3x3 maxima and three fully connected layers.  Smaller ones, as is usual for CIFAR: a wider
    border around the image, 2x2 maxima as far as there is something to halve, one fully connected layer.  torchvision's
    dropout is left out: at inference it is nothing.
    """
    rows = Rows(image, classes, width)
    is_full = min(image.height, image.width) >= FULL_SIDE
    for index, times in enumerate(CHANNELS, 1):
        kernel, stride, padding = {1: (11, 4, 2 if is_full else 5), 2: (5, 1, 2)}.get(index, (3, 1, 1))
        rows.add(Conv(f"conv{index}", rows.last, times * width, kernel, stride, padding, norm=False, bias=True,
                      role="boundary" if index == 1 else "inner", activation=Activation()))
        if index in POOLED and min(rows.shape()[:2]) > 1:
            rows.add(MaxPool(f"pool{index}", rows.last, 3 if is_full else 2, 2, 0))
    if is_full:
        adaptive(rows, GRID)
        for index in (1, 2):
            rows.add(Conv(f"fc{index}", rows.last, FULLY_CONNECTED * width, kernel=rows.shape()[0], norm=False, bias=True,
                          activation=Activation("inner" if index == 1 else "boundary")))
    return rows.classified()


LAYERS = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8", "conv5": "features.10",
          "fc1": "classifier.1", "fc2": "classifier.4", "classifier": "classifier.6"}
"""Rows of the full form in torchvision's state dicts."""


def torch_names(row: str) -> tuple[str, str]:
    """The layer of a row in torchvision's state dicts; there is no batch norm."""
    return LAYERS[row], ""
