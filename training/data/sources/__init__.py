"""Every data set that can be named: a row each.  A new kind of source is a file here and its row."""

from collections.abc import Mapping
from types import MappingProxyType

from training.data.sources.digits import DIGITS
from training.data.sources.folder import FOLDER
from training.data.sources.npz import NPZ
from training.data.sources.published import CIFAR10, CIFAR100, FASHION_MNIST, MNIST, SVHN
from training.data.sources.source import Content, Source
from training.data.sources.squad import SQUAD

DATASETS: Mapping[str, Source] = MappingProxyType({
    "digits": DIGITS,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "svhn": SVHN,
    "npz": NPZ,
    "folder": FOLDER,
    "squad": SQUAD,
})

__all__ = ["DATASETS", "Content", "Source"]
