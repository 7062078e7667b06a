"""Finds the image files of a folder: which split and class each belongs to, in an order that no file system decides.

    DIR/CLASS/...                                     splits are drawn
    DIR/train/CLASS/..., DIR/test/..., DIR/val/...    splits are given; without test, val is the test set
"""

import difflib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from sim.text import printable
from training.data.dataset import DataError

SPLIT_NAMES: Mapping[str, str] = MappingProxyType(
    {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"})


@dataclass
class Tree:
    """Files by class, by split ("" if splits are not given), as text below `root`; and what was passed over, counted."""

    root: Path
    suffixes: frozenset[str]
    splits: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        """A line for each kind of thing that was passed over."""
        return [f"passed over: {count} {what}" for what, count in sorted(self.skipped.items())]


def find_images(root: Path, suffixes: frozenset[str]) -> Tree:
    """Everything below `root` with one of the suffixes.  Raises DataError if there is nothing to learn from."""
    tree = Tree(root, suffixes)
    try:
        top = _folders(tree, "")
        if _has_splits(tree, top):
            _given_splits(tree, top)
        else:
            tree.splits[""] = _classes(tree, "", top)
    except OSError as error:
        raise DataError(f"{printable(error.filename or root)}: {error.strerror or error}") from None
    for split, classes in tree.splits.items():
        if not classes:
            where = printable(root / split)
            raise DataError(f"{where}: holds no images in folders of classes, {where}/CLASS/IMAGE.png"
                            + "".join(f"; {note}" for note in tree.notes()))
    return tree


def _has_splits(tree: Tree, top: list[str]) -> bool:
    """Whether the folders are splits and not classes, of which one may be called train."""
    named = [name for name in top if name.lower() in SPLIT_NAMES]
    deep = [name for name in named if _folders(tree, name, count=False)]
    if any(name.lower() == "train" for name in deep):
        return True
    if deep or (named == top and any(name.lower() == "train" for name in named)):
        raise DataError(f"{printable(tree.root)}: {' and '.join(map(printable, named))} look like splits, but there is no "
                        "train folder with folders of classes inside, train/CLASS/IMAGE.png")
    return False


def _given_splits(tree: Tree, top: list[str]) -> None:
    for name in top:
        split = SPLIT_NAMES.get(name.lower())
        if split is None:
            near = difflib.get_close_matches(name.lower(), SPLIT_NAMES, 1, 0.75)
            if near:
                raise DataError(f"{printable(tree.root / name)} beside train would not be used, did you mean {near[0]}?")
            tree.skipped[f"folder beside train: {printable(name)}"] += 1
        elif split in tree.splits:
            raise DataError(f"{printable(tree.root)}: two folders are its {split} split, {printable(name)} is the second")
        else:
            tree.splits[split] = _classes(tree, name, _folders(tree, name))
    classes = tree.splits["train"]
    for split, found in tree.splits.items():
        for name in found.keys() - classes.keys():
            raise DataError(f"{printable(tree.root)}: class {printable(name)} of {split} has no image in train")


def _classes(tree: Tree, below: str, names: list[str]) -> dict[str, list[str]]:
    """Files of each class folder that has any, classes and files in the order of their names."""
    found = {}
    above = {os.path.realpath(folder) for folder in (tree.root, tree.root / below)}
    for name in names:
        place = os.path.join(below, name)
        real = os.path.realpath(tree.root / place)
        if any(folder == real or folder.startswith(real.rstrip(os.sep) + os.sep) for folder in above):
            tree.skipped["link that leads back to where it stands"] += 1
        elif files := _files(tree, place):
            found[name] = files
        else:
            tree.skipped[f"folder without images: {printable(place)}"] += 1
    return found


def _entries(tree: Tree, below: str, count: bool = True) -> list[os.DirEntry[str]]:
    with os.scandir(tree.root / below) as entries:
        visible = []
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.name.startswith("."):
                visible.append(entry)
            elif count:
                tree.skipped["hidden file or folder"] += 1
        return visible


def _folders(tree: Tree, below: str, count: bool = True) -> list[str]:
    """Names of the folders right there; files beside them are counted."""
    names = []
    for entry in _entries(tree, below, count):
        if os.path.isdir(entry.path):  # of a loop of links entry.is_dir() raises
            names.append(entry.name)
        elif count:
            tree.skipped["file beside the folders of classes"] += 1
    return names


def _files(tree: Tree, below: str) -> list[str]:
    """Files with a known suffix, at any depth; links to folders are not followed, they may lead anywhere."""
    files: list[str] = []
    for entry in _entries(tree, below):
        place = os.path.join(below, entry.name)
        if os.path.isdir(entry.path):
            if entry.is_symlink():
                tree.skipped["link to a folder inside a class"] += 1
            else:
                files += _files(tree, place)
        elif not os.path.isfile(entry.path):
            tree.skipped["broken link or no ordinary file"] += 1
        elif os.path.splitext(entry.name)[1].lower() in tree.suffixes:
            files.append(place)
        else:
            tree.skipped[f"file that is no image ({printable(os.path.splitext(entry.name)[1]) or 'no suffix'})"] += 1
    return files
