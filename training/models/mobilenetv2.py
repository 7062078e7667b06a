"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), as torchvision has it."""

import re

from sim.network import Activation, Conv, Graph, Input
from training.models.rows import RESIDUAL_LIMIT, Rows

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels at width 32, blocks, stride of the first block."""
PUBLISHED_WIDTH, HEAD = 32, 1280
RELU6 = Activation("inner", 6.0, "relu6")
LINEAR = Activation("skip", RESIDUAL_LIMIT, "none")
NARROW_LINEAR = Activation("inner", function="none")


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` next to it, not less than nine tenths of it (the rule of the published code)."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded if rounded >= 0.9 * channels else rounded + by


def mobilenetv2(image: Input, classes: int, width: int) -> Graph:
    """MobileNetV2 with `width` / 32 times the published channels, multiples of 8; published width: 32.

    Images smaller than 64 pixels: strides of 1 in the stem and in the stage of 24 channels.  Bottlenecks keep their sign and
    have the role "skip", with or without a residual; each block reads them through a requantization to its own width.
    torchvision's dropout before the classifier is left out: at inference it is nothing.
    """
    rows = Rows(image, classes, width)
    factor = width / PUBLISHED_WIDTH
    rows.add(Conv("stem", image.name, divisible(width), 3, 1 if rows.is_small else 2, 1, role="boundary", activation=RELU6))
    index = 0
    for stage, (expansion, channels, blocks, stride) in enumerate(STAGES):
        for block in range(blocks):
            index += 1
            step = stride if not block and not (rows.is_small and stage == 1) else 1
            _block(rows, f"block{index}", expansion, divisible(channels * factor), step)
    narrow = rows.narrowed("head_in", rows.last, NARROW_LINEAR)
    rows.add(Conv("head", narrow, divisible(HEAD * max(1.0, factor)), activation=Activation("boundary", 6.0, "relu6")))
    rows.pooled(Activation("boundary", 6.0))
    return rows.classified()


def _block(rows: Rows, name: str, expansion: int, channels: int, stride: int) -> None:
    """1x1 up, 3x3 depthwise, 1x1 down; the first block has nothing to expand."""
    source, last = rows.last, rows.last
    inner = rows.shape(source)[2] * expansion
    if expansion > 1:
        narrow = rows.narrowed(f"{name}_in", source, NARROW_LINEAR)
        last = rows.add(Conv(f"{name}_expand", narrow, inner, activation=RELU6))
    last = rows.add(Conv(f"{name}_depthwise", last, inner, 3, stride, 1, groups=inner, activation=RELU6))
    has_residual = stride == 1 and rows.shape(source)[2] == channels and expansion > 1
    rows.add(Conv(f"{name}_project", last, channels, skip=source if has_residual else "", activation=LINEAR))


def torch_names(row: str) -> tuple[str, str]:
    """The layer and the batch norm of a row in torchvision's state dicts."""
    fixed = {"stem": ("features.0.0", "features.0.1"), "head": ("features.18.0", "features.18.1"),
             "classifier": ("classifier.1", "")}
    if row in fixed:
        return fixed[row]
    block, part = re.fullmatch(r"block(\d+)_(\w+)", row).groups()  # type: ignore[union-attr]
    parts = ["expand", "depthwise", "project"][int(block == "1") :]
    place = f"features.{block}.conv.{parts.index(part)}"
    if part == "project":
        return place, f"features.{block}.conv.{len(parts)}"
    return f"{place}.0", f"{place}.1"
