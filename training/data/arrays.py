"""The rules by which a user's arrays become uint8 images and whole labels; what no rule names is refused.

Pixels, by one rule for all arrays of a set:
    uint8                       as they are
    integers of 0 to 255        as they are, in whatever type
    uint16 beyond 255           0 to 65535 to 0 to 255: x / 257, to the nearest
    floats of 0 to 1            255 x, to the nearest, ties to even
    floats, whole, of 0 to 255  as they are
Images are [N, height, width, channels]; [N, height, width] is one gray channel.
Labels are integers [N]; [N, 1] and bool are taken, too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sim.text import printable
from training.data.dataset import DataError

MAX_LABEL = 65535
CHANNELS = (1, 3, 4)
"""How many channels pictures have: gray, RGB, RGB with something beside."""
_AT_ONCE = 1 << 22  # values converted at a time: floats take eight times the memory of the pixels they become
_HINTS = {"f": "write them as integers: y.astype(int)", "c": "write them as integers: y.real.astype(int)",
          "U": "number them, and name the classes in an array classes",
          "S": "number them, and name the classes in an array classes"}


@dataclass(frozen=True)
class Split:
    """uint8 [N, height, width, channels] and int64 [N]."""

    pixels: np.ndarray
    labels: np.ndarray


def splits_of(where: str, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Splits by the names behind x_ and y_ of `arrays`, "train" among them, and a line for each conversion.

    Raises DataError that begins with `where` and names the array, what it holds and what is allowed.
    """
    names = [name.removeprefix("x_") for name in arrays if name.startswith("x_")]
    images = {f"x_{name}": _channels_last(where, f"x_{name}", arrays[f"x_{name}"]) for name in names}
    pixels, notes = _converted(where, images)
    notes += [line for name in images if (line := _taken_as(name, arrays[name]))]
    splits = {}
    for name in names:
        labels, more = _labels(where, f"y_{name}", arrays[f"y_{name}"], f"x_{name}", len(pixels[f"x_{name}"]))
        splits[name] = Split(pixels[f"x_{name}"], labels)
        notes += more
    check_splits(where, splits)
    return splits, tuple(notes)


def check_splits(where: str, splits: Mapping[str, Split]) -> None:
    """Refuse splits that do not fit together, or from which nothing can be learned."""
    train = splits["train"]
    for name, split in splits.items():
        if not len(split.pixels) == len(split.labels) > 0:
            raise DataError(f"{where}: x_{name} holds {len(split.pixels)} images and y_{name} {len(split.labels)} labels")
    if len(train.labels) < 2:
        raise DataError(f"{where}: x_train needs at least 2 images")
    if train.labels.min() == train.labels.max():
        raise DataError(f"{where}: every training image has the same label, {train.labels[0]}: a network needs two classes")
    for name, split in splits.items():
        if split.pixels.shape[1:] != train.pixels.shape[1:]:
            raise DataError(f"{where}: x_train holds images {train.pixels.shape[1:]}, x_{name} {split.pixels.shape[1:]}")
        unseen = np.setdiff1d(split.labels, train.labels)
        if unseen.size:
            raise DataError(f"{where}: y_{name} holds label {unseen[0]}, which no training image has")


def _channels_last(where: str, name: str, x: np.ndarray) -> np.ndarray:
    if x.ndim not in (3, 4) or x.size == 0 or x.dtype.kind not in "uif":
        raise DataError(f"{where}: {name} must be uint8 [N, height, width, channels] or [N, height, width], not "
                        f"{printable(x.dtype)} {x.shape}")
    if x.ndim == 4 and x.shape[1] in CHANNELS and x.shape[3] > max(CHANNELS):
        raise DataError(f"{where}: {name} {x.shape} has its channels first: x.transpose(0, 2, 3, 1) puts them last")
    return x if x.ndim == 4 else x[..., None]


def _taken_as(name: str, x: np.ndarray) -> str:
    """A line where the shape alone does not tell what its axes are; empty where it does."""
    if x.ndim == 3:
        return f"{name}: images without channels, [N, height, width], taken as one gray channel"
    height, width, channels = x.shape[1:]
    if channels > max(CHANNELS) or height in CHANNELS:
        what = f"{channels} channel" + "s" * (channels > 1)
        return f"{name}: {x.shape} taken as images {height}x{width} of {what}, which are last"
    return ""


