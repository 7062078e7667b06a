"""Training of low-precision networks by distillation (PyTorch)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.api import TrainResult, load, train
    from training.data import Dataset, from_arrays, load_dataset

__all__ = ["Dataset", "TrainResult", "from_arrays", "load", "load_dataset", "train"]

_HOMES = {"train": "training.api", "load": "training.api", "TrainResult": "training.api", "Dataset": "training.data",
          "load_dataset": "training.data", "from_arrays": "training.data"}


def __getattr__(name: str) -> Any:
    """The Python face, loaded when it is asked for: torch is heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'training' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
