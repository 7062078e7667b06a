"""What a data set is: three splits of uint8 images, or of texts, their statistics, and a digest of all that is in them."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.network import Input, Row, TokenInput
from sim.tasks import CLASSIFICATION
from training.data.texts import Texts


class DataError(ValueError):
    """Data that are missing or not what they should be, and what to do."""


@dataclass(frozen=True, repr=False)
class Images:
    """`pixels` uint8 [N, C, H, W] and `labels` int64 [N]."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        channels, height, width = self.pixels.shape[1:]
        return f"<{len(self)} images {height}x{width}x{channels}>"

    questions = None
    """Nothing is asked about images."""

    @property
    def inputs(self) -> Tensor:
        """The pixels."""
        return self.pixels

    def ready(self) -> Tensor:
        """The pixels as a network takes them: float, channels last in memory."""
        return self.pixels.float().contiguous(memory_format=torch.channels_last)

    def take(self, index: Tensor) -> "Images":
        """Some images, in that order."""
        return Images(self.pixels[index], self.labels[index])

    def batches(self, size: int) -> Iterator["Images"]:
        """Consecutive images; the last batch is perhaps smaller."""
        for start in range(0, len(self), size):
            yield Images(self.pixels[start : start + size], self.labels[start : start + size])

    def plain(self) -> np.ndarray:
        """uint8 [N, height, width, channels], as a machine takes it."""
        return self.pixels.permute(0, 2, 3, 1).contiguous().numpy()

    def content(self) -> Iterator[bytes | memoryview]:
        """All that makes it what it is, for digests."""
        yield repr(tuple(self.pixels.shape)).encode()
        yield self.pixels.permute(0, 2, 3, 1).contiguous().numpy().data  # as stored: no copy is made
        yield self.labels.numpy().data

    @property
    def described(self) -> str:
        """What one of it is, for people."""
        channels, height, width = self.pixels.shape[1:]
        return f"images of {height}x{width}x{channels}"

    def to(self, device: torch.device) -> "Images":
        """A copy on a device."""
        return Images(self.pixels.to(device), self.labels.to(device))

    def first(self, count: int | None) -> "Images":
        """The first `count` images (all if None)."""
        return self if count is None else Images(self.pixels[:count], self.labels[:count])


Examples = Images | Texts
"""A split."""


@dataclass(frozen=True, repr=False)
class Dataset:
    """Three splits, the number of classes, and the training split's channel statistics in units of 255.

    Of texts there are no statistics, and the classes are what each token may be: begin and end of an answer.
    """

    name: str
    """Its row in the table of sources; "arrays" if it came from Python."""
    path: str
    """As the user gave it, "" if nothing was given."""
    label: str
    """How tables name it."""
    train: Any
    validation: Any
    test: Any
    """`Images`, or `Texts`."""
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str = "none"
    """What its training images go through unless a run says otherwise, one of AUGMENTATIONS."""
    class_names: tuple[str, ...] = ()
    """One per class; "0", "1", ... where nothing better is known."""
    notes: tuple[str, ...] = ()
    """What was converted, left out or held out on the way, one line each, to be printed and recorded."""
    size: str = ""
    """"HEIGHTxWIDTH" that images were resized to, "" if they came as they are."""
    test_files: tuple[str, ...] = ()
    """Files of the test images below `path`, in their order; empty where images have no files of their own."""
    task: str = CLASSIFICATION
    """Its row in sim.tasks.TASKS."""
    vocabulary: int = 0
    """Words that ids stand for; 0 of images."""
    separator: int = 0
    """The id between a question and a text."""
    _loaded: tuple[int, ...] = field(default=(), init=False, compare=False)
    """Versions of its tensors when its source gave it; a copy with other parts (`dataclasses.replace`) has none."""

    def __repr__(self) -> str:
        counts = "/".join(str(len(split)) for split in (self.train, self.validation, self.test))
        described = self.test.described.replace("images of", "images")
        return f"<Dataset {self.label}: {counts} {described} to train/validate/test, {self.classes} classes>"

    @property
    def is_text(self) -> bool:
        """Whether its splits are `Texts`."""
        return self.vocabulary > 0

    @property
    def tokens(self) -> int:
        """Of a window of text."""
        return int(self.train.inputs.shape[1])

    def first_row(self, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> Row:
        """The first row of its networks; of images by the data set's own mean and deviation if none are given."""
        if self.is_text:
            return TokenInput("ids", self.tokens, self.vocabulary, self.separator)
        channels, height, width = self.train.pixels.shape[1:]
        return Input("image", "", height, width, channels, mean or self.mean, std or self.std)

    def digest(self) -> str:
        """SHA-256 in hexadecimal of every pixel and label, so that a run can tell that its data changed.

        The same wherever the data lie; names, notes and classes without images do not count.
        """
        return self._digest

    def mark_loaded(self) -> "Dataset":
        """Itself, remembered as what its name and path stand for."""
        object.__setattr__(self, "_loaded", self._versions())
        return self

    @property
    def is_as_loaded(self) -> bool:
        """Whether loading its name and path again gives the same: it was loaded so, and no operation has changed it."""
        return self._loaded == self._versions()

    def _versions(self) -> tuple[int, ...]:
        return tuple(part._version for split in (self.train, self.validation, self.test)
                     for part in (split.inputs, split.labels))

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for part in split.content():
                digest.update(part)
        return digest.hexdigest()


def batches(examples: Any, size: int) -> Iterator[Any]:
    """Consecutive batches of a split, the last one perhaps smaller."""
    yield from examples.batches(size)


def images_of(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Tensors of uint8 [N, H, W, C] and whole numbers [N]; the channels stay last in memory."""
    return Images(torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2),
                  torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64)))


AT_ONCE = 1000
"""Images whose sums are taken together."""


def statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel in units of 255, from exact integer sums."""
    count = pixels[:, 0].numel()
    totals, squares = [0] * pixels.shape[1], [0] * pixels.shape[1]
    for part in pixels.split(AT_ONCE):
        values = part.transpose(0, 1).flatten(1).to(torch.float64)  # holds the sums of so many exactly
        for channel, row in enumerate(values):
            totals[channel] += int(row.sum())
            squares[channel] += int(row @ row)
    mean, std = [], []
    for total, square in zip(totals, squares, strict=True):
        variance = (square * count - total**2) / count**2
        mean.append(total / count / 255.0)
        std.append(max(math.sqrt(variance), 1.0) / 255.0)  # a constant channel keeps a usable scale
    return tuple(mean), tuple(std)
