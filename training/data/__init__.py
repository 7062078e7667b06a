"""Data sets as tensors on the training device: what one is (dataset.py; texts.py for texts), which images are held out
(splits.py), augmentation of whole batches (augmentation.py), the rules by which a user's arrays are taken (arrays.py), and
where they come from (sources/: one file per kind of source, one row per data set).  DATA.md says it in words.
"""

import difflib
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sim.text import printable
from training.data.arrays import splits_of
from training.data.augmentation import (
    AUGMENTATIONS,
    NO_CHANGE,
    check_augment,
    crop_and_flip,
    crop_padding,
    describe_augment,
    shuffled_batches,
)
from training.data.dataset import DataError, Dataset, Images, batches
from training.data.sources import DATASETS, Content, Source
from training.data.sources.npz import class_names
from training.data.sources.source import Size
from training.data.splits import SPLIT_SEED, VALIDATION_FRACTION
from training.data.texts import Texts

KNOWN_FILES = {"cifar10-q75": "CIFAR-10 (JPEG-75)"}
"""How tables name a user's file, by the name of the file, where that says more than the name alone."""
MAX_SIZE = 4096
IN_MEMORY = "arrays"
"""The name of data sets that came from Python."""

__all__ = [
    "AUGMENTATIONS", "DATASETS", "KNOWN_FILES", "SPLIT_SEED", "VALIDATION_FRACTION", "DataError", "Dataset", "Images",
    "Source", "Texts", "augment_of", "batches", "check_augment", "crop_and_flip", "crop_padding", "describe_augment",
    "from_arrays", "load_dataset", "shuffled_batches",
]


def load_dataset(name: str, path: str | PathLike[str] | None = None, *, size: str = "") -> Dataset:
    """Load, check and split a data set of the table; raises DataError with what is wrong and what to put where.

    `path` is the file or folder that the data set reads (None or "" for none); `size`, "32" or "32x48" (height x
    width), resizes the images of a folder, and "192" cuts texts into windows of so many tokens.

    >>> load_dataset("digits").train.pixels.shape
    torch.Size([1294, 1, 8, 8])
    """
    source = _source(name)
    place = Path(path) if path else None
    _check_path(name, source, place)
    wanted = _size(name, source, size)
    content = source.load(place, wanted)
    label = source.label
    if source.needs and place is not None:
        file = place.resolve() if place.name in ("", "..") else place
        label = printable(KNOWN_FILES.get(file.stem, file.stem) if source.reads == "file" else file.name or str(file))
    return content.dataset(name, str(place or ""), label, source.augment, wanted).mark_loaded()


def from_arrays(x_train: Any, y_train: Any, x_test: Any, y_test: Any, x_val: Any = None, y_val: Any = None,
                name: str = IN_MEMORY, *, classes: Sequence[str] = ()) -> Dataset:
    """A data set out of arrays, by the rules of .npz files: `name` is its label, `classes` names its classes.

    x: [N, height, width, channels] or [N, height, width], uint8, or as `training/data/arrays.py` says; y: whole numbers
    [N].  Everything is copied.  Without x_val and y_val a tenth of the training images is held out.  Raises DataError.

    >>> import numpy as np
    >>> data = from_arrays(np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2, np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1])
    >>> len(data.train), len(data.validation), data.test.pixels.shape, data.classes, data.augment
    (18, 2, torch.Size([4, 1, 8, 8]), 2, 'none')
    """
    if (x_val is None) != (y_val is None):
        raise DataError(f"{printable(name)}: x_val and y_val belong together, one of them is missing")
    given = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    if x_val is not None:
        given |= {"x_val": x_val, "y_val": y_val}
    where = printable(name)
    splits, notes = splits_of(where, {key: _array(where, key, value) for key, value in given.items()})
    names, more = class_names(np.array(list(classes), dtype=str)) if len(classes) else ((), [])
    content = Content(splits["train"], splits["test"], splits.get("val"), names, (*more, *notes))
    return content.dataset(IN_MEMORY, "", where, "none", None)


def augment_of(name: str, augment: str | None) -> str:
    """The augmentation of a run on that data set: what was asked for, else its default.

    Raises DataError for unknown names, and for texts that would be augmented.
    """
    if not augment:
        return _source(name).augment
    if check_augment(augment) != NO_CHANGE and name in DATASETS and DATASETS[name].is_text:
        raise DataError(f"augment: {augment} changes images, data set {name} is of texts: choose {NO_CHANGE}")
    return augment


def _source(name: str) -> Source:
    if name in DATASETS:
        return DATASETS[name]
    if name == IN_MEMORY:
        raise DataError("this data set was made of arrays in Python: write them to a file with numpy.savez (x_train, "
                        "y_train, x_test, y_test) and name it by --dataset npz --data FILE.npz")
    near = difflib.get_close_matches(str(name), DATASETS, 1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(DATASETS)}"
    raise DataError(f"unknown data set {printable(repr(name))}, {hint}")


def _check_path(name: str, source: Source, path: Path | None) -> None:
    if path is None:
        if source.needs:
            raise DataError(f"--dataset {name} needs {source.needs}")
        return
    where, is_folder = printable(path), path.is_dir()
    other = "folder" if is_folder else "npz"
    if not source.reads:
        raise DataError(f"data set {name} takes no --data ({where}), did you mean --dataset {other}?")
    if not path.exists() and source.needs:
        raise DataError(f"{where}: no such {source.reads}; --dataset {name} needs {source.needs}")
    if path.exists() and is_folder != (source.reads == "folder"):
        raise DataError(f"{where} is {'a folder' if is_folder else 'a file'} and data set {name} reads a {source.reads}, "
                        f"did you mean --dataset {other}?")
    if path.exists() and not is_folder and not path.is_file():
        raise DataError(f"{where}: a pipe or a device cannot be read more than once, write it to a file")


def _size(name: str, source: Source, text: str) -> Size | None:
    if not text:
        return None
    if not source.resizes:
        raise DataError(f"data set {name} takes no --size: its images are used as they are")
    match = re.fullmatch(r"([0-9]{1,9})(?:[xX]([0-9]{1,9}))?", str(text))
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= min(height, width) <= max(height, width) <= MAX_SIZE:
        raise DataError(f"size: {printable(repr(text))} is not allowed, choose 32, or 32x48 for height x width, "
                        f"1 to {MAX_SIZE}")
    return height, width


def _array(where: str, name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value).copy()
    except Exception as error:  # whatever somebody's object does when it is asked for its values
        raise DataError(f"{where}: {name} is no array ({type(error).__name__})") from None
