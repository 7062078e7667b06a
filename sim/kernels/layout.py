"""How the channels of a convolution are divided into blocks of registers, for every kernel that works on registers."""

from dataclasses import dataclass

import numpy as np

LANES = 16
"""Channels are rounded up to whole blocks of so many."""


@dataclass(frozen=True)
class Layout:
    """`parts` int64 [parts, 3]: first input channel, first output channel, number of output channels of each part.

    A part is what one tile computes for a pixel: `width` channels, of which the last may be surplus.  A kernel row is
    `segments` runs of `run` products; all kernel columns are one run unless groups stand between them.
    """

    parts: np.ndarray
    width: int
    segments: int
    run: int


def divide(weights: np.ndarray, groups: int, widest: int) -> Layout:
    """For weights [KH, KW, C / groups, Cout] and parts of 1, 2 or 4 blocks of 16 channels, up to `widest` channels."""
    _, columns, depth, channels = weights.shape
    per_group = channels // groups
    width = next(w for w in (LANES, 2 * LANES, 4 * LANES) if w >= min(per_group, widest))
    parts = [(group * depth, group * per_group + first, min(width, per_group - first))
             for group in range(groups) for first in range(0, per_group, width)]
    segments = 1 if groups == 1 else columns
    return Layout(np.array(parts, np.int64), width, segments, columns * depth // segments)


def arrange(weights: np.ndarray, layout: Layout, multiple: int) -> np.ndarray:
    """Weights as int64 [parts, KH * segments, run padded to a multiple of `multiple`, width], zeros where there are none."""
    rows = weights.shape[0]
    padded = -(-layout.run // multiple) * multiple
    arranged = np.zeros((len(layout.parts), rows * layout.segments, padded, layout.width), np.int64)
    for index, (_, first, count) in enumerate(layout.parts):
        arranged[index, :, : layout.run, :count] = weights[..., first : first + count].reshape(
            rows * layout.segments, layout.run, count)
    return arranged


def arrange_channels(numbers: np.ndarray, layout: Layout) -> np.ndarray:
    """Numbers [channels] as int64 [parts, width], 0 for surplus channels."""
    arranged = np.zeros((len(layout.parts), layout.width), np.int64)
    for index, (_, first, count) in enumerate(layout.parts):
        arranged[index, :count] = numbers[first : first + count]
    return arranged


def arrange_blocks(weights: np.ndarray, layout: Layout) -> np.ndarray:
    """The same as [parts, blocks, KH * segments, run, 16]: one block of channels after the other."""
    run = arrange(weights, layout, 1)
    parts, rows, products, width = run.shape
    return run.reshape(parts, rows, products, width // LANES, LANES).transpose(0, 3, 1, 2, 4)