def _converted(where: str, images: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """All images by the one rule that fits all of them, and a line that says which."""
    types = {name: array.dtype.newbyteorder("=") for name, array in images.items()}
    kind = types["x_train"]
    for name, other in types.items():
        if other != kind:
            raise DataError(f"{where}: x_train is {kind} and {name} {other}: pixels need one type and one meaning")
    if kind == np.uint8:
        return dict(images), []
    low, high = _range(images)
    rule, words = _rule(where, kind, low, high, lambda: all(_whole(array) for array in images.values()))
    return ({name: _by_parts(array, rule) for name, array in images.items()},
            [f"pixels: {kind} of {low:g} to {high:g}, {words}"])


def _rule(where: str, kind: np.dtype, low: float, high: float, whole: Callable[[], bool],
          ) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    if kind.kind == "f" and low >= 0 and high <= 1:
        return _from_unit, "taken as 0 to 1: 255 x, rounded"
    if low >= 0 and high <= 255 and whole():
        return _as_they_are, "taken as they are"
    if kind == np.uint16:
        return from_16_bits, "taken as 16 bits: x / 257, rounded"
    wanted = "0 to 1, or whole numbers of 0 to 255" if kind.kind == "f" else "0 to 255, or uint16"
    what = "values that are not finite" if not np.isfinite(low + high) else f"{low:g} to {high:g}"
    fraction = ", not all whole" if low >= 0 and high <= 255 else ""
    raise DataError(f"{where}: pixels are {kind} of {what}{fraction}; taken are {wanted}")


def _from_unit(x: np.ndarray) -> np.ndarray:
    return np.rint(x.astype(np.float64) * 255.0).astype(np.uint8)


def _as_they_are(x: np.ndarray) -> np.ndarray:
    return x.astype(np.uint8)


def from_16_bits(x: np.ndarray) -> np.ndarray:
    """uint8 of uint16: x / 257 to the nearest.

    65535 = 255 * 257, and a half never occurs because 257 is odd.

    >>> from_16_bits(np.array([0, 128, 129, 65535], np.uint16)).tolist()
    [0, 0, 1, 255]
    """
    return ((x.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _parts(array: np.ndarray) -> Iterator[slice]:
    step = max(1, _AT_ONCE // max(1, array[0].size))
    return (slice(start, start + step) for start in range(0, len(array), step))


def _by_parts(array: np.ndarray, rule: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    result = np.empty(array.shape, np.uint8)
    for part in _parts(array):
        result[part] = rule(array[part])
    return result


def _range(images: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Least and largest value, NaN if there is one."""
    return (float(np.min([array.min() for array in images.values()])),
            float(np.max([array.max() for array in images.values()])))


def _whole(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or all(bool((array[part] == np.rint(array[part])).all()) for part in _parts(array))


def _labels(where: str, name: str, y: np.ndarray, x_name: str, count: int) -> tuple[np.ndarray, list[str]]:
    """int64 [count], and a line for each conversion."""
    notes = []
    if y.shape == (count, 1):
        y = y[:, 0]
        notes.append(f"{name}: labels [N, 1] taken as [N]")
    if y.dtype == bool:
        y = y.astype(np.int64)
        notes.append(f"{name}: False and True taken as classes 0 and 1")
    if y.dtype.kind not in "iu" or y.shape != (count,):
        hint = _HINTS.get(y.dtype.kind, "")
        if y.ndim == 2 and len(y) == count:
            hint = "of one column per class take y.argmax(1)"
        raise DataError(f"{where}: {name} must be {count} whole numbers, one per image of {x_name}, not "
                        f"{printable(y.dtype)} {y.shape}" + (f"; {hint}" if hint else ""))
    if y.min() < 0 or y.max() > MAX_LABEL:
        raise DataError(f"{where}: {name} holds label {y.min() if y.min() < 0 else y.max()}, allowed are 0 to {MAX_LABEL}")
    return y.astype(np.int64), notes
