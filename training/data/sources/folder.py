"""A user's image files in folders named after their classes: `tree.py` finds them, `pictures.py` reads them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.text import printable
from training.data.arrays import Split, check_splits
from training.data.dataset import DataError
from training.data.sources.archive import check_memory
from training.data.sources.pictures import formats, read_picture, size_of, strict, suffixes
from training.data.sources.source import Content, Size, Source
from training.data.sources.tree import find_images
from training.data.splits import TEST_FRACTION, VALIDATION_FRACTION, shuffled, stratified

_SIZES_SHOWN = 4


@dataclass(frozen=True)
class Part:
    """Files below the root and their labels, in the order of a split."""

    files: list[str]
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> "Part":
        """Some of them, in that order."""
        return Part([self.files[index] for index in indices], self.labels[indices])


def load(path: Path | None, size: Size | None) -> Content:
    """Find, split and read; classes are the folders that hold images, in the order of their names."""
    assert path is not None
    tree = find_images(path, suffixes())
    names = list(tree.splits.get("train", tree.splits.get("", {})))
    found = {split: _part(classes, names) for split, classes in tree.splits.items()}
    parts, notes = _splits(printable(path), found, names)
    pixels, conversions = _read(path, parts, size)
    splits = {name: Split(pixels[name], part.labels) for name, part in parts.items()}
    check_splits(printable(path), splits)
    return Content(splits["train"], splits["test"], splits["val"], tuple(names), (*tree.notes(), *notes, *conversions),
                   tuple(parts["test"].files))


def _part(classes: dict[str, list[str]], names: list[str]) -> Part:
    labels = [label for label, name in enumerate(names) for _ in classes.get(name, [])]
    return Part([file for name in names for file in classes.get(name, [])], np.array(labels, np.int64))


def _splits(where: str, found: dict[str, Part], names: list[str]) -> tuple[dict[str, Part], list[str]]:
    """Training, validation and test files out of what is given; what is missing is drawn, the same share of each class."""
    notes = []
    everything = found.get("train", found.get("", Part([], np.zeros(0, np.int64))))
    test, validation = found.get("test"), found.get("val")
    if test is None and validation is not None:
        test, validation = validation, None
        notes.append("test: the images of val, because there is no test folder")
    fractions = [fraction for part, fraction in ((test, TEST_FRACTION), (validation, VALIDATION_FRACTION)) if part is None]
    drawn = [everything.take(indices) for indices in stratified(everything.labels, names, fractions)]
    if test is None:
        test = drawn.pop(0)
        notes.append(f"test: {len(test.files)} of {len(everything.files)} images, the same share of each class")
    if validation is None:
        validation = drawn.pop(0)
        notes.append(f"validation: {len(validation.files)} of {len(everything.files)} images, the same share of each class")
    parts = {"train": drawn[0], "val": validation, "test": test}
    for name, part in parts.items():
        if not part.files:
            raise DataError(f"{where}: no image is left for {name}: 3 images of a class give one to each of training, "
                            "validation and test")
    return {name: part.take(shuffled(np.arange(len(part.files)))) for name, part in parts.items()}, notes


def _read(root: Path, parts: dict[str, Part], size: Size | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """uint8 [N, H, W, C] of every part: one channel if all images are gray, else three."""
    readable, done = formats(), Counter[str]()
    images: dict[str, list[np.ndarray]] = {name: [] for name in parts}
    total = sum(len(part.files) for part in parts.values())
    shape = size
    with strict():
        for name, part in parts.items():
            for file in part.files:
                image, facts = read_picture(root / file, size, readable)
                if shape != image.shape[:2]:
                    if shape is not None:
                        raise DataError(_mixed(root, parts, readable))
                    shape = image.shape[:2]
                if not any(images.values()):
                    check_memory(printable(root), total * image.size)
                images[name].append(image)
                done.update(facts)
    gray = sum(image.ndim == 2 for part in images.values() for image in part)
    is_gray = gray == total
    if gray and not is_gray:
        done["gray, repeated to three channels beside those in color"] = gray
    stacked = {name: np.stack([_channels(image, is_gray) for image in part]) for name, part in images.items()}
    return stacked, [f"{count} of {total} images: {what}" for what, count in sorted(done.items())]


def _channels(image: np.ndarray, is_gray: bool) -> np.ndarray:
    if image.ndim == 3:
        return image
    return image[..., None] if is_gray else np.repeat(image[..., None], 3, axis=2)


def _mixed(root: Path, parts: dict[str, Part], readable: list[str]) -> str:
    """The sizes that there are, the most frequent first."""
    sizes = Counter(size_of(root / file, readable) for part in parts.values() for file in part.files)
    common = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} of {height}x{width}" for (height, width), count in common[:_SIZES_SHOWN]]
    more = f", {len(common) - len(shown)} more sizes" if len(common) > len(shown) else ""
    return (f"{printable(root)}: images of {len(common)} sizes ({', '.join(shown)}{more}; height x width): "
            f"add --size {common[0][0][0]}x{common[0][0][1]} to resize them all")


FOLDER = Source(load, "folder", "none", reads="folder",
                needs="--data DIR with a folder of images for each class, DIR/CLASS/IMAGE.png", resizes=True)
