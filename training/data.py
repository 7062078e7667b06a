"""Data sets as uint8 tensors on the training device, and augmentation of whole batches there.

The test set is split off first and touched once, at the end; a validation set, for every choice made on the way, is
held out of what remains.
"""

import difflib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

VALIDATION_FRACTION = 0.1
SPLIT_SEED = 20260101  # one fixed split, so that runs with different seeds see the same data
KNOWN_FILES = {"cifar10-q75": "CIFAR-10 (JPEG-75)"}
"""How tables name a user's file, by the name of the file, where that says more than the name alone."""


class DataError(ValueError):
    """Data that are missing or not what they should be, and what to do."""


@dataclass(frozen=True)
class Images:
    """`pixels` uint8 [N, C, H, W] and `labels` int64 [N]."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Images":
        """A copy on a device."""
        return Images(self.pixels.to(device), self.labels.to(device))

    def first(self, count: int | None) -> "Images":
        """The first `count` images (all if None)."""
        return self if count is None else Images(self.pixels[:count], self.labels[:count])


@dataclass(frozen=True)
class Dataset:
    """Three splits, the number of classes, and the training split's channel statistics in units of 255."""

    name: str
    path: str
    label: str
    train: Images
    validation: Images
    test: Images
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool

    def digest(self) -> str:
        """Of every pixel and label, so that a run can tell that its data changed."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(repr(tuple(split.pixels.shape)).encode())
            digest.update(split.pixels.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
            digest.update(split.labels.numpy().tobytes())
        return digest.hexdigest()

    @property
    def crop_padding(self) -> int:
        """Pixels of padding before a random crop: 4 at 32x32, in proportion elsewhere."""
        return max(1, self.test.pixels.shape[-1] // 8)


def load_dataset(name: str, path: Path | None) -> Dataset:
    """Load, check and split; raises DataError with what is wrong and what to put where."""
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(DATASETS)}"
        raise DataError(f"unknown data set {name!r}, {hint}")
    source = DATASETS[name]
    arrays = source.load(path)
    x_train, y_train, x_test, y_test = arrays
    classes = int(max(y_train.max(), y_test.max())) + 1
    held_out = np.zeros(len(y_train), bool)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(y_train))
    held_out[order[: max(1, int(len(y_train) * VALIDATION_FRACTION))]] = True
    train, validation, test = (_images(x_train[~held_out], y_train[~held_out]),
                               _images(x_train[held_out], y_train[held_out]), _images(x_test, y_test))
    mean, std = _statistics(train.pixels)
    label = KNOWN_FILES.get(path.stem, path.stem) if path is not None and name == "npz" else source.label
    return Dataset(name, str(path or ""), label, train, validation, test, classes, mean, std, source.flip)


def batches(images: Images, size: int) -> Iterator[Images]:
    """Consecutive batches, the last one perhaps smaller."""
    for start in range(0, len(images), size):
        yield Images(images.pixels[start : start + size], images.labels[start : start + size])


def shuffled_batches(images: Images, size: int, *, padding: int, flip: bool, seed: int) -> Iterator[Images]:
    """One epoch in random order, every image cropped and flipped on its own.

    All randomness comes from `seed` and is drawn on the CPU, so an epoch is the same on every device and after a
    resume.  A last batch of one image is left out: batch norm has no variance there.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, len(images), size):
        chosen = order[start : start + size]
        if len(chosen) == 1 and len(images) > 1:
            return
        index = chosen.to(images.labels.device)
        pixels = crop_and_flip(images.pixels[index], padding, flip, generator)
        yield Images(pixels, images.labels[index])


