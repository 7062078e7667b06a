"""A user's arrays in one .npz file: x_train, y_train, x_test, y_test, and if there are any x_val, y_val and classes."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sim.text import printable
from training.data.arrays import splits_of
from training.data.dataset import DataError
from training.data.sources.archive import read_arrays
from training.data.sources.source import Content, Size, Source

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
VALIDATION = ("x_val", "y_val")
CLASSES = "classes"
KNOWN = (*REQUIRED, *VALIDATION, CLASSES)
_DOUBTFUL_WORDS = frozenset(("x", "y", "val", "valid", "validation", "dev", "eval"))


def load(path: Path | None, size: Size | None) -> Content:
    """Read, check and convert; arrays that nobody asked for are named, or refused if they look like a slip of the pen."""
    assert path is not None
    where = printable(path)
    arrays, others = read_arrays(path, KNOWN, (CLASSES,))
    notes = _check_names(where, arrays, others)
    labels = arrays.pop(CLASSES, None)
    names, more = ((), []) if labels is None else class_names(labels)
    splits, conversions = splits_of(where, arrays)
    if "val" in splits:
        more.append(f"validation: the {len(splits['val'].labels)} images of x_val")
    return Content(splits["train"], splits["test"], splits.get("val"), names, (*notes, *more, *conversions))


def _check_names(where: str, found: Iterable[str], others: Iterable[str]) -> list[str]:
    """A note about arrays without a meaning here; raises DataError for missing and for doubtful ones."""
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        near = difflib.get_close_matches(missing[0], others, 1)
        hint = f", there is {printable(near[0])}" if near else ""
        raise DataError(f"{where}: array {missing[0]} is missing{hint}")
    half = [name for name in VALIDATION if name in found]
    if len(half) == 1:
        other = VALIDATION[1 - VALIDATION.index(half[0])]
        raise DataError(f"{where}: {half[0]} is there and {other} is not: a validation split needs both")
    for name in others:
        if _is_doubtful(name):
            near = difflib.get_close_matches(name.lower(), KNOWN, 1, 0.5)
            hint = f", did you mean {near[0]}?" if near else ""
            raise DataError(f"{where}: array {printable(name)} would not be used{hint} (known are {', '.join(KNOWN)})")
    return [f"not used: array {printable(name)}" for name in others]


def _is_doubtful(name: str) -> bool:
    """Whether its writer may believe that it is trained or tested on."""
    words = re.split(r"[^a-z]+", name.lower())
    return bool(_DOUBTFUL_WORDS.intersection(words)) or bool(difflib.get_close_matches(name.lower(), KNOWN, 1, 0.75))


def class_names(array: np.ndarray) -> tuple[tuple[str, ...], list[str]]:
    """Names out of an array of text, UTF-8 bytes or whole numbers [classes]; none and a note if it is something else.

    They only adorn tables, so that nothing stops for want of them.
    """
    if array.ndim == 1 and array.size <= 65536 and array.dtype.kind in "USiu":
        try:
            values = [value.decode() if isinstance(value, bytes) else str(value) for value in array.tolist()]
        except UnicodeDecodeError:
            values = []
        if values and len(set(values)) == len(values):
            return tuple(values), []
    return (), [f"not used: classes, which is no list of different names but {printable(array.dtype)} {array.shape}"]


NPZ = Source(load, "npz", "none", reads="file",
             needs="--data FILE.npz with x_train, y_train, x_test, y_test")
