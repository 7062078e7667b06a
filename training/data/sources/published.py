"""The published data sets that torchvision reads: its file layout, its downloads, its checksums.

What torchvision checks stays checked: CIFAR's files are pickles, which may be loaded only because their checksums are
those of the published ones.
"""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.text import printable
from training.data.arrays import Split, check_splits
from training.data.dataset import DataError
from training.data.sources.source import Content, Size, Source

DEFAULT_ROOT = Path("data")


@dataclass(frozen=True)
class Published:
    """How one of torchvision's classes is asked, and where it wants its files.

    `splits` are the arguments that ask for the training and for the test split, `labels` the attribute of the labels;
    `files` lists (path below the root, MD5 or "" if torchvision compares none) of a class, `unpack` says what to get.
    """

    class_name: str
    splits: tuple[dict[str, Any], dict[str, Any]]
    labels: str
    channels_first: bool
    files: Callable[[Any], list[tuple[str, str]]]
    unpack: Callable[[Any], str]

    def load(self, path: Path | None, size: Size | None) -> Content:
        """Read, after a download if the files are not there; DataError says which of them is missing or another."""
        from training.torchvision_cpu import prepare_torchvision

        prepare_torchvision()
        from torchvision import datasets

        dataset, root = getattr(datasets, self.class_name), path or DEFAULT_ROOT
        there = _existing_folders(root, self.files(dataset))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy's about the age of CIFAR's pickles
                train, test = (dataset(str(root), **split, download=True) for split in self.splits)
            content = Content(self._split(train), self._split(test), class_names=tuple(getattr(train, "classes", ())))
        except Exception as error:  # the network's many ways to fail, torchvision's own RuntimeError, damaged files
            _remove_empty(there)
            raise DataError(self._complaint(dataset, root, error)) from None
        check_splits(printable(root), {"train": content.train, "test": content.test})
        return content

    def _split(self, dataset: Any) -> Split:
        pixels = np.asarray(dataset.data)
        if self.channels_first:
            pixels = pixels.transpose(0, 2, 3, 1)
        return Split(pixels if pixels.ndim == 4 else pixels[..., None], np.asarray(getattr(dataset, self.labels), np.int64))

    def _complaint(self, dataset: Any, root: Path, error: Exception) -> str:
        where, name = printable(root), self.class_name
        missing = [file for file, _ in self.files(dataset) if not (root / file).is_file()]
        for file, md5 in self.files(dataset):
            if md5 and (root / file).is_file() and (found := _md5(root / file)) != md5:
                return (f"{printable(root / file)} is not the published file: its MD5 is {found}, not {md5}; move it away "
                        "and get it again, or use --dataset npz for data of your own")
        if not missing:
            return f"{name} in {where} is damaged ({type(error).__name__}): get it again"
        return (f"{name} is not in {where} and could not be downloaded ({type(error).__name__}): {self.unpack(dataset)} "
                f"so that {printable(root / missing[0])} exists, or use --dataset npz or folder")


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _existing_folders(root: Path, files: list[tuple[str, str]]) -> list[Path]:
    """Folders that a download would make and that are not there yet, the innermost first."""
    folders = {folder for file, _ in files for folder in (root / file).parents if not folder.exists()}
    return sorted(folders, key=lambda folder: len(folder.parts), reverse=True)


def _remove_empty(folders: list[Path]) -> None:
    """A download that failed leaves no empty folders."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _cifar_files(dataset: Any) -> list[tuple[str, str]]:
    listed = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
    return [(f"{dataset.base_folder}/{name}", md5) for name, md5 in listed]


def _mnist_files(dataset: Any) -> list[tuple[str, str]]:
    return [(f"{dataset.__name__}/raw/{name.removesuffix('.gz')}", "") for name, _ in dataset.resources]


def _svhn_files(dataset: Any) -> list[tuple[str, str]]:
    return [tuple(dataset.split_list[split][1:]) for split in ("train", "test")]


_FLAG = ({"train": True}, {"train": False})
_NAME = ({"split": "train"}, {"split": "test"})


def _cifar(class_name: str, label: str) -> Source:
    row = Published(class_name, _FLAG, "targets", False, _cifar_files, lambda dataset: f"unpack {dataset.filename} there")
    return Source(row.load, label, "crop-flip", reads="folder")


def _mnist(class_name: str, label: str, augment: str) -> Source:
    row = Published(class_name, _FLAG, "targets", False, _mnist_files,
                    lambda dataset: f"put {dataset.resources[0][0]} and its three companions into {class_name}/raw there")
    return Source(row.load, label, augment, reads="folder")


CIFAR10, CIFAR100 = _cifar("CIFAR10", "CIFAR-10"), _cifar("CIFAR100", "CIFAR-100")
MNIST = _mnist("MNIST", "MNIST", "crop")
FASHION_MNIST = _mnist("FashionMNIST", "Fashion-MNIST", "crop-flip")
_SVHN = Published("SVHN", _NAME, "labels", True, _svhn_files, lambda _: "put train_32x32.mat and test_32x32.mat there")
SVHN = Source(_SVHN.load, "SVHN", "crop", reads="folder")