def crop_and_flip(pixels: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """A random crop of each zero-padded image and, with probability 1/2, its mirror image.  [N, C, H, W] both ways."""
    count, _, height, width = pixels.shape
    shift = torch.randint(0, 2 * padding + 1, (2, count), generator=generator).to(pixels.device)
    mirrored = (torch.rand(count, generator=generator) < 0.5).to(pixels.device) & flip
    rows = shift[0, :, None] + torch.arange(height, device=pixels.device)
    columns = shift[1, :, None] + torch.arange(width, device=pixels.device)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    image = torch.arange(count, device=pixels.device)[:, None, None]
    padded = F.pad(pixels, (padding, padding, padding, padding))
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from: x_train, y_train, x_test, y_test as uint8 NHWC and int64."""

    load: Callable[[Path | None], Arrays]
    label: str
    flip: bool


def _digits(path: Path | None) -> Arrays:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    x_train, x_test, y_train, y_test = train_test_split(
        pixels, digits.target.astype(np.int64), test_size=360, stratify=digits.target, random_state=0)
    return x_train, y_train, x_test, y_test


def _torchvision(class_name: str) -> Callable[[Path | None], Arrays]:
    def load(path: Path | None) -> Arrays:
        from training.torchvision_cpu import prepare_torchvision

        prepare_torchvision()
        from torchvision import datasets

        root = path or Path("data")
        dataset = getattr(datasets, class_name)
        try:
            train, test = (dataset(str(root), train=is_train, download=True) for is_train in (True, False))
        except Exception as error:  # the network's many ways to fail, and torchvision's own RuntimeError
            raise DataError(
                f"{class_name} is not in {root} and could not be downloaded ({type(error).__name__}): unpack "
                f"{dataset.filename} there so that {root / dataset.base_folder} exists, or use --dataset npz") from None
        return (train.data, np.asarray(train.targets, np.int64), test.data, np.asarray(test.targets, np.int64))

    return load


def _npz(path: Path | None) -> Arrays:
    if path is None:
        raise DataError("--dataset npz needs --data FILE.npz with x_train, y_train, x_test, y_test")
    if not path.is_file():
        raise DataError(f"{path}: no such file; it should be an .npz with x_train, y_train, x_test, y_test")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in ("x_train", "y_train", "x_test", "y_test") if key not in file]
            if missing:
                raise DataError(f"{path}: array {missing[0]} is missing")
            x_train, y_train, x_test, y_test = (file[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    except DataError:
        raise
    except Exception as error:  # parsers of damaged bytes fail in every way there is
        raise DataError(f"{path}: not a readable .npz of plain arrays ({type(error).__name__})") from None
    for x_name, x, y_name, y in (("x_train", x_train, "y_train", y_train), ("x_test", x_test, "y_test", y_test)):
        _check_arrays(path, x_name, x, y_name, y)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(f"{path}: x_train holds images {x_train.shape[1:]}, x_test {x_test.shape[1:]}")
    unseen = np.setdiff1d(y_test, y_train)
    if unseen.size:
        raise DataError(f"{path}: y_test holds label {unseen[0]}, which no training image has")
    return x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64)


def _check_arrays(path: Path, x_name: str, x: np.ndarray, y_name: str, y: np.ndarray) -> None:
    if x.dtype != np.uint8 or x.ndim != 4 or min(x.shape) < 1:
        raise DataError(f"{path}: {x_name} must be uint8 [N, height, width, channels], not {x.dtype} {x.shape}")
    if y.dtype.kind not in "iu" or y.shape != (len(x),):
        raise DataError(f"{path}: {y_name} must be {len(x)} whole numbers, not {y.dtype} {y.shape}")
    if len(x) < 2:
        raise DataError(f"{path}: {x_name} needs at least 2 images")
    if y.min() < 0 or y.max() > 65535:
        raise DataError(f"{path}: {y_name} holds label {y.min() if y.min() < 0 else y.max()}, allowed are 0 to 65535")


DATASETS: Mapping[str, Source] = MappingProxyType({
    "digits": Source(_digits, "digits", flip=False),
    "cifar10": Source(_torchvision("CIFAR10"), "CIFAR-10", flip=True),
    "cifar100": Source(_torchvision("CIFAR100"), "CIFAR-100", flip=True),
    "npz": Source(_npz, "npz", flip=True),
})


def _images(x: np.ndarray, y: np.ndarray) -> Images:
    pixels = torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2)
    return Images(pixels, torch.from_numpy(np.ascontiguousarray(y, dtype=np.int64)))


def _statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel in units of 255, from exact integer sums."""
    count = pixels[:, 0].numel()
    mean, std = [], []
    for channel in range(pixels.shape[1]):
        histogram = np.bincount(pixels[:, channel].numpy().ravel(), minlength=256)
        total = int((histogram * np.arange(256)).sum())
        squares = int((histogram * np.arange(256) ** 2).sum())
        variance = (squares * count - total**2) / count**2
        mean.append(total / count / 255.0)
        std.append(max(math.sqrt(variance), 1.0) / 255.0)  # a constant channel keeps a usable scale
    return tuple(mean), tuple(std)
