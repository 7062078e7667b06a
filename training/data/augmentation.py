"""Augmentation of whole batches on the training device."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sim.text import printable
from training.data.dataset import DataError, Examples, Images

CROP_PART = 8
"""An axis is shifted by up to this part of it: 4 pixels of 32.

Of fewer than 8 pixels that is less than one, and a whole one would be a larger shift than anywhere else (a quarter of
4 pixels, all of a single line): such an axis is too small to crop and is left as it is.
"""
CUT_PART = 4
"""The side of the square that is cut out of an image is this part of its shorter side: 8 pixels of 32."""
NO_CHANGE = "none"
Change = Callable[[Tensor, torch.Generator], Tensor]
"""Of a batch uint8 [N, C, H, W]; draws from the generator."""


def crop_padding(height: int, width: int) -> tuple[int, int]:
    """Pixels of padding above and below, left and right before a random crop.

    >>> crop_padding(32, 32), crop_padding(8, 100), crop_padding(7, 7)
    ((4, 4), (1, 12), (0, 0))
    """
    return height // CROP_PART, width // CROP_PART


def cut_size(height: int, width: int) -> int:
    """The side of the square that is cut out of an image, in pixels; 0 of an image too small for one.

    >>> cut_size(32, 32), cut_size(3, 100)
    (8, 0)
    """
    return min(height, width) // CUT_PART


def crop_and_flip(pixels: Tensor, padding: int | tuple[int, int], flip: bool, generator: torch.Generator) -> Tensor:
    """A random crop of each zero-padded image and, with probability 1/2, its mirror image.  [N, C, H, W] both ways.

    `padding` counts pixels, of both axes or (rows, columns).
    """
    above, left = (padding, padding) if isinstance(padding, int) else padding
    count, _, height, width = pixels.shape
    down, right = (torch.randint(0, 2 * most + 1, (count,), generator=generator).to(pixels.device)
                   for most in (above, left))
    mirrored = (torch.rand(count, generator=generator) < 0.5).to(pixels.device) & flip
    rows = down[:, None] + torch.arange(height, device=pixels.device)
    columns = right[:, None] + torch.arange(width, device=pixels.device)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    image = torch.arange(count, device=pixels.device)[:, None, None]
    padded = F.pad(pixels, (left, left, above, above))
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(pixels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Each image with zeros in a square of that size around a pixel of its own (DeVries and Taylor 2017).

    At a border less of it is in the image.  [N, C, H, W] both ways.
    """
    count, _, height, width = pixels.shape
    inside = []
    for side, shape in ((height, (count, 1, height, 1)), (width, (count, 1, 1, width))):
        start = torch.randint(0, side, (count, 1), generator=generator).to(pixels.device) - size // 2
        place = torch.arange(side, device=pixels.device)
        inside.append(((place >= start) & (place < start + size)).view(shape))
    return pixels.masked_fill(inside[0] & inside[1], 0)


def _as_they_are(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return pixels


def _crop(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return crop_and_flip(pixels, crop_padding(*pixels.shape[2:]), False, generator)


def _crop_flip(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return crop_and_flip(pixels, crop_padding(*pixels.shape[2:]), True, generator)


def _crop_flip_cut(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return cut_out(_crop_flip(pixels, generator), cut_size(*pixels.shape[2:]), generator)


_CHANGES: Mapping[str, Change] = MappingProxyType({
    "none": _as_they_are, "crop": _crop, "crop-flip": _crop_flip, "crop-flip-cut": _crop_flip_cut})
AUGMENTATIONS = tuple(_CHANGES)
"""none: images as they are.  crop: shifted at random, zeros behind.  crop-flip: half of them mirrored, too.
crop-flip-cut: and a square of each is black."""


def check_augment(name: str) -> str:
    """The name itself; raises DataError with what there is."""
    if name not in AUGMENTATIONS:
        near = difflib.get_close_matches(str(name), AUGMENTATIONS, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(AUGMENTATIONS)}"
        raise DataError(f"augment: {printable(repr(name))} is unknown, {hint}")
    return name


def describe_augment(name: str, height: int, width: int) -> str:
    """What it does to images of that size, in words to print and to record.

    >>> describe_augment("crop-flip", 32, 32)
    'crop-flip: each image shifted by up to 4 rows and 4 columns, half of them mirrored left-right'
    >>> describe_augment("crop", 4, 32)
    'crop: each image shifted by up to 0 rows (4 are too few to crop) and 4 columns'
    >>> describe_augment("none", 32, 32)
    'none: images as they are'
    """
    if check_augment(name) == NO_CHANGE:
        return "none: images as they are"
    parts = [f"{most} {axis}" + ("" if most else f" ({size} are too few to crop)") for most, axis, size
             in zip(crop_padding(height, width), ("rows", "columns"), (height, width), strict=True)]
    flip = ", half of them mirrored left-right" if "flip" in name else ""
    size = cut_size(height, width)
    flip += f", a square of {size} x {size} pixels black" if "cut" in name else ""
    return f"{name}: each image shifted by up to {' and '.join(parts)}{flip}"


def shuffled_batches(examples: Any, size: int, *, augment: str, seed: int) -> Iterator[Any]:
    """One epoch in random order, every image augmented on its own; under "none" the very bytes of the data set.

    All randomness comes from `seed` and is drawn on the CPU, so an epoch is the same on every device and after a
    resume.  A last batch of one image is left out: batch norm has no variance there.  DataError for an unknown name, and for
    texts that would be augmented.
    """
    change = _CHANGES[check_augment(augment)]
    if not isinstance(examples, Images) and augment != NO_CHANGE:
        raise DataError(f"augment: {augment} changes images, texts are learned from as they are: choose {NO_CHANGE}")
    return _batches(examples, size, change, torch.Generator().manual_seed(seed))


def _batches(examples: Examples, size: int, change: Change, generator: torch.Generator) -> Iterator[Examples]:
    order = torch.randperm(len(examples), generator=generator)
    for start in range(0, len(examples), size):
        chosen = order[start : start + size]
        if len(chosen) == 1 and len(examples) > 1:
            return
        part = examples.take(chosen.to(examples.labels.device))
        yield Images(change(part.pixels, generator), part.labels) if isinstance(part, Images) else part
