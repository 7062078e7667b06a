"""Training of low-precision networks by distillation (PyTorch)."""

from typing import TYPE_CHECKING

from sim.lazy import lazy

if TYPE_CHECKING:
    from training.api import TrainResult, load, train
    from training.data import Dataset, from_arrays, load_dataset

__all__ = ["Dataset", "TrainResult", "from_arrays", "load", "load_dataset", "train"]

__getattr__, __dir__ = lazy(__name__, {
    "train": "training.api", "load": "training.api", "TrainResult": "training.api", "Dataset": "training.data",
    "load_dataset": "training.data", "from_arrays": "training.data"})
